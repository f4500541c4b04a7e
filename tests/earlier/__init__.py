"""Runs that version 0.1.0 left before its modules moved into rooms: they load, and the unfinished ones go on.

Commit f1f58a2 made them, with this folder copied into it, by these commands in the root of the repository, where
``GIFT`` is ``python -m gift_lightning fit --config tests/earlier/gift.yaml --run.root DIR``, ``ICARL`` the same with
``icarl.yaml``, ``KILL`` is ``--trainer.callbacks+=tests.e2e.kill.KillAt --trainer.callbacks.event=step
--trainer.callbacks.number=9``, and ``SMALL`` is ``--model.clip.name package:tests.earlier.clip --model.lr 1e-2
--model.warmup_steps 2 --data.replay null``::

    GIFT
    GIFT --run.name unfinished KILL --config conf/logger/wandb.yaml
    GIFT --run.name condu --model gift_lightning.methods.ConDU SMALL
    GIFT --run.name zeroshot --model gift_lightning.methods.ZeroShot SMALL
    GIFT --run.name moeadapter --model gift_lightning.methods.MoEAdapter SMALL --model.experts 3 --model.width 2 \\
        --model.frozen_experts 1 --model.selector_steps 2 --model.code 2
    ICARL
    ICARL --run.name unfinished_icarl KILL

Commit dabe759, the last one with a tensor for each expert and router, made ``unfinished_moeadapter``: the command of
``moeadapter`` with ``KILL``. Commit b8da607, the last one with all routers in the optimiser, made
``unfinished_moeadapter_stacks`` with the model of ``moeadapter``'s config and ``KILL``.

The folder of the second is ``unfinished_gift`` here. ``runs/predictions.safetensors`` has what they predicted then, as
``tests/e2e/test_earlier_runs.py`` asks for it.
"""
