# make demo | test | lint | docs | paper | bench | clean. Each sets up the virtual environment it needs.
#
# TORCH_BUILD=cpu takes the build of torch without CUDA (0.2 GB instead of 3 GB of downloads), TORCH_BUILD=auto the one for
# this machine's GPU or none. Left out, torch comes from pip's own index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
TORCH_BUILD ?=
TORCH_FLAGS ?=
EXTRAS := report,data,pdf,curation,sweeps,wandb,lora,quantisation,evaluation,embedding,chat,notebook,docs,test
# An environment is made again when what it is made of changes, whatever the files' times say.
INPUTS := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
BASE := $(VENV)/.base-$(INPUTS)
TEST := $(VENV)/.test-$(INPUTS)
LINT := $(VENV)/.lint-$(INPUTS)
PAPER_VENV ?= .venv-paper
PAPER := $(PAPER_VENV)/.paper-$(INPUTS)
TRAINING := torch|safetensors|tokenizers|transformers|tensorboard|zstandard
INSTALL := $(BIN)/pip install --progress-bar on --disable-pip-version-check
export HF_HUB_OFFLINE ?= 1
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= true

.PHONY: demo test lint docs paper bench clean
.DEFAULT_GOAL := demo

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

# torch first and exactly as pinned; uv knows where its builds are. TORCH_FLAGS are further options for pip.
$(BASE): | $(BIN)/pip
ifeq ($(TORCH_BUILD),)
	$(INSTALL) $(TORCH_FLAGS) "$(TORCH)"
else
	$(INSTALL) -c constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python --torch-backend=$(TORCH_BUILD) "$(TORCH)"
endif
	$(INSTALL) -c constraints.txt -e ".[report]"
	rm -f $(VENV)/.base-* $(VENV)/.test-* $(VENV)/.lint-*
	touch $@

$(TEST): $(BASE)
	$(INSTALL) -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

$(LINT): $(TEST)
	$(INSTALL) -c constraints.txt -e ".[$(EXTRAS),lint]"
	touch $@

# Reports read records alone: all of the requirements but those that training and checkpoints have.
$(PAPER):
	$(PYTHON) -m venv $(PAPER_VENV)
	$(PYTHON) -c 'import re, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*(name for name in project["dependencies"] if not re.match("$(TRAINING)", name)), \
	*project["optional-dependencies"]["report"], sep="\n")' > $(PAPER_VENV)/requirements.txt
	$(PAPER_VENV)/bin/pip install --progress-bar on --disable-pip-version-check -c constraints.txt -r $(PAPER_VENV)/requirements.txt
	rm -f $(PAPER_VENV)/.paper-*
	touch $@

demo: $(BASE)
	$(BIN)/python -m experiments.study study=demo precision=auto

test: $(TEST)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not gpu and not slow"
	@echo "left out: tests marked gpu ($(BIN)/python -m pytest -m gpu, on a machine with CUDA)"
	@echo "left out: tests marked slow ($(BIN)/python -m pytest -m slow, minutes)"

lint: $(LINT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every finding of paper/results, and the paper, from the packed records.
paper: $(PAPER)
	$(PAPER_VENV)/bin/python -m analysis.results paper=paper

bench: $(TEST)
	$(BIN)/python -m experiments.benchmark size=nano
	$(BIN)/python -m experiments.benchmark size=17m rounds=5
	$(BIN)/python -m experiments.benchmark_data

clean:
	rm -rf $(VENV) $(PAPER_VENV) .pytest_cache .mypy_cache .ruff_cache build site *.egg-info
