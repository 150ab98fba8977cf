# Everything is set up by these targets; each makes .venv when it is missing or when the project file has changed.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test slow lint bench clean

# torch first and exactly: see constraints.txt.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(shell grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/ready
	$(BIN)/python demo/demo.py --out demo-output

test: $(VENV)/ready lint
	$(BIN)/python -m pytest -n 2 --quiet -m "not gpu and not network and not slow"

slow: $(VENV)/ready
	$(BIN)/python -m pytest --quiet -m "slow and not gpu and not network"

lint: $(VENV)/ready
	$(BIN)/ruff check src tests bench tools demo
	$(BIN)/ruff format --check --quiet src tests bench tools demo
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(VENV)/ready
	for script in bench/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) demo-output runs lapis-index
