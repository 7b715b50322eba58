# `make demo` runs the main job on a sample scan, `make test` the checks. Both set everything up by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LABEL_VENV ?= .venv-label
LABEL_INSTALLED := $(LABEL_VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install label-env demo test test-slow lint types benchmark dist clean

help:
	@echo "make demo       sample scan -> anomaly map, scores and picture in demo_output/"
	@echo "make test       lint, types, tests"
	@echo "make test-slow  full-size networks and what needs servers"
	@echo "make label-env  environment of the MONAI Label server in $(LABEL_VENV)"
	@echo "make benchmark  speed and memory against a plain reference (minutes)"
	@echo "make dist       wheel and source distribution in dist/"
	@echo "make clean      remove the environment and what tools leave behind"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $(INSTALLED)

# Of its own, as MONAI Label needs older packages than the tests.
label-env: $(LABEL_INSTALLED)

$(LABEL_INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(LABEL_VENV)
	$(LABEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[label]'
	@touch $(LABEL_INSTALLED)

demo: $(INSTALLED)
	$(BIN)/python -m monai_zsad demo --output demo_output

test: $(INSTALLED) lint types
	$(BIN)/python -m pytest

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow --durations=15

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

benchmark: $(INSTALLED)
	$(BIN)/python -m tests.benchmarks.crane_speed

dist: $(INSTALLED)
	$(BIN)/python -m hatchling build

clean:
	rm -rf $(VENV) $(LABEL_VENV) build dist *.egg-info demo_output .mypy_cache .ruff_cache .pytest_cache .hypothesis
