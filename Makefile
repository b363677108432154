# SPDX-License-Identifier: Apache-2.0
# `make demo` shows it, `make test` proves it. Nothing is written outside this folder.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CACHE := $(CURDIR)/.cache
VENV := .venv
CONTRACTS := $(shell find contracts -name '*.vy' -o -name '*.vyi')
PYTHON_SOURCES := setup.py gpubond scripts tests examples demo benchmarks ape_console_extras.py
PRESENT = $(wildcard $(PYTHON_SOURCES))

# Every tool keeps its files here, not in the user's home.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export APE_DATA_FOLDER := $(CURDIR)/.ape
export XDG_CACHE_HOME := $(CACHE)
export PIP_CACHE_DIR := $(CACHE)/pip
export UV_CACHE_DIR := $(CACHE)/uv
export npm_config_cache := $(CACHE)/npm
export IPYTHONDIR := $(CACHE)/ipython
export VVM_BINARY_PATH := $(CACHE)/vvm
export CUDA_CACHE_PATH := $(CACHE)/cuda
export PRE_COMMIT_HOME := $(CACHE)/pre-commit
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Compiled modules are kept: without them every start of Ape takes seconds longer.
unexport PYTHONDONTWRITEBYTECODE

# Of tests/integration, those that need no worker. `make test` has the deployments in the first lane of the market, and the
# others, which are late, in that of the programs.
LATE_TESTS := $(addprefix tests/integration/test_,bench_gas.py console.py verify_deployment.py)
DEPLOYMENT_TESTS := tests/integration/test_deploy.py $(LATE_TESTS)

.PHONY: help setup podman torch demo test test-contracts test-programs \
  test-market-1 test-market-2 test-unit test-stateful test-worker test-integration test-deployment test-exact \
  test-faults-sample test-fuzz test-mutation test-faults test-disputes test-disputes-rules \
  test-disputes-contracts tour bench-exact bench-exact-gas \
  bench-dispute bench-gas bench-worker bench-sandbox lint format abis constraints clean \
  system

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s ':'

setup: system $(VENV)/.dev $(VENV)/.contracts abis ## install everything into .venv, compile the contracts
	@echo "Ready. Put .venv/bin on your PATH: source .venv/bin/activate"

demo: system $(VENV)/.run $(VENV)/.contracts ## rent GPU time on a local chain, from setup to the bill
	@$(VENV)/bin/python demo/run.py

test: system podman $(VENV)/.dev $(VENV)/.contracts ## lint, then every test, four suites at a time
	@$(MAKE) lint
	ape run export_abis --check
	@$(MAKE) -j4 test-contracts test-programs test-market-1 test-market-2

# Chains in memory hash most of the time: these bindings are twice as quick as what eth-hash takes by itself.
test-unit test-stateful test-disputes-rules test-disputes-contracts: export ETH_HASH_BACKEND := pysha3

# Two of these need the processors, two wait for chains most of the time.
test-contracts:
	@$(MAKE) test-unit
	@$(MAKE) test-stateful

test-programs:
	@$(MAKE) test-worker
	@$(MAKE) test-faults-sample
	@$(MAKE) test-deployment DEPLOYMENT_TESTS="$(LATE_TESTS)"

# The halves of test-integration; the first has the deployments besides, so that all four take about as long.
test-market-1:
	python -m pytest -p no:ape_test $(filter-out $(LATE_TESTS),$(wildcard tests/integration/test_[a-g]*.py))

test-market-2:
	python -m pytest -p no:ape_test $(filter-out $(DEPLOYMENT_TESTS),$(wildcard tests/integration/test_[h-z]*.py))

test-worker: system podman $(VENV)/.dev $(VENV)/.contracts ## tests of the Python packages
	python -m pytest -p no:ape_test tests/worker tests/exact

test-unit: $(VENV)/.dev $(VENV)/.contracts ## tests of the contracts
	ape test tests/unit

test-stateful: $(VENV)/.dev $(VENV)/.contracts ## a sample of the fuzz run, the arithmetic by exhaustion, dispute games
	python -m pytest -p no:ape_test tests/exact_money tests/exact_contracts tests/disputes tests/stateful tests/mutation

test-disputes: system $(VENV)/.dev $(VENV)/.contracts ## disputes: the judge's arithmetic, trees and records against Python, a lie at every place, every pick, rescue attempts, 500 cheap games (a quarter of an hour)
	@$(MAKE) -j2 test-disputes-rules test-disputes-contracts

# Games by the rules in Python alone, and all that the contracts take part in: each a processor's work.
EVERY_DISPUTE := python -m pytest -p no:ape_test -m "extended or not extended" --durations 20
RULES_TESTS := $(addprefix tests/disputes/test_,soundness.py rules.py levels.py commitment_lies.py execution.py)
test-disputes-rules:
	$(EVERY_DISPUTE) $(RULES_TESTS)
test-disputes-contracts:
	$(EVERY_DISPUTE) tests/exact_contracts tests/disputes $(RULES_TESTS:%=--ignore=%)

