# All that a machine needs: Python >= 3.11, make and a C compiler. The rest comes pinned by hash, into .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo gpu-demo study kube-demo test lint units thorough native native-proof wheels controlplane kubernetes bench mutants docs chart lock clean
# Compiled modules must be kept, or every command would compile gpumax anew.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
PATHS := src tests bench examples docs interposer hatch_build.py
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 3
REPORT ?= study-report
DIST ?= dist
# Which version of Kubernetes its tests run on: newest, or oldest that is supported.
CONTROLPLANE ?= newest

# Stamps carry what they were made from, so that a changed lock, a moved checkout or a branch sets up anew.
key = $(shell { pwd; cat $(1); } | cksum | tr -d ' ')
RUN := .venv/.run-$(call key,requirements/run.txt pyproject.toml hatch_build.py)
TOOLCHAIN := .venv/.wheels-$(call key,requirements/run.txt requirements/wheels.txt pyproject.toml)
DEV := .venv/.dev-$(call key,requirements/run.txt requirements/cluster.txt requirements/dev.txt pyproject.toml)

FIND_PYTHON = for p in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	  $$p -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; done; \
	echo "gpumax needs Python 3.11 or newer with its venv module; none was found in PATH (PYTHON=/path/to/python names one)" >&2; exit 1

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

demo: $(RUN) ## two teams share eight GPUs: about half a minute
	@$(BIN)/python examples/demo.py

gpu-demo: $(DEV) native ## three models of 10 GiB on one emulated GPU of 16 GiB, then two programs at 70/30: less than a minute
	@$(BIN)/python examples/gpu_demo.py

study: $(RUN) ## ten days of four teams under six policies, and a report of it: less than a minute
	@$(BIN)/gpumax simulate examples/study/scenario.yaml --out $(REPORT) --jobs $(WORKERS)

kube-demo: controlplane ## two teams share 64 GPUs of a Kubernetes cluster: half a minute, once its programs are built (with Go)
	@$(BIN)/python examples/kube_demo.py

test: lint units ## everything that must hold: lint, types, import contracts, every test

lint: $(DEV) ## style, types, import contracts
	$(BIN)/ruff check $(PATHS)
	$(BIN)/ruff format --check $(PATHS)
	$(BIN)/mypy
	$(BIN)/lint-imports

units: $(DEV) native ## the tests, those of the README's code blocks among them
	$(PYTEST) -n $(WORKERS) --dist worksteal

thorough: $(DEV) native ## what takes too long for every day: the slow tests, and those that look at many more cases, with ten times as many and more: a quarter of an hour
	THOROUGH=1 $(PYTEST) -n $(WORKERS) --dist worksteal -m 'slow or deep'

# Set-up compiles them, too; this follows changes of their sources.
native: $(RUN) ## the native libraries (emulated driver, layer under CUDA), into src/gpumax/native
	@$(MAKE) -s -C interposer OUT=$(CURDIR)/src/gpumax/native OBJ=$(CURDIR)/build/native PYTHON=$(CURDIR)/$(BIN)/python

native-proof: $(DEV) native ## the native libraries under valgrind and the compilers' checks, fed with what nobody would write: about five minutes
	$(PYTEST) -n $(WORKERS) -rs tests/native

wheels: $(DEV) $(TOOLCHAIN) ## portable wheels for x86-64 and aarch64 into dist/, looked at, installed and run
	@$(BIN)/python interposer/wheels.py $(DIST)
	DIST=$(abspath $(DIST)) $(PYTEST) -rs tests/wheels

controlplane: $(DEV) ## build Kubernetes' own programs for its tests, with Go: ten minutes or more the first time, kept outside the checkout
	@$(BIN)/python tests/controlplane/build.py $(CONTROLPLANE) kwok helm

kubernetes: $(DEV) ## the tests against a real API server: CONTROLPLANE=oldest, or USE_EXISTING_CLUSTER=1 and KUBECONFIG for another, with gpumax installed
	@if [ -z "$$USE_EXISTING_CLUSTER" ] && command -v go >/dev/null; then $(MAKE) -s controlplane; fi
	CONTROLPLANE=$(CONTROLPLANE) $(PYTEST) -rs tests/controlplane

bench: $(RUN) native ## the README's figures, measured here and now
	@$(BIN)/python bench/all.py

mutants: $(DEV) ## which faults in policy/ no test finds: 200 drawn ones, a quarter of an hour (MUTANTS='--sample 0': all)
	@$(BIN)/python bench/mutants.py $(MUTANTS)

docs: $(RUN) ## write the parts of docs/reference that follow from the code
	@$(BIN)/python docs/generate.py

chart: ## copy our kinds of objects and policies into the Helm chart, which can read its own files alone
	@for each in crds guard; do cp src/gpumax/engines/kubernetes/$$each/*.yaml charts/gpumax/files/$$each/; done

$(RUN):
	@python=$$($(FIND_PYTHON)) && \
	echo "set-up: a Python environment in .venv ($$($$python --version))" && \
	rm -rf .venv && $$python -m venv .venv
	@echo "set-up: $$(grep -c == requirements/run.txt) packages, pinned by hash"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q src && touch $@

$(DEV): $(RUN)
	@echo "set-up: $$(grep -c == requirements/dev.txt) packages for the tests, pinned by hash"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/run.txt \
	  -r requirements/cluster.txt -r requirements/dev.txt
	@touch $@

$(TOOLCHAIN): $(DEV)
	@echo "set-up: a C compiler for other machines, pinned by hash: about 100 MB"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/wheels.txt
	@touch $@

# For the oldest Python that is supported; markers are kept, so newer ones use the same files.
COMPILE = CUSTOM_COMPILE_COMMAND='make lock' PIP_FIND_LINKS= .venv/lock/bin/pip-compile -q --upgrade --generate-hashes \
	--no-emit-options --no-emit-index-url --strip-extras
LISTED = $(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))
# cluster.txt: what the parts that run in a cluster need beyond run.txt.
lock: $(RUN) ## pin the newest versions that pyproject.toml allows
	$(BIN)/python -m venv .venv/lock && .venv/lock/bin/pip install -q pip-tools==7.6.2
	$(COMPILE) --build-deps-for editable -o requirements/run.txt pyproject.toml
	for part in webhook agent; do $(LISTED)["project"]["optional-dependencies"]["'$$part'"], sep="\n")'; done \
	| $(COMPILE) -c requirements/run.txt -o requirements/cluster.txt -
	$(LISTED)["dependency-groups"]["dev"], sep="\n")' \
	| $(COMPILE) -c requirements/run.txt -c requirements/cluster.txt -o requirements/dev.txt -
	$(LISTED)["dependency-groups"]["wheels"], sep="\n")' \
	| $(COMPILE) -c requirements/run.txt -c requirements/dev.txt -o requirements/wheels.txt -

clean: ## remove what the other targets made
	rm -rf .venv build src/gpumax/native/*.so study-report dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests bench examples docs -name __pycache__ -type d -prune -exec rm -rf {} +
