# The two commands of the README. Each sets up everything by itself; CPython 3.11+, pip and make are all that is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test setup lint unit format clean

demo: setup
	$(BIN)/seal demo

test: lint unit

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("seal needs CPython 3.11 or newer: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev --editable .
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup  # two tests at a time: tiny models gain nothing from a second thread
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --durations=30

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
