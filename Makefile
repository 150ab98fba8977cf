# Each target sets up what it needs in .venv, again when the project file has changed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test slow lint bench clean

# torch first and exactly: see constraints.txt. `demo` needs less than `test`, so each has a mark of its own.
define install
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(shell grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(1)]'
	touch $@
endef

$(VENV)/for-demo: pyproject.toml constraints.txt
	$(call install,demo)

$(VENV)/for-test: pyproject.toml constraints.txt
	$(call install,dev)

demo: $(VENV)/for-demo
	$(BIN)/python demo/demo.py --out demo-output

test: lint
	$(BIN)/python -m pytest -n 2 --quiet -m "not gpu and not network and not slow"

slow: $(VENV)/for-test
	$(BIN)/python -m pytest --quiet -m "slow and not gpu and not network"

lint: $(VENV)/for-test
	$(BIN)/ruff check src tests bench tools demo
	$(BIN)/ruff format --check --quiet src tests bench tools demo
	$(BIN)/basedpyright --level error
	$(BIN)/lint-imports

bench: $(VENV)/for-test
	for script in bench/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) demo-output runs lapis-index
