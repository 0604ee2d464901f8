# Each target works as the first command on a machine that has only Python 3.11 or newer.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OUT    ?= out/demo
CASES  ?= 100000
FAULTS ?= 100

export RAY_USAGE_STATS_ENABLED := 0

.PHONY: venv demo test check lint types floors bench chaos fuzz

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: venv
	$(BIN)/medgan-ray demo $(OUT)

test: venv
	$(BIN)/python -m pytest

check: lint types floors

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/mypy

floors: venv
	$(BIN)/lint-imports

bench: venv
	@set -e; for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script; done

chaos: venv
	$(BIN)/python -m pytest -m chaos --chaos-faults=$(FAULTS) --two-hosts --timeout=0 -s

fuzz: venv
	$(BIN)/python -m pytest -m fuzz --fuzz-cases=$(CASES) --timeout=14400
