# Every target that needs the environment sets it up first; `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROOT ?= .
DATASET ?=
ENCODER ?= offline
FEATURES ?= $(ENCODER)
MODEL ?= freedom
FAISS := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU && echo gpu || echo cpu)
# --root and --dataset are left out when empty, so that the commands' own defaults apply.
TOY := --root demo --dataset toy
dataset = $(if $(DATASET),--dataset $(DATASET))

.PHONY: help install demo test lint format check extract train bench clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'
	@echo; echo "  variables: DATASET= ENCODER= FEATURES= MODEL= ROOT= PYTHON="

install: $(VENV)/installed  ## Set up .venv (faiss for the CPU or the GPU, by what the machine has)

$(VENV)/installed: setup.cfg constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, found " + sys.version.split()[0] + "; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e ".[$(FAISS),offline,dev]"
	touch $@

demo: install  ## The main job on a generated shop: prepare, check, extract, train, compare
	$(BIN)/mmrec-prepare toy $(TOY)
	$(BIN)/mmrec-check $(TOY)
	$(BIN)/mmrec-extract $(TOY) --encoder offline
	$(BIN)/mmrec-train $(TOY) --model popularity
	$(BIN)/mmrec-train $(TOY) --model lightgcn
	$(BIN)/mmrec-train $(TOY) --model vbpr --features offline
	$(BIN)/mmrec-train $(TOY) --model vbpr --features shuffled:offline
	$(BIN)/mmrec-train $(TOY) --model freedom --features offline
	$(BIN)/mmrec-train $(TOY) --model freedom --features shuffled:offline
	@echo; echo "The toy shop is made so that content helps: these figures prove the plumbing only."; echo
	@$(BIN)/mmrec-runs $(TOY)

test: install  ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install  ## Format check, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Rewrite the files in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint test  ## Everything that a change must pass

extract: install  ## Encode a catalogue: make extract DATASET=sports ENCODER=clip
	$(BIN)/mmrec-extract --root $(ROOT) $(dataset) --encoder $(ENCODER)

train: install  ## Train and evaluate: make train DATASET=sports FEATURES=clip MODEL=freedom
	$(BIN)/mmrec-train --root $(ROOT) $(dataset) --features $(FEATURES) --model $(MODEL)

bench: install  ## Slow measurements (hours): published figures, both stages' speed, kills
	$(BIN)/python -m benchmarks.published
	$(BIN)/python -m benchmarks.extract
	$(BIN)/python -m benchmarks.recommend
	$(BIN)/python -m benchmarks.finetune
	$(BIN)/python -m benchmarks.end_to_end
	$(BIN)/python -m benchmarks.kills
	$(BIN)/python -m benchmarks.resume

clean:  ## Remove the environment and caches (never data or runs)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
