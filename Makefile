# Two commands: `make demo` (the main job on this machine) and `make test` (lint, types, import contract, house, tests).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= runs/demo
PIP    := $(BIN)/python -m pip --disable-pip-version-check
# Files of tests go side by side to as many workers: three more than two cores, as tests also wait for devices.
WORKERS ?= 5
# The tests start hundreds of processes: Python keeps what it compiled, also where it was told not to.
export PYTHONDONTWRITEBYTECODE =
PYTEST := MAKE_BEGAN=$(shell date +%s) $(BIN)/python -m pytest

.PHONY: demo test test-full lint types style house install clean

demo: $(VENV)/.installed
	$(BIN)/fbprof measure --device local --space fbnet-tiny --runtime litert -o $(DEMO)/local.csv
	$(BIN)/fbsearch run --lut $(DEMO)/local.csv --data digits --preset quick -o $(DEMO)/search
	$(BIN)/fbprof verify $(DEMO)/search/arch.json --lut $(DEMO)/local.csv --device local

test: $(VENV)/.installed
	@$(MAKE) --no-print-directory --jobs 2 lint house # two cores
	@tests/install_peers.sh
	$(PYTEST) --max-worker-restart 0 --tx '$(WORKERS)*popen//python=$(BIN)/python tests/peers/processes.py' --dist loadfile --no-loadscope-reorder $(EVERY)

test-full: EVERY = -m ""
test-full: test

lint: types style

types: $(VENV)/.installed
	$(BIN)/mypy

style: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

house: $(VENV)/.installed
	$(BIN)/python benchmarks/house.py --check

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fbnet-lab needs Python 3.11 or newer; choose one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is incomplete here; on Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --upgrade pip # reads long lists of files in half the time
	$(PIP) install --quiet --no-compile --constraint constraints.txt --editable '.[dev]' # Python compiles what it imports
	$(PIP) install --quiet --no-compile --no-deps --constraint constraints.txt executorch timm safetensors openvino # all that is needed
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
