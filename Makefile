# Each target creates .venv from the lock file when it is missing or out of date; nothing else is needed
# beforehand but python3 (>= 3.11) and make. PIP_ARGS is passed to pip (an index of CPU builds, a proxy, ...).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON3 ?= python3
PIP_ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
OUT ?= demo-output
ROUNDS ?= 10
JOBS ?= 2
GOLDEN ?= tests/golden/data
PYTEST_ARGS ?=
CHAOS_ARGS ?=

# Worker processes share the cores: one OpenMP thread each.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.PHONY: help install demo test check format golden chaos lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

install: $(STAMP)  ## create .venv from the lock file

$(STAMP): requirements/lock.txt requirements/dev.txt pyproject.toml
	test -x $(PY) || $(PYTHON3) -m venv $(VENV)
	$(PY) -m pip install -qq $(PIP_ARGS) -r requirements/dev.txt
	$(PY) -m pip install -qq $(PIP_ARGS) --no-deps --no-build-isolation -e .
	touch $@

demo: $(STAMP)  ## 16 objects from images to meshes and a report, on the CPU, into OUT=demo-output
	$(PY) -m workflows.demo --out $(OUT)
	$(VENV)/bin/geco generate --manifest $(OUT)/manifest.parquet --out $(OUT)/run --system geco shard_size=8
	$(VENV)/bin/geco report $(OUT)/run

test: $(STAMP)  ## the test suite without the slow and the gpu tests
	$(PY) -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

check: $(STAMP)  ## formatting, lint and types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m pyright

format: $(STAMP)  ## format the code and apply the safe fixes
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

golden: $(STAMP)  ## replay the golden vectors (GOLDEN=folder for another set)
	$(PY) -m tests.golden $(GOLDEN) --strict

chaos: $(STAMP)  ## ROUNDS=n random kills over a local disk and two S3 servers, and the table of what they did
	$(PY) -m tests.chaos.campaign --rounds $(ROUNDS) $(CHAOS_ARGS)

lock: $(STAMP)  ## rewrite requirements/*.txt from the versions installed in .venv
	$(PY) requirements/lock.py

clean:  ## remove .venv, caches and demo output
	rm -rf $(VENV) demo-output build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
