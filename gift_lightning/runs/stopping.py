"""The end of a run that is stopped: by a signal, or because one of its ranks has ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from lightning import Trainer

from datamodules.signals import Signals, Stopped
from gift_lightning.errors import advice
from gift_lightning.runs.watch import Watch


@contextmanager
def stoppable(trainer: Trainer, goes_on: bool = True) -> Iterator[None]:
    """Within it, signals stop a run where nothing is lost, and the end of one rank is the end of all.

    Lightning's handlers of signals are not used, nor the question at each of its steps whether another rank has one,
    whose answer it would wait for on the device.

    Args:
        trainer: of the run, before it is used.
        goes_on: whether the run goes on where it stopped, when it is called again.

    Raises:
        Stopped: after a signal. If it is SLURM's to requeue, the job is in the queue again.
        OtherRankError: another rank has failed or ended.
    """
    internal, strategy = cast(Any, trainer), cast(Any, trainer.strategy)
    signals = internal._signal_connector = Signals(trainer)
    internal.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
    watch, set_up = Watch(trainer, signals), strategy.setup_environment

    def set_up_and_watch() -> None:
        set_up()
        watch.start()
        if processes := getattr(strategy.launcher, "procs", None):
            processes.clear()  # Lightning's own watch kills this process as soon as one of them has ended

    strategy.setup_environment = set_up_and_watch
    try:
        if trainer.world_size == 1:  # ranks that wait for each other at the start hear no signal: it ends them
            signals.register_signal_handlers()
        yield
    except BaseException as raised:
        signals.error = signals.error or raised
        # after a signal, an error of the teardown does not count
        error = signals.error if isinstance(signals.error, Stopped) else raised
        reason = watch.reason_of(error)
        if isinstance(reason, Stopped):
            reason.sentence = _sentence(reason, signals, trainer.is_global_zero, goes_on)
        watch.end(after_first=isinstance(reason, Stopped))
        if reason is raised:
            raise
        raise reason from raised
    else:
        watch.end()
    finally:
        signals.restore()
        del strategy.setup_environment


def _sentence(stopped: Stopped, signals: Signals, is_first: bool, goes_on: bool) -> str:
    """How the run goes on; after SLURM's signal for it, the job is queued again."""
    word = stopped.sentence.rstrip(".")
    again = f": {advice('go on with --ckpt_path last', 'call fit again to go on')}." if goes_on else "."
    if stopped.number != signals.requeue:
        return word + again
    fault = signals.queue_again() if is_first else ""
    return f"{word}: SLURM cannot queue the job again ({fault}){again}" if fault else f"{word}: SLURM queues it again."
