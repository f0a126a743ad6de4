# All work happens in .venv (test-all: .venv-all and .venv-readers, docs: .venv-docs, bench: also
# .venv-mediapipe); nothing else on the machine is changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ALL := .venv-all
READERS := .venv-readers
DOCS := .venv-docs
# without bytecode of every module: Python makes that of what is imported
INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile
PIP := $(BIN)/python $(INSTALL) -c constraints.txt
DEMO := reports/demo
# files of expected skip reasons, such as tests/expected_skips/machine.txt; a test skipped for another reason is a failure
EXPECTED_SKIPS ?=
PYTEST := -m pytest $(addprefix --expected-skips ,$(EXPECTED_SKIPS))
# test files side by side, one per core, since most tests wait for processes they start; `make test PARALLEL=`: one by one
PARALLEL ?= -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# of `make fuzz`: how long, and which inputs
SECONDS ?= 60
SEED ?= 0

.DEFAULT_GOAL := help
.PHONY: help setup demo lab test test-all test-browser test-large quick fuzz lint ultralytics nightly wheel docs sample bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/setup ## create .venv with detectime (editable) and no extras, pinned by constraints.txt

demo: setup ## run on the rendered sample; results and a report in reports/demo
	@rm -rf $(DEMO)
	@$(BIN)/detectime demo $(DEMO)

lab: $(VENV)/lab ## open the notebook in JupyterLab
	@$(BIN)/detectime lab .

test: $(VENV)/test lint ## check style and types, and run all tests that need no extra
	$(BIN)/python $(PYTEST) $(PARALLEL) -m "not browser and not large"

test-all: $(ALL)/ready $(READERS)/supervision ## create .venv-all with every extra (10 GB), and run the tests that need one
	$(ALL)/bin/python -m pip check
	$(ALL)/bin/mypy --cache-dir $(ALL)/mypy_cache
	$(ALL)/bin/python $(PYTEST) $(PARALLEL) -m "extra and not browser and not large"
	$(READERS)/bin/python -m pytest tests/readers/check_supervision.py

test-browser: $(VENV)/browser ## try the reports and JupyterLab in Chrome or Chromium (DETECTIME_CHROME=PROGRAM: in that one)
	$(BIN)/python $(PYTEST) $(PARALLEL) -m "browser and not large" $$(grep -l 'mark.browser' tests/test_*.py)

test-large: $(VENV)/browser ## try what takes long: as many records as the largest sets, a run that moves to and fro
	$(BIN)/python $(PYTEST) $(PARALLEL) -m large

quick: $(VENV)/test ## run only the quick tests
	$(BIN)/python $(PYTEST) -m "not slow and not browser and not large"

fuzz: $(ALL)/ready ## read inputs changed at random, to find faults (SECONDS=60 SEED=0; reports/fuzz)
	$(ALL)/bin/python -m tools.fuzz --seconds $(SECONDS) --seed $(SEED)

lint: $(VENV)/test ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/nbstripout --verify notebooks/*.ipynb

ultralytics: $(READERS)/ultralytics ## read an export to YOLO with Ultralytics (AGPL), and train on it, in .venv-readers
	$(READERS)/bin/python -m pytest tests/readers/check_ultralytics.py

nightly: ## what takes too long for every change: the wheel in an empty environment, other releases of Python
	.ci/nightly

wheel: $(VENV)/python ## build dist/detectime-*.whl
	@echo "Building the wheel (pip downloads the build backend) …"
	@rm -f dist/detectime-*.whl
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

# not --quiet: it would hide warnings from --strict too
docs: $(DOCS)/ready ## build the site of these pages in reports/site; a dead link is an error
	NO_MKDOCS_2_WARNING=true $(DOCS)/bin/mkdocs build --strict
	@$(DOCS)/bin/python -m tools.check_site reports/site

sample: setup ## render data/sample again
	@echo "Installing the renderer into $(VENV) (about 500 MB, the first time) …"
	@$(PIP) -e '.[sample]'
	$(BIN)/python -m tools.render_sample

bench: setup ## measure cost, quality and throughput on the sample, and of MediaPipe in .venv-mediapipe (1 GB)
	$(BIN)/python -m benchmarks

clean: ## remove the environments and the reports
	rm -rf $(VENV) $(ALL) $(READERS) $(DOCS) .venv-mediapipe .venv-nightly reports dist

define check_python
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "detectime needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Choose another: make PYTHON=python3.12 …"; exit 1; }
endef

$(VENV)/python:
	$(check_python)
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/setup: $(VENV)/python pyproject.toml constraints.txt
	@echo "Installing detectime and what it needs into $(VENV) (about 800 MB, once) …"
	@$(PIP) -e .
	@touch $@

$(VENV)/lab: $(VENV)/setup
	@echo "Installing JupyterLab into $(VENV) (about 100 MB, once) …"
	@$(PIP) -e '.[lab]'
	@touch $@

$(VENV)/test: $(VENV)/python pyproject.toml constraints.txt
	@echo "Installing detectime and what its tests need into $(VENV) (about 1 GB, once) …"
	@$(PIP) -e '.[test]'
	@touch $@ $(VENV)/setup

$(VENV)/browser: $(VENV)/python pyproject.toml constraints.txt
	@echo "Installing what the tests in a browser need into $(VENV) (about 1.2 GB, once) …"
	@$(PIP) -e '.[test,browser,lab]'
	@touch $@ $(VENV)/lab $(VENV)/test $(VENV)/setup

$(ALL)/ready: pyproject.toml constraints.txt requirements.txt
	$(check_python)
	$(PYTHON) -m venv $(ALL)
	@echo "Installing detectime with every extra into $(ALL) (about 10 GB, once; several minutes) …"
	@$(ALL)/bin/python $(INSTALL) -r requirements.txt
	@touch $@

$(DOCS)/ready: docs/requirements.txt
	$(check_python)
	$(PYTHON) -m venv $(DOCS)
	@echo "Installing what builds the site into $(DOCS) (about 200 MB, once) …"
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# Readers of exports that bring opencv-python, which overwrites the headless one: they are installed without what they
# depend on, and borrow it from .venv-all.
$(READERS)/python: $(ALL)/ready
	$(ALL)/bin/python -m venv --clear $(READERS)
	@$(ALL)/bin/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		>"$$($(READERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/all.pth"
	@touch $@

$(READERS)/%: tests/readers/%.txt $(READERS)/python
	@$(READERS)/bin/python $(INSTALL) --no-deps -r $<
	@touch $@
