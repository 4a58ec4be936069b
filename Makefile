# Every target that needs the environment sets it up first; `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROOT ?=
DATASET ?=
ENCODER ?=
FEATURES ?=
MODEL ?= freedom
ARGS ?=
FAISS := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU && echo gpu || echo cpu)
TOY := --root demo --dataset toy
# What is empty is left out, so that the defaults apply.
option = $(if $($(1)),--$(2) '$($(1))')
making = $(BIN)/python -m pipelines.making $@ $(call option,ROOT,root) \
	$(call option,DATASET,dataset) $(call option,FEATURES,features) \
	$(call option,ENCODER,encoder) $(call option,MODEL,model) -- $(ARGS)

.PHONY: help install demo test lint format check prepare extract train compare report bench clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'
	@echo; echo "  variables: DATASET= ENCODER= FEATURES= MODEL= ROOT= ARGS= PYTHON="

install: $(VENV)/installed  ## Set up .venv (faiss for the CPU or the GPU, by what the machine has)

$(VENV)/installed: setup.cfg constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, found " + sys.version.split()[0] + "; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e ".[$(FAISS),offline,search,report,dev]"
	touch $@

demo: install  ## The main job on a generated shop: prepare, check, extract, compare, and a page of it
	$(BIN)/mmrec-prepare toy $(TOY)
	$(BIN)/mmrec-check $(TOY)
	$(BIN)/mmrec-extract $(TOY) --encoder offline
	$(BIN)/mmrec-compare $(TOY) --features offline --models popularity,lightgcn,vbpr,freedom --seeds 0,1
	@echo; echo "The toy shop is made so that content helps: these figures prove the plumbing only."
	@echo "This page tells all of it; open it in a browser:"
	@$(BIN)/mmrec-report $(TOY)

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

# Each does what is missing before, and nothing twice; ARGS= goes to the last command.
prepare: install  ## Fetch and prepare a published data set: make prepare DATASET=sports
	$(making)

extract: install  ## The same, and encode it: make extract DATASET=sports ENCODER=clip
	$(making)

train: install  ## The same, train, evaluate: make train DATASET=sports FEATURES=clip MODEL=freedom
	$(making)

compare: install  ## Train a grid and say what is real: make compare DATASET=sports FEATURES=clip ARGS="--models ..."
	$(if $(FEATURES)$(ENCODER),$(BIN)/python -m pipelines.making extract $(call option,ROOT,root) \
	$(call option,DATASET,dataset) $(call option,FEATURES,features) $(call option,ENCODER,encoder))
	$(BIN)/mmrec-compare $(call option,ROOT,root) $(call option,DATASET,dataset) \
	$(call option,FEATURES,features) $(ARGS)

report: install  ## Write the page of a comparison: make report DATASET=sports
	$(BIN)/mmrec-report $(call option,ROOT,root) $(call option,DATASET,dataset) $(ARGS)

bench: install  ## Slow measurements (hours): published figures, both stages' speed, kills
	$(BIN)/python -m benchmarks.published
	$(BIN)/python -m benchmarks.extract
	$(BIN)/python -m benchmarks.recommend
	$(BIN)/python -m benchmarks.finetune
	$(BIN)/python -m benchmarks.end_to_end
	$(BIN)/python -m benchmarks.compare
	$(BIN)/python -m benchmarks.kills
	$(BIN)/python -m benchmarks.resume
	$(BIN)/python -m benchmarks.reviews
	$(BIN)/python -m benchmarks.downloads

clean:  ## Remove the environment and caches (never data or runs)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
