"""An environment with Gradio on top of this one, and the page of ``demo`` served from it.

Gradio takes an older Pillow than the rest: what is missing is installed into an environment of its own, which finds
everything else in this one.
"""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python_with_gradio(folder: Path) -> str:
    """The Python of an environment in ``folder`` that has Gradio; skips the test where it cannot be installed."""
    if find_spec("gradio") is not None:
        return sys.executable
    venv.create(folder, with_pip=False, symlinks=True)
    python, site = folder / "bin" / "python", sysconfig.get_path("purelib", vars={"base": str(folder)})
    Path(site, "this.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    install = ["install", "--quiet", "--no-compile", "--no-input", "--retries=1", "--timeout=10", "gradio>=6,<7"]
    command = [sys.executable, "-m", "pip", "--python", str(python), *install]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"Gradio cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return str(python)


@contextmanager
def served(python: str, runs: Sequence[Path], *flags: str, **variables: str) -> Iterator[str]:
    """The address of the page of runs, for the time of the context; the command ends with 0 after Ctrl-C."""
    command = [python, "-m", "gift_lightning", "demo", "--runs", *map(str, runs), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("The page is at http://127.0.0.1:"), line
        yield line.split()[4]
        process.send_signal(2)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
