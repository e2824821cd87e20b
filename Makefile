# make demo   the main job through the real language server, on this machine as it is
# make test   static checks and the test suite, without the editors
# make test-editors   the main job in a real VS Code and a real Neovim, which it installs
# All set up .venv themselves, with the exact versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-editors lint format clean

setup: $(STAMP)

# torch comes first and by its exact version, so that no dependency drags in another build.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install -q torch
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install -q -e '.[dev,cuda13]'
	touch $@

demo: $(STAMP)
	$(BIN)/python examples/demo.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n auto \
		--ignore=tests/editors/test_vscode.py --ignore=tests/editors/test_neovim.py

# VS Code is what takes its time: it is built once, into build/editors.
test-editors: $(STAMP)
	$(BIN)/python tests/editors/install.py
	$(BIN)/python -m pytest tests/editors

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
