# The entry points. Each makes what it needs: a .venv with the package, and the extra packages of that target.
# PYTHON=python3.12 make test chooses another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt
# A new package has to be installed again to be found: its __init__.py counts as a source of the build.
SOURCES := pyproject.toml CMakeLists.txt $(wildcard cpp/*/*.cpp cpp/*/*.hpp cpp/cuda/std/* src/rmsprop/*/__init__.py)

PAGE := src/rmsprop/lab/page/index.html
RACE ?= all
FUZZ_SECONDS ?= 600
NPM := $(shell command -v npm)

# Original implementations whose dependencies conflict with those of the tests: an environment each. UPSTREAM=mlx for one.
UPSTREAM := paddle mlx bitsandbytes heavyball
paddle_NEEDS := paddlepaddle==3.3.1 setuptools
mlx_NEEDS := mlx[cpu]==0.32.4
bitsandbytes_NEEDS := bitsandbytes==0.50.2
heavyball_NEEDS := heavyball==3.2.1

.PHONY: help demo races lab lab-site data test test-fast coverage lint format bench gpu docs docs-serve pages peers \
	sanitize fuzz chaos wheel clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.demo ## a tour in five parts, under 30 seconds: sentences, and the page runs/demo/index.html
	$(BIN)/rmsprop demo

# A page that tells of more tasks than runs/races holds stays as it is: docs/races.py.
races: $(VENV)/.race ## hours: race every task and write docs/why/races.md; RACE=digits,mnist for some
	$(BIN)/rmsprop race "$(RACE)," --fetch --resume $(if $(OPTIMIZERS),--with $(OPTIMIZERS)) --out runs/races; status=$$?; \
	$(BIN)/python docs/races.py runs/races; exit $$status

lab: $(VENV)/.demo $(PAGE) ## open the lab: a local page to watch optimizers, change them and scrub through time
	$(BIN)/rmsprop lab

lab-site: $(PAGE) ## the lab as a folder for any web server: build/lab
	rm -rf build/lab && mkdir -p build && cp -r $(dir $(PAGE)) build/lab

data: $(VENV)/.built ## fetch the real data of the benchmark tasks: about 60 MB, into the user's cache folder; DATA=all: 84 MB more
	$(BIN)/python -m rmsprop.race.fetch $(DATA)

test: $(VENV)/.test $(if $(NPM),$(PAGE)) ## every test, offline
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: $(VENV)/.test $(if $(NPM),$(PAGE)) ## the tests without the slow ones, the browser, several processes and other libraries: 90 seconds
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not (slow or browser or distributed or peers or chaos)"

coverage: $(VENV)/.test $(if $(NPM),$(PAGE)) ## every test, and which lines of src no test reaches
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(VENV)/.test $(if $(NPM),web/node_modules/.installed) ## ruff, mypy, import-linter, clang-format, zizmor on the workflows, the page's checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror cpp/*/*.cpp cpp/*/*.hpp
	$(BIN)/zizmor --offline --quiet .github
	$(if $(NPM),cd web && npm run --silent check)

format: $(VENV)/.test ## rewrite the sources in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i cpp/*/*.cpp cpp/*/*.hpp

bench: $(VENV)/.test ## measured ratios against the memory limit and the peers; BENCH=--quick for a minute
	$(BIN)/python -m bench $(BENCH)

# In the Python that has torch with CUDA: PYTHON=... make gpu. Offline: scikit-build-core and nanobind must be there.
gpu: ## on a machine with a GPU: its bits against the CPU's, torch's tests, speed; writes docs/reference/gpu.md
	@$(PYTHON) -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2>/dev/null || \
	{ echo "make gpu needs a CUDA GPU and a torch that sees it in $(PYTHON); PYTHON=... names another Python"; exit 1; }
	$(PYTHON) -m pip install --quiet --no-build-isolation --no-deps .
	$(PYTHON) -m bench.gpu

docs: $(VENV)/.docs ## build the documentation site into build/site; a broken link or an undocumented public name fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(VENV)/.docs ## show the site at http://127.0.0.1:8000 while you edit it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

