# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` are complete on a machine with CPython 3.11 or newer, pip and gcc: each first makes .venv.

VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that runs and is new enough; `make PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for python in python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
INSTALLS_FROM := pyproject.toml setup.py constraints.txt

# A recipe that fails leaves no target behind, and two recipes never install into .venv at once.
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-quick coverage lint format gpu-check clean

help:
	@echo "make demo    run the released models on the sample videos; results in runs/demo"
	@echo "make test    run all tests, one worker per core"
	@echo "make test-quick  run the tests of single functions: no training, export or process; a minute or two"
	@echo "make coverage  run all tests and count the lines that none of them reaches"
	@echo "make lint    ruff, mypy and the import rules"
	@echo "make format  let ruff rewrite the code"
	@echo "make gpu-check  run the GPU tests, export and time the released model on a machine with a GPU; report in runs/gpu_check"
	@echo "make clean   remove the virtual environment and all caches"

demo: $(VENV)/.installed-export
	$(BIN)/centermask demo

# A file's tests stay on one worker, with what its fixtures made; tests/conftest.py puts the long files first.
WORKERS := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(WORKERS) --durations=10 $(ARGS)

test-quick: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(WORKERS) -m "not slow and not process and not data and not gpu" $(ARGS)

coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(WORKERS) --cov --cov-report=term-missing:skip-covered $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

gpu-check: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/gpu_check.py $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name '*.egg-info' -prune -exec rm -rf {} +
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "CenterMask needs Python 3.11 or newer, and neither python3.11 nor python3 here is; \
	install one or run make PYTHON=/path/to/python3.11." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# An environment for development has all that the demo needs.
$(VENV)/.installed-dev: $(INSTALLS_FROM) | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(VENV)/.installed-export $@

$(VENV)/.installed-export: $(INSTALLS_FROM) | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[export]'
	touch $@
