# All work happens in .venv (test-all: .venv-all, bench: also .venv-mediapipe); nothing else on the machine is changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ALL := .venv-all
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
NOTEBOOK := notebooks/01_get_train_data.ipynb
DEMO := reports/demo
# files of expected skip reasons, such as tests/expected_skips/machine.txt; a test skipped for another reason is a failure
EXPECTED_SKIPS ?=
PYTEST := -m pytest $(addprefix --expected-skips ,$(EXPECTED_SKIPS))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all quick lint lab sample bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/setup ## create .venv with detectime (editable) and no extras, pinned by constraints.txt

demo: setup ## run the notebook on the sample; results and an HTML report in reports/demo
	@rm -rf $(DEMO)
	@mkdir -p $(DEMO)
	$(BIN)/papermill $(NOTEBOOK) $(DEMO)/report.ipynb --no-progress-bar \
		-p images data/sample/TRAIN_DATA -p labels data/sample/train.csv -p output $(DEMO)
	$(BIN)/python -m detectime.report $(DEMO)/report.ipynb $(DEMO)/report.html
	@echo
	@echo "The samples:   $(DEMO)/hands.json"
	@echo "Every frame:   $(DEMO)/outcomes.csv"
	@echo "The notebook:  $(DEMO)/report.ipynb"
	@echo "The report:    $(DEMO)/report.html   (open it in a browser)"

test: $(VENV)/test lint ## check style and types, and run all tests that need no extra
	$(BIN)/python $(PYTEST)

test-all: $(ALL)/ready ## create .venv-all with every extra (9 GB), and run the tests that need one
	$(ALL)/bin/python -m pip check
	$(ALL)/bin/mypy --cache-dir $(ALL)/mypy_cache
	$(ALL)/bin/python $(PYTEST) -m extra

quick: $(VENV)/test ## run only the quick tests
	$(BIN)/python $(PYTEST) -m "not slow"

lint: $(VENV)/test ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/nbstripout --verify notebooks/*.ipynb

lab: setup ## open the notebook in JupyterLab
	@$(PIP) -e '.[lab]'
	$(BIN)/jupyter lab $(NOTEBOOK) $(if $(filter 0,$(shell id -u)),--allow-root)

sample: setup ## render data/sample again
	@$(PIP) -e '.[sample]'
	$(BIN)/python -m tools.render_sample

bench: setup ## measure cost, quality and throughput on the sample, and of MediaPipe in .venv-mediapipe (1 GB)
	$(BIN)/python -m benchmarks

clean: ## remove the environments and the reports
	rm -rf $(VENV) $(ALL) .venv-mediapipe reports

define check_python
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "detectime needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Choose another: make PYTHON=python3.12 …"; exit 1; }
endef

$(VENV)/python:
	$(check_python)
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/setup: $(VENV)/python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/test: $(VENV)/python pyproject.toml constraints.txt
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/setup

$(ALL)/ready: pyproject.toml constraints.txt requirements.txt
	$(check_python)
	$(PYTHON) -m venv $(ALL)
	$(ALL)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
