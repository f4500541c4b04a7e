"""``python -m gift_lightning``: the command line."""

import os
import sys
from collections.abc import Sequence

from gift_lightning.stray import stray_package


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 after bad input, 130 or 143 if stopped by a signal."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    stray = stray_package()
    if stray:
        sys.stderr.write(f"error: {stray}\n")
        return 2
    if "--download" not in arguments:  # a run in a queue asks no network; HF_HUB_OFFLINE=0 lets it
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if arguments[:1] in (["report"], ["export"]):
        return _plain(*arguments)
    from gift_lightning.cli import run  # importing the whole stack takes seconds: after the cheap check

    return run([word for word in arguments if word != "--debug"], debug="--debug" in arguments)


def _plain(command: str, *arguments: str) -> int:
    """A command that needs no trainer: it works on the folders of finished runs."""
    from gift_lightning.errors import InputError

    try:
        if command == "report":
            from gift_lightning.report.side_by_side import main as report

            report(arguments)
        else:
            from gift_lightning.finished import export

            export(arguments)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
