# `make demo` and `make test` are all that a fresh machine with Python and make needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_DOCS := $(VENV)/.installed-docs

.PHONY: demo test faults architectures check lowest wheel pages notebooks cases real docs clean

demo: $(INSTALLED)
	$(BIN)/gru demo --out runs/demo

# A file's tests share their models, so a file stays in one process; files in the order of tests/conftest.py.
test: $(INSTALLED_DEV)
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Kills real runs at random moments, fills a disk, starts many processes; minutes.
faults: $(INSTALLED_DEV)
	$(BIN)/pytest -m campaign

# Tiny models of every architecture, and docs/reference/architectures.md with what came of it; minutes.
architectures: $(INSTALLED_DEV)
	$(BIN)/python tests/architectures.py

check: $(INSTALLED_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/shape.py --check

# The oldest versions that pyproject.toml allows, of all but torch, whose old builds are gigabytes: uv keeps what pip put there.
# The tests are those that meet most of other libraries.
LOWEST := $(VENV)/lowest
lowest: $(INSTALLED_DEV)
	$(BIN)/python -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --no-deps --constraint constraints.txt torch
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable ".[dev]"
	$(LOWEST)/bin/pytest --numprocesses logical --maxprocesses 4 --dist loadfile -m "not slow and not campaign and not real" \
		tests/test_bad_input.py tests/test_cli.py tests/test_evaluation_command.py tests/test_export.py tests/test_words.py

# What a stranger gets: the wheel, in an environment of its own and outside this folder, with the newest of everything but torch.
STRANGER := $(VENV)/stranger
wheel: $(INSTALLED)
	rm -rf $(STRANGER) && $(BIN)/python -m venv $(STRANGER)
	$(STRANGER)/bin/python -m pip wheel --quiet --no-deps --wheel-dir $(STRANGER)/dist .
	$(STRANGER)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(STRANGER)/bin/python -m pip install --quiet $(STRANGER)/dist/*.whl
	cd $(STRANGER) && bin/gru demo --out demo

# What README, tutorial and the page on own data tell people to do, literally, in one folder; ten minutes. The tests do the same
# with a few steps of each run.
pages: $(INSTALLED_DEV)
	$(BIN)/python tools/follow_pages.py

# Runs the notebooks of the documentation, and writes into them what they print; half a minute.
notebooks: $(INSTALLED_DEV)
	$(BIN)/python tools/notebooks.py

# Small inputs on which something once failed, beside the project in ../shared/cases; minutes.
cases: $(INSTALLED_DEV)
	$(BIN)/pytest -m real tests/test_shared_cases.py

# A real pretrained model, made from a package and ../shared/reference; minutes, and two gigabytes in the cache.
real: $(INSTALLED_DEV)
	$(BIN)/pytest -m real tests/test_real_model.py

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
