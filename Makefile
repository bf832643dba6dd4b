# Two commands do everything on a machine with python3 and make: `make demo` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint types readme clean

demo: $(INSTALLED)
	$(BIN)/tunewright demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks

types: $(INSTALLED)
	$(BIN)/mypy

readme: $(INSTALLED)
	$(BIN)/python -m pytest tests/test_readme.py

# torch first, at the pinned version: a range would fetch the newest build with everything for a GPU.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,track,onnx,dev]"
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) runs