test-integration: system podman $(VENV)/.dev $(VENV)/.contracts ## tests against a real local chain
	python -m pytest -p no:ape_test tests/integration $(DEPLOYMENT_TESTS:%=--ignore=%)

test-exact: system $(VENV)/.dev ## exact programs: every engine against the others, a million operands an operation (minutes)
	python -m pytest -p no:ape_test -m "extended or not extended" --durations 20 --hypothesis-show-statistics tests/exact

test-deployment: system $(VENV)/.dev $(VENV)/.contracts ## tests of Ape's commands, the console and the gas benchmark
	python -m pytest -p no:ape_test $(DEPLOYMENT_TESTS)

test-faults-sample: system $(VENV)/.dev $(VENV)/.contracts ## a few faults of each kind
	python -m pytest -p no:ape_test --timeout 900 tests/faults

test-fuzz: $(VENV)/.dev $(VENV)/.contracts ## a million random calls, contracts against model (half an hour)
	python -m tests.stateful.run --calls $(or $(CALLS),1000000) --seed $(or $(SEED),1) --jobs 2 \
	  --output benchmarks/results/fuzz.json

test-mutation: $(VENV)/.dev $(VENV)/.contracts ## mutants of the contracts that the tests must kill; goes on where it stopped
	python -m tests.mutation.run --sample $(or $(SAMPLE),300) --seed $(or $(SEED),1) --jobs 2 \
	  --output benchmarks/results/mutation.json

test-faults: system $(VENV)/.dev $(VENV)/.contracts ## 300 faults that no job may suffer from (half an hour); goes on where it stopped
	python -m tests.faults.run --faults $(or $(FAULTS),300) --seed $(or $(SEED),1) --note "$(NOTE)" \
	  --output benchmarks/results/faults.json --page docs/reliability.md

torch: $(VENV)/.torch ## PyTorch besides, for its example; a few GB, unless pip knows a wheel for processors (PIP_FIND_LINKS)

tour: system $(VENV)/.dev $(VENV)/.contracts ## try every command as a newcomer would, and write docs/commands.md
	python -m tests.integration.tour docs/commands.md

bench-worker: system $(VENV)/.dev $(VENV)/.contracts ## what the worker costs: waiting, overhead, a thousand jobs, idleness
	python benchmarks/worker.py

bench-sandbox: system $(VENV)/.dev ## what sandboxes cost: their start, and a job of 30 seconds in each
	python benchmarks/sandbox.py

bench-exact: system $(VENV)/.dev ## exact programs: products beside OpenBLAS, training steps beside torch
	python benchmarks/exact.py

bench-exact-gas: system $(VENV)/.dev $(VENV)/.contracts ## gas of each operation on binary32 by the contracts
	python benchmarks/exact_gas.py

bench-dispute: system $(VENV)/.dev $(VENV)/.contracts ## what a dispute costs, by level and by move, and how that grows
	python benchmarks/dispute.py

bench-gas: system $(VENV)/.dev $(VENV)/.contracts ## gas of everything, beside the peers'
	python benchmarks/gas.py

lint: $(VENV)/.dev $(VENV)/.natrix ## ruff, mypy, natrix
	ruff check $(PRESENT)
	ruff format --check $(PRESENT)
	mypy
	mypy --explicit-package-bases scripts ape_console_extras.py

format: $(VENV)/.dev ## format the Python sources
	ruff check --fix-only $(PRESENT)
	ruff format $(PRESENT)

abis: $(VENV)/.contracts ## write gpubond/chain/abi from the contracts
	@[ $(VENV)/.abis -nt $(VENV)/.contracts ] || { ape run export_abis && touch $(VENV)/.abis; }

constraints: $(VENV)/.dev ## pin the newest versions that pyproject.toml allows
	@{ sed -n '/^#/p' constraints.txt; uv pip compile pyproject.toml --all-extras --universal --upgrade \
	  --python-version 3.11 --no-emit-index-url --no-annotate --no-header --quiet | grep -v "== 'win32'"; \
	} > $(CACHE)/constraints.txt
	@mv $(CACHE)/constraints.txt constraints.txt

clean: ## remove all that the other targets made
	rm -rf $(VENV) .cache .build .ape .devnet .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

system:
	@tools/install_system.sh

podman:
	@tools/install_podman.sh

# Two stages, so that the demo need not wait for the tools of developers.
$(VENV)/.run: pyproject.toml setup.py constraints.txt tools/install_python.sh
	@tools/install_python.sh contracts,cuda,examples
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@tools/install_python.sh contracts,cuda,examples,test,lint
	@touch $@

$(VENV)/.torch: $(VENV)/.dev
	@tools/install_python.sh contracts,cuda,examples,test,lint,torch
	@touch $@

# Forced, because Ape does not see when a module of a contract has changed.
$(VENV)/.contracts: $(CONTRACTS) ape-config.yaml constraints.txt | $(VENV)/.run
	@mkdir -p $(VVM_BINARY_PATH)
	ape compile --force
	@touch $@

$(VENV)/.natrix: $(CONTRACTS) pyproject.toml constraints.txt | $(VENV)/.dev
	natrix lint contracts
	@touch $@
