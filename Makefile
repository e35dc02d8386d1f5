# `make demo` and `make test` are all that a fresh machine with Python and make needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_DOCS := $(VENV)/.installed-docs

.PHONY: demo test faults architectures check docs clean

demo: $(INSTALLED)
	$(BIN)/gru demo --out runs/demo

# A file's tests share their models, so a file stays in one process.
test: $(INSTALLED_DEV)
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile

# Kills real runs at random moments, and fills a disk; minutes.
faults: $(INSTALLED_DEV)
	$(BIN)/pytest -m campaign tests/test_faults.py

# Tiny models of every architecture, and docs/reference/architectures.md with what came of it; minutes.
architectures: $(INSTALLED_DEV)
	$(BIN)/python tests/architectures.py

check: $(INSTALLED_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/shape.py --check

# The reference pages are written from the installed program: a fresh environment reads all pages anew, since it may have changed.
docs: $(INSTALLED_DOCS)
	$(BIN)/sphinx-build --fresh-env --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

$(VENV)/pyvenv.cfg:
	$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 11) else 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)

# torch comes first and alone: its pin decides which build the rest is resolved against.
$(INSTALLED): $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) --editable .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP_INSTALL) --editable ".[dev]"
	@touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	$(PIP_INSTALL) --editable ".[docs]"
	@touch $@

clean:
	rm -rf $(VENV) runs docs/_build
