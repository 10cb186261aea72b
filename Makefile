# Every target sets itself up: a virtual environment in .venv with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

# Each takes tests that stand together, which share what their file sets up; at the end one steals.
# Three for two cores: for a quarter of the time a test waits for processes of its own.
SHARED := -n 3 --dist worksteal

# Tests start hundreds of processes; each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help dist demo test slow data docs lint types format bench clean
.DEFAULT_GOAL := help

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## train 16 nodes on handwritten digits, print a table, write a report
	$(BIN)/hansa learn examples/digits_dpsgd.yaml

test: lint $(STAMP) ## lint, types, and all tests but the slow ones
	$(BIN)/mypy & types=$$!; OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SHARED); tests=$$?; \
		wait $$types && exit $$tests

slow: $(STAMP) ## the tests of real networks that take long: Ray, sites, kills, shaped links
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SHARED) -m slow

data: $(STAMP) ## the tests on real data, which lie where HANSA_DATA says
	@test -d "$(HANSA_DATA)" || { echo "make data: HANSA_DATA names no folder"; exit 2; }
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SHARED) -m data

docs: $(STAMP) ## the site, from the pages as they stand; a link that leads nowhere is an error
	$(BIN)/sphinx-build -q -j 2 -n -W --keep-going -c docs . build/docs
	@echo "build/docs/index.html"

lint: $(STAMP) ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## type checker
	$(BIN)/mypy

format: $(STAMP) ## put the code into the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dist: $(STAMP) ## an sdist and a wheel, and whether both stand on their own
	.ci/dist-check $(BIN)/python

bench: $(STAMP) ## speed and memory, as ratios
	$(BIN)/python benchmarks/speed.py

clean: ## remove what was built or cached, but no run folder
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
