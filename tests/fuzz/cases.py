"""How many random inputs each fuzz test tries: few in CI, many by hand.

``FUZZ_CASES=500 python -m pytest tests/fuzz`` tries 500 of each; case n is the same on every machine.
"""

import os

import pytest


def cases(usual: int) -> pytest.MarkDecorator:
    """Parametrise a test by ``case``, the seed of its input: ``usual`` of them, or what ``FUZZ_CASES`` says."""
    return pytest.mark.parametrize("case", range(int(os.environ.get("FUZZ_CASES", usual))))
