"""The command ``export``: the final CLIP of a run, for other programs."""

import argparse
from collections.abc import Sequence

from gift_lightning.commands.overview import COMMANDS, PROGRAM
from gift_lightning.console import plain_console
from gift_lightning.files import path_of


def main(arguments: Sequence[str]) -> None:
    """Write the CLIP of a run as a plain state dict of open_clip, and say how to load it; or for OpenAI's code.

    Raises:
        InputError: see ``export``.
    """
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} export", description=COMMANDS["export"])
    parser.add_argument("--run", required=True, help="the folder of a finished run")
    parser.add_argument("--out", required=True, help="a .safetensors file for open_clip, .pth for OpenAI's code")
    options = parser.parse_args(arguments)
    from gift_lightning.runs.export import export  # with the large libraries, which the help does without

    # path_of is no type of the parser: argparse has sentences of its own for what a type refuses
    run, out = path_of(options.run), path_of(options.out)
    lines = [f"  {line}" for line in export(run, out)]
    plain_console().print(f"{out} is written. It is loaded by", "", *lines, sep="\n", soft_wrap=True)
