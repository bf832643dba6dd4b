# Two commands do everything on a machine with python3 and make: `make demo` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint types versions readme docs docs-test clean

demo: $(INSTALLED)
	$(BIN)/tunewright demo

# A process for each of two cores: small models gain nothing from threads.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(INSTALLED)
	$(BIN)/ruff check src tests benchmarks docs examples
	$(BIN)/ruff format --check src tests benchmarks docs examples

types: $(INSTALLED)
	$(BIN)/mypy

# About 300 tests with the lowest versions that pyproject.toml names, and with the newest of the package index.
versions: $(INSTALLED)
	PYTHON=$(BIN)/python tests/versions.sh

readme: $(INSTALLED)
	$(BIN)/python -m pytest tests/test_readme.py

# The site, into docs/_build/html; every warning is an error.
docs: $(INSTALLED)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build/html

# Every code block of the site is run, and every example.
docs-test: $(INSTALLED) docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile docs examples/test_examples.py

# torch first, at the pinned version: a range would fetch the newest build with everything for a GPU.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,track,onnx,quant,dev,docs]"
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) runs docs/_build
