# Nothing here but the commands that README.md shows for people without make.
PYTHON ?= python3
DATA ?= eval
BIN = .venv/bin

.PHONY: demo test lint results

demo: .venv/demo
	$(BIN)/deblur-hub demo

test: .venv/dev
	$(BIN)/python -m pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The scores of the bundled weights, and the README's picture, from a folder of evaluation pictures.
results: .venv/dev
	$(BIN)/python docs/make_results.py $(DATA)

.venv/demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[space]'
	touch $@

.venv/dev: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
