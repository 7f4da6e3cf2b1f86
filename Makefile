# `make` without a target lists the targets. All of them work in .venv, which is built from the lock files in
# requirements/ (exact versions with hashes), and built again when they change.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check install
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
SHELL := /bin/bash
# Many containers set this. Each process of Ray would then compile all of ensue again, and start 0.2 s later.
unexport PYTHONDONTWRITEBYTECODE
MAKEFLAGS += --no-print-directory

# Shows what a command printed only if it failed.
quietly = out=$$($(1) 2>&1) || { printf '%s\n' "$$out"; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help demo quick quick-tests test lint types format bench torture coverage wheel lock clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(RUNTIME) ## half a minute: a pipeline takes webhooks, is killed, and loses nothing
	@$(BIN)/ensue demo

# pytest is called by its own name, not as `python -m pytest`, which puts this folder on the path: a bare `import events`
# would then work here and nowhere else. The run ends with this `make`, whose process id it is told.
PYTEST := ENSUE_TESTS_MAKE=$$PPID $(BIN)/pytest

# Types are checked beside the tests: pyright works on one core for as long as half of the tests take.
quick: lint ## lint, types, and all tests that need neither Ray nor a server
	@$(MAKE) -j 2 types quick-tests

quick-tests: $(DEV)
	@echo "ensue: tests that need neither Ray nor a server"
	@$(PYTEST) -q -n 2 --dist worksteal -m "not services" $(PYTEST_ARGS)

# Two processes, since tests with Ray wait more than they work. A file stays in one of them. Files keep their order: the
# crashes take longest, and come in the middle.
test: lint types ## lint, types, then all tests; PYTEST_ARGS="tests/unit -k join" for some
	@echo "ensue: tests"
	@$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(DEV) ## ruff (rules and format) and the import contracts
	@echo "ensue: lint (ruff, import-linter)"
	@$(BIN)/ruff check --quiet
	@$(call quietly,$(BIN)/ruff format --check)
	@$(call quietly,$(BIN)/lint-imports)

types: $(DEV) ## mypy and pyright, both in strict mode
	@echo "ensue: types (mypy)"
	@$(call quietly,$(BIN)/mypy)
	@echo "ensue: types (pyright)"
	@$(call quietly,PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python)

format: $(DEV) ## apply ruff's formatter and its safe fixes
	@$(BIN)/ruff check --quiet --fix --exit-zero > /dev/null
	@$(BIN)/ruff format --quiet

bench: $(DEV) ## run the benchmarks and print one table
	@$(BIN)/python -m benchmarks

TORTURE_MINUTES ?= 60
torture: $(DEV) ## simulate 50,000 seeds, then kill for an hour; TORTURE_MINUTES=10 for less
	@mkdir -p build
	@set -o pipefail; $(BIN)/python tests/simulation/seeds.py --seeds 0:50000 --minutes $(TORTURE_MINUTES) | tee build/seeds.txt
	@$(BIN)/python tests/faults/torture.py --minutes $(TORTURE_MINUTES) --output build/torture.json
	@$(BIN)/python -m benchmarks.faults build/torture.json build/seeds.txt

coverage: $(DEV) ## list the lines and branches that no test reaches
	@$(BIN)/coverage erase
	@$(BIN)/coverage run $(BIN)/pytest $(PYTEST_ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

wheel: $(DEV) ## build sdist and wheel into dist/
	@rm -rf dist
	@$(call quietly,$(BIN)/python -m build --no-isolation)
	@ls dist

# The lock files keep their versions as long as pyproject.toml allows them; `make lock UPGRADE=1` takes the newest.
# One resolution serves Linux, macOS and every supported Python. The versions in dev.txt bind the other two files.
COMPILE = $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --no-build --generate-hashes \
	--no-annotate --no-emit-index-url --custom-compile-command 'make lock'
lock: $(DEV) ## compile requirements/ from pyproject.toml; UPGRADE=1 for the newest versions
	@$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --group dev --output-file requirements/dev.txt
	@$(COMPILE) pyproject.toml --constraints requirements/dev.txt --output-file requirements/runtime.txt
	@$(COMPILE) --group build --constraints requirements/dev.txt --output-file requirements/build.txt
	@echo "ensue: requirements/ is up to date"

clean: ## delete caches and built files, but not the virtual environment
	@rm -rf build dist .coverage .coverage.* htmlcov .hypothesis
	@rm -rf .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -path './$(VENV)' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and delete the virtual environment
	@rm -rf $(VENV)

$(BIN)/python:
	@command -v $(PYTHON) > /dev/null || \
		{ echo "ensue: '$(PYTHON)' was not found. Name a Python 3.11 or newer: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ensue: '$(PYTHON)' is $$($(PYTHON) -V 2>&1), and ensue needs 3.11 or newer." \
		"Name another: make PYTHON=python3.12"; exit 1; }
	@echo "ensue: $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "ensue: '$(PYTHON)' cannot create a virtual environment (on Debian and Ubuntu: apt install python3-venv)."; \
		exit 1; }

$(RUNTIME): requirements/runtime.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "ensue: installing the runtime dependencies, about a minute"
	@$(PIP) --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# dev.txt contains all of runtime.txt and build.txt, at the same versions.
$(DEV): requirements/dev.txt requirements/runtime.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "ensue: installing the runtime and development dependencies, about a minute"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(RUNTIME) $@
