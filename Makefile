# Needs git and Python 3.10 or newer with its venv module; everything else goes into $(VENV).
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python

# Empty files that say when $(VENV) was last brought up to date with pyproject.toml.
BASE := $(VENV)/.installed-base
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help quickstart test lint format bench speed clean

help:  ## list these commands
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

quickstart: $(BASE)  ## install, take a small CLIP through six tasks by fine-tuning and by GIFT, show what each forgets
	$(RUN) -m gift_lightning fit --config conf/mini/finetune.yaml --run.name quickstart_finetune --ckpt_path last
	$(RUN) -m gift_lightning fit --config conf/quickstart.yaml --ckpt_path last
	$(RUN) -m gift_lightning report runs/quickstart_finetune runs/quickstart
	$(RUN) -m gift_lightning report runs/quickstart_finetune runs/quickstart --out runs/report.html

# a test computes on one thread; the tests of a file share a process, and what is made for all of them
test: $(DEV) lint  ## install with the tools for development, then lint and run all tests
	$(RUN) -m pytest -n auto --dist loadfile
	@echo "The authors' numbers once more, with the kernels of a CPU without AVX:"
	ATEN_CPU_CAPABILITY=default $(RUN) -m pytest -q tests/golden/test_trajectories.py

lint: $(DEV)  ## check style, format, types, and which room knows which
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

format: $(DEV)  ## rewrite the code in the house format
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

bench: $(BASE)  ## run what is missing in the MiniMTIL table and rewrite it in README.md
	$(RUN) -m benchmarks.mini conf/sweeps/mini_table.yaml

speed: $(BASE)  ## measure steps, input, generation and memory on this CPU, and rewrite benchmarks/RESULTS.md
	$(RUN) -m benchmarks.speed

clean:  ## remove caches and build outputs (keeps runs/ and the environment)
	rm -rf build dist *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is older than Python 3.10: name another one with 'make PYTHON=python3.12'."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(BASE): pyproject.toml | $(VENV)/pyvenv.cfg
	$(RUN) -m pip install --disable-pip-version-check -e .
	@touch $@

$(DEV): pyproject.toml | $(VENV)/pyvenv.cfg
	$(RUN) -m pip install --disable-pip-version-check -e '.[dev]'
	@touch $@ $(BASE)
