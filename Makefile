# Two commands do everything on a machine with python3 and make: `make demo` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint types readme clean

demo: $(INSTALLED)
	$(BIN)/tunewright demo

# A process for each of two cores: small models gain nothing from threads.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

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
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,track,onnx,quant,dev]"
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) runs