pages: $(VENV)/.test ## write the generated pages and pictures of docs/ again
	$(BIN)/python docs/generate.py

peers: $(UPSTREAM:%=peer-%) ## record the original implementations that cannot be installed beside the others; UPSTREAM=mlx for one

peer-%: .peers/%/.installed
	cd tests && ../.peers/$*/bin/python -m peers.record $*

.PRECIOUS: .peers/%/.installed
.peers/%/.installed: requirements/constraints.txt
	$(PYTHON) -m venv .peers/$*
	.peers/$*/bin/python -m pip install --quiet --disable-pip-version-check -c $< numpy $($*_NEEDS)
	@touch $@

sanitize: $(VENV)/.test ## the kernel's tests under the address, undefined-behavior and thread sanitizers
	bench/sanitize.sh $(BIN)/python

fuzz: $(VENV)/.fuzz ## readers, parsers and drawn programs under random input; FUZZ_SECONDS=60 for a minute
	FUZZ_EXAMPLES=$(FUZZ_SECONDS) $(BIN)/python -m pytest -q tests/test_state_machine.py --timeout 0
	$(BIN)/python tests/fuzz/fuzz.py $(FUZZ_SECONDS)

# Pure Python 3 of a failed build has no platform: auditwheel refuses it. The second environment has no compiler's packages.
wheel: $(VENV)/.wheel $(if $(NPM),$(PAGE)) ## sdist and wheel in dist/, checked, and tried in an empty environment
	rm -rf dist build/empty
	$(BIN)/python -m build --outdir build/dist
	$(BIN)/python -m auditwheel repair --wheel-dir dist build/dist/*-linux_*.whl
	mv build/dist/*.tar.gz dist && rm -rf build/dist
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv build/empty
	wheel=$$(echo dist/*.whl) && CC=false CXX=false build/empty/bin/python -m pip install --quiet --only-binary :all: "$$wheel[lab]"
	cd build && PATH= empty/bin/python -I ../tests/wheel_smoke.py

chaos: $(VENV)/.test ## kill, interrupt and starve the commands: 20 minutes; as root on full and read-only disks too
	$(BIN)/python -m pytest -q -m "" tests/chaos

clean: ## remove what was built; runs/ stays
	rm -rf $(VENV) .peers build dist web/node_modules src/rmsprop/lab/page

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

$(VENV)/.race: $(VENV)/.built
	$(PIP) --no-build-isolation --editable ".[lab,race]"
	@touch $@

$(VENV)/.test: $(VENV)/.built requirements/test.txt
	$(PIP) --no-build-isolation --editable ".[lab,dev]" -r requirements/test.txt
	$(PIP) --no-deps --upgrade --target $(VENV)/alone "timm==1.0.31"
	@touch $@

$(VENV)/.docs: $(VENV)/.built requirements/docs.txt
	$(PIP) -r requirements/docs.txt
	@touch $@

$(VENV)/.wheel: requirements/wheel.txt | $(VENV)/bin/python
	$(PIP) -r requirements/wheel.txt
	@touch $@

# atheris has wheels for Linux and Python 3.11 to 3.13.
$(VENV)/.fuzz: $(VENV)/.test
	$(PIP) "atheris==3.0.0"
	@touch $@

# The lab's page: built from the lock file's versions, when a source is newer. Who has no Node gets it in the wheel.
web/node_modules/.installed: web/package-lock.json
	cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(VENV)/.page: $(VENV)/.built requirements/page.txt
	$(PIP) -r requirements/page.txt
	@touch $@

# The page has the library's kernel and tables inside.
TABLES := $(addprefix src/rmsprop/,lab/tables.py landscapes.py optimizers.py rule.py dialects/*.py expression/*.py)
KERNEL := cpp/wasm/lab.cpp cpp/kernel/element.hpp cpp/kernel/rule.hpp
$(PAGE): $(wildcard web/src/* web/src/*/* web/*.mjs web/*.json $(TABLES)) $(KERNEL) web/node_modules/.installed $(VENV)/.page
	cd web && PYTHON=$(abspath $(BIN)/python) npm run --silent build
