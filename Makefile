# Everything runs in .venv, made here from the system's Python 3.11 or later; nothing else is needed but make and git.
# VENV=.venv-3.12 is another place for it; whatever is made stands beside it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Model libraries that only tests look at.
export FAMILIES := $(dir $(VENV)).families$(patsubst .venv%,%,$(notdir $(VENV)))
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Where bytecode is not written, every process compiles torch from its sources again: seconds for each of them, minutes for
# the tests. What is imported is compiled once instead (pip's --no-compile leaves out the rest of the thousands of files).
export PYTHONDONTWRITEBYTECODE :=

# As `python3.12` and so on; with pyenv: PYENV_VERSION=3.12.1:3.13.0 make pythons.
PYTHONS ?= 3.12 3.13

.PHONY: demo test pythons released torture rehearse gpu oldest coverage check docs format clean

demo: $(VENV)/run
	$(BIN)/frostline tune python-source-gpt --study demo

test: $(VENV)/dev $(FAMILIES)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The same on each of the other Pythons that is found: gigabytes to install for each, if torch comes with CUDA.
pythons:
	@for version in $(PYTHONS); do \
		if ! python$$version -c '' 2> /dev/null; then echo "python$$version is not found: nothing is tested with it"; continue; fi; \
		echo "python$$version"; $(MAKE) test PYTHON=python$$version VENV=.venv-$$version || exit 1; \
	done

# The wheel and the source distribution, each in an environment that pip makes of what they declare, with no file of the
# repository in sight.
released: $(VENV)/dev
	$(BIN)/python -m pytest -m torture tests/test_package.py -s

torture: $(VENV)/dev
	$(BIN)/python -m pytest -m torture tests/benchmarks tests/costs tests/faults tests/integrations tests/populations tests/rehearsal tests/test_slurm_page.py -s

# Every test for a GPU on a card of host memory, and which lines that name a device were run.
rehearse: $(VENV)/dev
	$(BIN)/python -m tests.rehearsal.rehearsed tests

# The first minutes on a card, with the python that has torch for it; nothing is installed, nor does frostline have to be.
gpu:
	$(PYTHON) benchmarks/gpu.py

# With the oldest versions that are supported: gigabytes to install (torch comes with CUDA), and minutes to run.
# An older anyio, which transformers brings, has a plugin that uses what pytest has renamed.
oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest -p no:anyio -n 2 --dist worksteal -m "not slow and not multiprocess and not torture" $(addprefix tests/,layers objectives report search store training)

coverage: $(VENV)/dev $(FAMILIES)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report term

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

docs: $(VENV)/dev
	$(BIN)/python -m tools.documentation
	$(BIN)/zensical build --strict --clean

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "frostline needs Python 3.11 or later; say which with: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install --no-compile -c constraints.txt -e '.[tasks]'
	touch $@

$(VENV)/dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install --no-compile -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/run

.venv-oldest/installed: tests/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip --disable-pip-version-check --quiet install --no-compile -r tests/oldest.txt
	.venv-oldest/bin/python -m pip --disable-pip-version-check --quiet install --no-compile --no-deps -e .
	touch $@

# Apart from .venv: beside a CPU build of torch, torchvision breaks transformers.
$(FAMILIES)/installed: $(VENV)/bin/python tests/layers/families.txt
	rm -rf $(FAMILIES)
	$(PIP) install --no-compile --no-deps --target $(FAMILIES) -r tests/layers/families.txt
	touch $@

clean:
	rm -rf .venv .venv-* .families .families-* site .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
