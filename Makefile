# `make demo` screens a sample scan, `make test` runs the checks. Both install everything that they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LABEL_VENV ?= .venv-label
LABEL_INSTALLED := $(LABEL_VENV)/.installed
# Test files are shared out to this many processes, each with one core; a file stays in one of them, with its fixtures.
# In the order of the names: the short doctests come last and fill the time that one process would wait for the other.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install label-env demo test test-slow lint types benchmark docs dist clean

help:
	@echo "make demo       sample scan -> anomaly map, scores and preview in demo_output/"
	@echo "make test       lint, types, tests; WORKERS=4 for four processes instead of two"
	@echo "make test-slow  tests of full-size networks, and tests that need servers"
	@echo "make label-env  environment of the MONAI Label server in $(LABEL_VENV)"
	@echo "make benchmark  speed and memory against a plain reference (minutes)"
	@echo "make docs       the documents as a site in site/; a broken link or reference is an error"
	@echo "make dist       wheel and source distribution in dist/"
	@echo "make clean      remove the environments and the files that tools leave behind"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $(INSTALLED)

# An environment of its own, as MONAI Label needs older packages than the tests.
label-env: $(LABEL_INSTALLED)

$(LABEL_INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(LABEL_VENV)
	$(LABEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[label]'
	@touch $(LABEL_INSTALLED)

demo: $(INSTALLED)
	$(BIN)/python -m monai_zsad demo --output demo_output

test: $(INSTALLED) lint types
	$(PYTEST) --durations=15

test-slow: $(INSTALLED)
	$(PYTEST) -m slow --durations=15 tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

benchmark: $(INSTALLED)
	$(BIN)/python -m tests.benchmarks.crane_speed

# The variable turns off an advertisement of the theme.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: $(INSTALLED)
	$(BIN)/python -m hatchling build

clean:
	rm -rf $(VENV) $(LABEL_VENV) build dist *.egg-info demo_output site .mypy_cache .ruff_cache .pytest_cache .hypothesis
