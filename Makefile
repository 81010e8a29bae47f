# Targets that people and CI call. Needs Python 3.11 or newer and make; `make test` starts Postgres
# and Kafka where it can (docs/operations.md says how). ARGS is passed on: make run ARGS=--no-sample
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

VENV ?= .venv
BIN := $(VENV)/bin
# Progress goes to standard error: standard output belongs to the program that is run.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip compile --quiet --universal --generate-hashes \
	--python-version 3.11 --no-header
IMAGE ?= auth0-provisioner:dev
# One Postgres and one Kafka serve all workers; PARALLEL= runs one test after the other.
PARALLEL ?= -n auto
# Half as many workers again as there are cores in the quick ring: its tests wait for one thing or
# another a third of their time. The slow ring's load every core themselves.
WORKERS = $$(( $$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) * 3 / 2 ))
BASE ?= python:3.11-slim-bookworm
# The tests start the program a few hundred times: it is compiled for the first of them alone.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run test check static kill bench fuzz schemas requirements requirements-fresh fmt image clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

setup: $(VENV)/.runtime ## create .venv with the application, run-time dependencies only

run: setup ## everything in one process: SQLite, the Auth0 simulator, sample organizations
	@exec $(BIN)/provisioner dev $(ARGS)

test: $(VENV)/.dev ## all tests but the slow ones that kill processes over and over
	@PYTEST_XDIST_AUTO_NUM_WORKERS=$${PYTEST_XDIST_AUTO_NUM_WORKERS:-$(WORKERS)} \
		$(BIN)/python -m pytest -m "not kill" $(PARALLEL) $(ARGS)

check: static test kill ## what CI runs

static: $(VENV)/.dev requirements-fresh
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m operators.schemas --check

schemas: $(VENV)/.dev ## write docs/outcomes from the code; ARGS=--release makes today's the released ones
	$(BIN)/python -m operators.schemas $(ARGS)

kill: $(VENV)/.dev ## only the slow tests: processes killed over and over, laws on all their examples
	TEST_EXAMPLES=all $(BIN)/python -m pytest -m "kill or examples" $(PARALLEL) $(ARGS)

bench: $(VENV)/.dev ## benchmarks, peers side by side; ARGS=--quick for a short form of them
	@$(BIN)/python -m bench $(ARGS)

fuzz: $(VENV)/.dev ## a hundred thousand random SCIM requests, every answer looked at
	$(BIN)/python -m bench.fuzz $(ARGS)

fmt: $(VENV)/.dev ## format, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pins stay as they are unless pyproject.toml asks otherwise; UPGRADE=--upgrade takes the newest.
requirements: $(BIN)/uv ## compile requirements/*.txt from pyproject.toml
	$(COMPILE) $(UPGRADE) pyproject.toml -o requirements/runtime.txt
	$(COMPILE) $(UPGRADE) pyproject.toml --extra dev -c requirements/runtime.txt -o requirements/dev.txt
	$(COMPILE) $(UPGRADE) bench/peers/requirements.in -c requirements/runtime.txt -o bench/peers/requirements.txt

requirements-fresh: $(BIN)/uv
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && cp requirements/*.txt "$$fresh" && \
	$(COMPILE) pyproject.toml -o "$$fresh/runtime.txt" >/dev/null && \
	$(COMPILE) pyproject.toml --extra dev -c requirements/runtime.txt -o "$$fresh/dev.txt" >/dev/null && \
	diff -r requirements "$$fresh" >&2 || \
	{ echo "requirements/ does not follow from pyproject.toml: run 'make requirements'" >&2; exit 1; }

image: ## build the container image with docker or buildah
	@if command -v docker >/dev/null && docker info >/dev/null 2>&1; then \
		docker build --build-arg BASE=$(BASE) --tag $(IMAGE) .; \
	elif command -v buildah >/dev/null; then \
		buildah build --format docker --build-arg BASE=$(BASE) --tag $(IMAGE) .; \
	else echo "make image needs a running docker, or buildah" >&2; exit 1; fi

clean: ## remove the virtual environment and caches; keeps the data of make run
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# Not through .dev: what is compiled here decides what .dev installs.
$(BIN)/uv:
	@$(MAKE) --no-print-directory $(VENV)/.dev

$(BIN)/python:
	@for candidate in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "creating $(VENV) with $$candidate" >&2; \
			exec "$$candidate" -m venv $(VENV) >&2; \
		fi; \
	done; \
	echo "Python 3.11 or newer is needed; name it with PYTHON=/path/to/python3" >&2; exit 1

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(BIN)/python
	@echo "installing run-time dependencies into $(VENV)" >&2
	@$(PIP) install --require-hashes --requirement requirements/runtime.txt >&2
	@$(PIP) install --no-deps --editable . >&2
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	@echo "installing development dependencies into $(VENV)" >&2
	@$(PIP) install --require-hashes --requirement requirements/dev.txt >&2
	@touch $@
