"""The commands with their descriptions, and the help that lists them; needs none of the large libraries."""

import argparse

PROGRAM = "python -m gift_lightning"
"""As a user types it."""

COMMANDS = {
    "fit": "Run a method through a sequence of tasks and record the accuracy matrix.",
    "test": "Evaluate a run's checkpoint (--ckpt_path FILE) or weights (--weights FILE) on all tasks of a sequence.",
    "generate": "Make the replay images of a sequence ahead of time, with the same config and flags as fit.",
    "doctor": "List the data sets, weights and disk space that a fit with the same config and flags lacks.",
    "report": "Show runs side by side: a table, one page with charts, or pictures.",
    "sweep": "Run the trials of a grid or a search, several at a time, and show their table; run it again to continue.",
    "features": "Draw test images in the space of features of each model that a finished run has kept.",
    "export": "Write the final CLIP of a run for other programs.",
    "demo": "Show in a browser how the models of finished runs classify an image of yours.",
}
"""Description of each command, in its own help and in that of the program."""

USAGE = f"{PROGRAM} COMMAND --config FILE [--config OVERLAY] [--KEY VALUE ...] [--debug]"
"""The usage line of the commands with a config, and of the program."""

DESCRIPTION = (
    "Continual learning of CLIP, from YAML files; every key is also a flag, as in --data.steps 200."
    " 'report RUN [RUN ...]', 'sweep FILE', 'features RUN', 'export --run RUN --out FILE' and"
    " 'demo --runs RUN [RUN ...]' need no config. With --debug, bad input also shows its traceback."
)
"""What the program is, above the list of commands."""


def help_text() -> str:
    """The help of the program, for the width of the terminal.

    >>> "report" in help_text()
    True
    """
    title = "`COMMAND --help` lists the options of a command."
    parser = argparse.ArgumentParser(prog=PROGRAM, usage=USAGE, description=DESCRIPTION)
    commands = parser.add_argument_group("commands", title)
    for name, description in COMMANDS.items():
        commands.add_argument(name, nargs="?", help=description)
    return parser.format_help()
