"""How a command ends: the exit status, and one sentence on standard error unless all is well."""

import os
import re
import signal
from collections.abc import Callable

import torch

from datamodules.signals import Stopped
from gift_lightning.config.parsing import late_refusal
from gift_lightning.config.sentences import find_input_error
from gift_lightning.console import print_styled
from gift_lightning.runs.watch import OtherRankError


def status_of(command: Callable[[], object], debug: bool) -> int:
    """Run a command and turn bad input into one sentence on stderr; returns the exit status.

    0 after success, 2 after bad input or the end of another rank, 130 after Ctrl-C, 143 after SIGTERM, 128 and the
    number of the signal (SIGUSR1: 138) after that with which SLURM requeues. ``debug`` raises what lies behind the
    sentence.
    """
    try:
        command()
    except Stopped as stopped:
        if _rank() == 0:
            _tell(stopped.sentence)
        return 128 + stopped.number
    except OtherRankError as error:
        if debug:
            raise
        if not error.is_reported:
            _tell(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _tell("stopped.")
        return 128 + signal.SIGINT
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning's own word on it is silenced
            _tell("stopped: go on with --ckpt_path last.")
            return 128 + signal.SIGINT
        return end.code if isinstance(end.code, int) else 0
    except Exception as error:
        refusal = find_input_error(error) or late_refusal(error)
        if refusal is None or debug:
            raise
        _tell(f"error: {refusal}")
        return 2
    return 0


def _tell(sentence: str) -> None:
    """Print one sentence on stderr: on the first rank, and once ranks work together, on any that has something to tell.

    What a rank meets alone, a broken image in its share for instance, the first one never hears of.
    """
    rank = _rank()
    if rank == 0 or torch.distributed.is_initialized():
        sentence = re.sub(r"\S{400,}", lambda word: f"{word[0][:60]} ...", sentence)
        sentence = sentence if len(sentence) <= 800 else f"{sentence[:760]} ..."
        print_styled(sentence if rank == 0 else f"rank {rank}: {sentence}", "red")


def _rank() -> int:
    """The number of this process among those of the run, by what its launcher says."""
    ranks = [os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ]
    return int(ranks[0]) if ranks and ranks[0].isdecimal() else 0
