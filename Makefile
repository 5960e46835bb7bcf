# Nothing here but the commands that README.md shows for people without make.
PYTHON ?= python3
DATA ?= eval
WORKERS ?= 2
BIN = .venv/bin

.PHONY: demo test test-fast test-full lint results ablation

demo: .venv/demo
	$(BIN)/deblur-hub demo

# For work in progress test-fast leaves out what takes more than about 0.3 seconds; test-full is what CI runs. Python may
# keep what it compiles, or each of the many processes would compile all of it again.
test test-fast test-full: export PYTHONDONTWRITEBYTECODE =
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 40 --durations-min 2

test: .venv/dev
	$(PYTEST) -m "not full"

test-fast: .venv/dev
	$(PYTEST) -m "not slow and not browser and not full"

test-full: .venv/dev
	$(PYTEST)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The scores of the bundled weights, and the README's picture, from a folder of evaluation pictures; with SRN=folder those of
# SRN's authors' weights, too (docs/networks.md says how to get them).
results: .venv/dev
	$(BIN)/python docs/make_results.py $(DATA) $(if $(SRN),--srn $(SRN))

# The tables of train/README.md: DATA holds train/ and eval/gopro/; VGG19 from weights/ if it is there, else torchvision.
ablation: DATA = data
ablation: VGG19 = $(wildcard $(DATA)/weights/vgg19_to_conv3_1.safetensors)
ablation: .venv/dev
	$(BIN)/python train/study/ablation.py --data $(DATA)/train --pairs $(DATA)/eval/gopro \
		$(if $(VGG19),--perceptual-weights $(VGG19))

.venv/demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[space]'
	touch $@

# Compiled is what the tests import, when they do: half a minute less.
.venv/dev: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --editable '.[dev]'
	touch $@
