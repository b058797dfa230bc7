# The entry points. Each makes what it needs: a .venv with the package, and the extra packages of that target.
# PYTHON=python3.12 make test chooses another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt
# A new package has to be installed again to be found: its __init__.py counts as a source of the build.
SOURCES := pyproject.toml CMakeLists.txt $(wildcard cpp/*/*.cpp cpp/*/*.hpp src/rmsprop/*/__init__.py)

PAGE := src/rmsprop/lab/page/index.html
NPM := $(shell command -v npm)

.PHONY: help demo lab test lint format bench docs sanitize clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.demo ## train a small network on real handwritten digits: RMSprop beside four rivals
	$(BIN)/rmsprop race digits

lab: $(VENV)/.demo $(PAGE) ## open the lab: a local page to watch optimizers, change them and scrub through time
	$(BIN)/rmsprop lab

test: $(VENV)/.test $(if $(NPM),$(PAGE)) ## every test, offline
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.test $(if $(NPM),web/node_modules/.installed) ## ruff, mypy, import-linter, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror cpp/*/*.cpp cpp/*/*.hpp
	$(if $(NPM),cd web && npm run --silent check)

format: $(VENV)/.test ## rewrite the sources in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i cpp/*/*.cpp cpp/*/*.hpp

bench: $(VENV)/.test ## measured ratios against the memory limit and the peers; BENCH=--quick for a minute
	$(BIN)/python -m bench $(BENCH)

docs: $(VENV)/.test ## write the generated page and the pictures again
	$(BIN)/python docs/generate.py

sanitize: $(VENV)/.test ## the kernel's tests under the address and undefined-behaviour sanitizers
	bench/sanitize.sh $(BIN)/python

clean: ## remove what was built; runs/ stays
	rm -rf $(VENV) build dist web/node_modules src/rmsprop/lab/page

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

# Rebuilt when the C++ changes; Python sources are used in place.
$(VENV)/.built: $(SOURCES) requirements/constraints.txt | $(VENV)/bin/python
	$(PIP) "scikit-build-core>=0.10" "nanobind>=2.4" cmake ninja
	$(PIP) --no-build-isolation --editable .
	@touch $@

$(VENV)/.demo: $(VENV)/.built
	$(PIP) --no-build-isolation --editable ".[lab]"
	@touch $@

$(VENV)/.test: $(VENV)/.built requirements/test.txt
	$(PIP) --no-build-isolation --editable ".[lab,dev]" -r requirements/test.txt
	@touch $@

# The lab's page: built from the lock file's versions, when a source is newer. Who has no Node gets it in the wheel.
web/node_modules/.installed: web/package-lock.json
	cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(PAGE): $(wildcard web/src/* web/*.mjs web/*.json) web/node_modules/.installed
	cd web && npm run --silent build
