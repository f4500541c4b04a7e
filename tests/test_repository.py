"""The repository itself: what it declares, what it promises, what a stranger types first."""

import ast
import importlib.metadata
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGES = ("gift_lightning", "callbacks", "datamodules")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def imported_modules(folder):
    """Top-level names of everything that the Python files below ``folder`` import."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
    return names


def canonical(requirement):
    """The distribution's name in a requirement, spelled as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement).group()).lower()


EXTRAS = {
    "gradio": ("demo", "gradio"),
    "umap": ("umap", "umap-learn"),
    "optuna": ("optuna", "optuna"),
    "submitit": ("submitit", "submitit"),
}
"""Modules of optional extras: the extra, and what it installs."""


@pytest.mark.parametrize("folder", [*PACKAGES, "benchmarks", "examples", "tests"])
def test_every_imported_library_is_declared(folder):
    own = {*PACKAGES, "benchmarks", "tests", "conftest"}
    libraries = imported_modules(ROOT / folder) - set(sys.stdlib_module_names) - own - {"tomli"}
    declared = {canonical(line) for line in PYPROJECT["project"]["dependencies"]}
    if folder == "tests":
        declared |= {canonical(line) for line in PYPROJECT["project"]["optional-dependencies"]["dev"]}
    providers = importlib.metadata.packages_distributions()
    for module, (extra, distribution) in EXTRAS.items():  # need not be installed
        assert distribution in map(canonical, PYPROJECT["project"]["optional-dependencies"][extra])
        libraries.discard(module)
    missing = {name for name in libraries if not {canonical(d) for d in providers.get(name, [])} & declared}
    assert not missing, f"{folder} imports {sorted(missing)}, which pyproject.toml does not declare"


def test_torch_is_not_pinned_to_a_build():
    torch = next(line for line in PYPROJECT["project"]["dependencies"] if canonical(line) == "torch")
    assert torch.startswith("torch>=") and "+" not in torch and "@" not in torch


def test_the_wheel_names_the_three_packages_and_git_ignores_none_of_their_files():
    assert PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)
    ignored = (ROOT / ".gitignore").read_text().split()  # what git ignores, the wheel leaves out
    assert not [line for line in ignored if re.search(r"json|safetensors|gz|csv|md$", line)]


def test_the_rules_of_the_house_name_every_module_of_its_root():
    layers = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    root = {path.stem for path in (ROOT / "gift_lightning").glob("*.py")}
    assert {f"gift_lightning.{name}" for name in root - {"__init__", "__main__"}} == set(
        re.findall(r"[\w.]+", layers[-1])
    )
    assert len(root) <= 12
    rooms = {path.parent.name for path in (ROOT / "gift_lightning").glob("*/__init__.py")}
    assert rooms == {layer.split(".")[1] for layer in layers[:-1] if layer.startswith("gift_lightning.")}


def test_numerics_know_torch_numpy_and_errors_alone():
    allowed = {"torch", "numpy", *sys.stdlib_module_names}
    for path in (ROOT / "gift_lightning" / "numerics").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            own = ("gift_lightning.numerics", "gift_lightning.errors")
            assert all(name.startswith(own) or name.split(".")[0] in allowed for name in names), (path, names)


def test_the_rules_of_the_house_name_every_callback():
    (contract,) = [c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["name"].startswith("A callback")]
    shared = {"__init__", "encoding", "event_check", "learned", "method", "task_callback", "trainer_check"}
    files = {path.stem for path in (ROOT / "callbacks").glob("*.py")} - shared
    assert set(contract["modules"]) == {f"callbacks.{name}" for name in files}


def test_no_file_is_longer_than_350_lines():
    files = [path for folder in (*PACKAGES, "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")]
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in files}
    assert not {name: length for name, length in lengths.items() if length > 350}
    assert statistics.median(lengths.values()) <= 105


def test_licence_is_mit():
    licence = (ROOT / "LICENSE").read_text()
    assert licence.startswith("MIT License") and "the gift-lightning authors" in licence
    assert PYPROJECT["project"]["license"] == "MIT" == CITATION["license"]


def test_citation_is_valid_and_names_the_papers():
    """The required keys of CFF 1.2.0, for the software and for each reference."""
    assert CITATION["cff-version"] == "1.2.0"
    from gift_lightning import __version__

    assert CITATION["version"] == __version__
    for work in (CITATION, *CITATION["references"]):
        assert work["type"] and work["title"] and work["authors"]
        assert all(set(author) <= {"name", "given-names", "family-names"} for author in work["authors"])
    arxiv = [reference["identifiers"][0]["value"].removeprefix("arXiv:") for reference in CITATION["references"]]
    methods = "".join(path.read_text() for path in (ROOT / "gift_lightning" / "methods").glob("*.py"))
    assert len(arxiv) == 8 and all(f"arXiv {number}" in methods for number in arxiv)


def make(*arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_make_alone_lists_every_target():
    declared = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1).split()
    listed = [line.split()[1] for line in make("--no-print-directory").splitlines()]
    assert listed == declared


def test_make_installs_only_when_pyproject_changed(tmp_path):
    (tmp_path / "pyvenv.cfg").touch()
    first = make("--dry-run", f"VENV={tmp_path}", "quickstart")
    assert "pip install" in first and "-m venv" not in first
    for stamp in (".installed-base", ".installed-dev"):
        (tmp_path / stamp).touch()
    for target in ("quickstart", "test"):
        assert "pip install" not in make("--dry-run", f"VENV={tmp_path}", target)
    os.utime(tmp_path / ".installed-base", (0, 0))
    assert "pip install" in make("--dry-run", f"VENV={tmp_path}", "quickstart")


def test_quickstart_is_the_command_the_readme_explains():
    command = "-m gift_lightning fit --config conf/quickstart.yaml"
    assert f"{command} --ckpt_path last" in make("--dry-run", "quickstart")
    assert f"python {command}" in (ROOT / "README.md").read_text()


def test_continuous_integration_runs_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text() and "make test" in script.read_text()


def test_files_the_readme_links_to_exist():
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert links and not [link for link in links if not (ROOT / link).exists()]


def test_the_file_of_a_method_is_two_screens_long():
    """But those of ConDU and MoE-Adapters; base.py has the base of all."""
    limits = {"base": 300, "condu": 200, "moe_adapter": 200}
    for path in (ROOT / "gift_lightning" / "methods").glob("*.py"):
        assert len(path.read_text().splitlines()) <= limits.get(path.stem, 150), path


PARTIES = {"trainer", "module", "pl_module", "method", "sequence", "datamodule", "replay", "clip", "model"}


def test_callbacks_and_methods_type_the_parties_of_a_run():
    """Whoever changes a method or a sequence says what it is: ``Any`` would hide a misspelt attribute."""
    files = [*(ROOT / "callbacks").rglob("*.py"), *(ROOT / "gift_lightning" / "methods").rglob("*.py")]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                typed = {a.arg: ast.unparse(a.annotation) for a in arguments if a.annotation is not None}
                vague = [name for name in typed.keys() & PARTIES if "Any" in typed[name]]
                assert not vague, f"{path}:{node.lineno} {node.name} takes {vague} as Any"
                is_party = node.name in PARTIES | {"load_from_checkpoint"}
                assert not is_party or "Any" not in ast.unparse(node.returns), f"{path}:{node.lineno} {node.name}"
            elif isinstance(node, ast.AnnAssign):
                assert ast.unparse(node.target).removeprefix("self.") not in PARTIES or "Any" not in ast.unparse(
                    node.annotation
                )
