# Everything runs in .venv, made here from the system's Python 3.11 or later; nothing else is needed but make and git.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Where bytecode is not written, every process compiles torch from its sources again: seconds for each of them, minutes for
# the tests. What is imported is compiled once instead (pip's --no-compile leaves out the rest of the thousands of files).
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test torture rehearse gpu oldest coverage check docs format clean

demo: .venv/run
	$(BIN)/frostline tune python-source-gpt --study demo

test: .venv/dev .families/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

torture: .venv/dev
	$(BIN)/python -m pytest -m torture tests/costs tests/faults tests/integrations tests/populations tests/rehearsal tests/test_slurm_page.py -s

# Every test for a GPU on a card of host memory, and which lines that name a device were run.
rehearse: .venv/dev
	$(BIN)/python -m tests.rehearsal.rehearsed tests

# The first minutes on a card, with the python that has torch for it; nothing is installed, nor does frostline have to be.
gpu:
	$(PYTHON) benchmarks/gpu.py

# With the oldest versions that are supported: gigabytes to install (torch comes with CUDA), and minutes to run.
oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest -n 2 --dist worksteal -m "not slow and not multiprocess and not torture" $(addprefix tests/,layers objectives report search store training)

coverage: .venv/dev .families/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report term

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

docs: .venv/dev
	$(BIN)/python -m tools.documentation
	$(BIN)/zensical build --strict --clean

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "frostline needs Python 3.11 or later; say which with: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv

.venv/run: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) install --no-compile -c constraints.txt -e '.[tasks]'
	touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) install --no-compile -c constraints.txt -e '.[dev]'
	touch $@ .venv/run

.venv-oldest/installed: tests/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip --disable-pip-version-check --quiet install --no-compile -r tests/oldest.txt
	.venv-oldest/bin/python -m pip --disable-pip-version-check --quiet install --no-compile --no-deps -e .
	touch $@

# Model libraries that only tests look at, apart from .venv: beside a CPU build of torch, torchvision breaks transformers.
.families/installed: .venv/bin/python tests/layers/families.txt
	rm -rf .families
	$(PIP) install --no-compile --no-deps --target .families -r tests/layers/families.txt
	touch $@

clean:
	rm -rf .venv .venv-oldest .families site .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
