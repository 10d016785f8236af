# One virtual environment for everything, made from the lock by the first target that needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# The workers share the tests as tests/sharing.py says; WORKERS=0 runs them in one process. One of three waits for
# Prefect, and the others have two processors busy.
WORKERS ?= 3
# Pytest keeps the modules of the tests with their assertions rewritten, which takes as long as all else until the first
# test: also where PYTHONDONTWRITEBYTECODE says that importing keeps nothing.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

.PHONY: demo test test-all compiled check docs screenshots bench system clean install lock format

demo: install
	$(BIN)/freshline demo

test: install compiled
	$(PYTEST)

test-all: install compiled
	$(PYTEST) -m "slow or not slow"

# Tests start hundreds of programs that import the package. It is compiled once, also where PYTHONDONTWRITEBYTECODE
# says that importing keeps nothing.
compiled: install
	@$(BIN)/python -m compileall -q storage lineage deployments runs flows

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	cd .dev && ../$(BIN)/lint-imports --config ../pyproject.toml --no-cache

# The parts of the reference pages that come from the code; what is written by hand stays.
docs: install
	$(BIN)/python -m tests.reference

# Pictures of the page in docs/screenshots, which git leaves out; needs a Chromium, as the browser tests do.
screenshots: install
	$(BIN)/python -m tests.screenshots

bench: install
	$(BIN)/python -m benchmarks

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The Debian packages that browser tests need; everything else is Python.
system:
	@command -v chromium >/dev/null || { \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; }

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml hatch_build.py
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Freshline needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	test -x $(UV) || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

# Exact versions with hashes, and no registry address, for every Python from 3.11 on.
lock:
	test -x $(UV) || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --extra quant --group dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) .bench .dev dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
