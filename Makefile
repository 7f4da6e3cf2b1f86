# `make` alone lists what there is. Everything happens in .venv, which is built once from the lock files in
# requirements/ (exact versions with hashes) and again when they change.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check install
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
SHELL := /bin/bash
# Where this is set, as in many containers, each process of Ray compiles all of ensue anew, and starts 0.2 s later.
unexport PYTHONDONTWRITEBYTECODE
MAKEFLAGS += --no-print-directory

# Shows what a command printed only where it failed.
quietly = out=$$($(1) 2>&1) || { printf '%s\n' "$$out"; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help demo test lint types format bench torture coverage wheel lock clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(RUNTIME) ## two minutes: webhooks come in, a pipeline runs, is killed, and loses nothing
	@$(BIN)/ensue demo

# pytest by its own name, not as `python -m pytest`: that would put this folder on the path, and a bare
# `import events` would work here and nowhere else. Two processes, since tests wait more than they work; a file stays
# in one of them, and files go in their order (the crashes take longest, and come in the middle).
test: lint types ## lint, types, then all tests; PYTEST_ARGS="tests/unit -k join" for some
	@echo "ensue: tests"
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(DEV) ## ruff (rules and format) and the import contracts
	@echo "ensue: lint (ruff, import-linter)"
	@$(BIN)/ruff check --quiet
	@$(call quietly,$(BIN)/ruff format --check)
	@$(call quietly,$(BIN)/lint-imports)

types: $(DEV) ## mypy and pyright, both strict
	@echo "ensue: types (mypy)"
	@$(call quietly,$(BIN)/mypy)
	@echo "ensue: types (pyright)"
	@$(call quietly,PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python)

format: $(DEV) ## what ruff can put right by itself: imports, layout, safe fixes
	@$(BIN)/ruff check --quiet --fix --exit-zero > /dev/null
	@$(BIN)/ruff format --quiet

bench: $(DEV) ## the benchmarks, as one table
	@$(BIN)/python -m benchmarks

TORTURE_MINUTES ?= 60
torture: $(DEV) ## 50,000 seeds, and an hour of kills; what was lost; TORTURE_MINUTES=10 for less
	@mkdir -p build
	@set -o pipefail; $(BIN)/python tests/simulation/seeds.py --seeds 0:50000 --minutes $(TORTURE_MINUTES) | tee build/seeds.txt
	@$(BIN)/python tests/faults/torture.py --minutes $(TORTURE_MINUTES) --output build/torture.json
	@$(BIN)/python -m benchmarks.faults build/torture.json build/seeds.txt

coverage: $(DEV) ## lines and branches that no test reaches
	@$(BIN)/coverage erase
	@$(BIN)/coverage run $(BIN)/pytest $(PYTEST_ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

wheel: $(DEV) ## sdist and wheel, in dist/
	@rm -rf dist
	@$(call quietly,$(BIN)/python -m build --no-isolation)
	@ls dist

# The files keep the versions that they pin while pyproject.toml allows them; `make lock UPGRADE=1` takes the newest.
# One resolution for Linux and macOS and every supported Python. The pins of dev.txt bind the other two.
COMPILE = $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --no-build --generate-hashes \
	--no-annotate --no-emit-index-url --custom-compile-command 'make lock'
lock: $(DEV) ## compile requirements/ anew from pyproject.toml; UPGRADE=1 for newest versions
	@$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --group dev --output-file requirements/dev.txt
	@$(COMPILE) pyproject.toml --constraints requirements/dev.txt --output-file requirements/runtime.txt
	@$(COMPILE) --group build --constraints requirements/dev.txt --output-file requirements/build.txt
	@echo "ensue: requirements/ is up to date"

clean: ## caches and built files; the virtual environment stays
	@rm -rf build dist .coverage .coverage.* htmlcov .hypothesis
	@rm -rf .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -path './$(VENV)' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## as clean, and the virtual environment too
	@rm -rf $(VENV)

$(BIN)/python:
	@command -v $(PYTHON) > /dev/null || \
		{ echo "ensue: there is no '$(PYTHON)' here. Name a Python 3.11 or newer: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ensue: needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1)." \
		"Name another: make PYTHON=python3.12"; exit 1; }
	@echo "ensue: $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "ensue: '$(PYTHON)' cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)."; \
		exit 1; }

$(RUNTIME): requirements/runtime.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "ensue: installing what it runs on, about a minute"
	@$(PIP) --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# dev.txt holds all of runtime.txt and build.txt, at the same versions.
$(DEV): requirements/dev.txt requirements/runtime.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "ensue: installing what it runs on and is tested with, about a minute"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(RUNTIME) $@
