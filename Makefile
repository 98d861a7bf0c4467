# make demo | test | lint | paper | bench | clean. Each sets up the virtual environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
TORCH_FLAGS ?=
export HF_HUB_OFFLINE ?= 1
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= true

.PHONY: demo test lint paper bench clean
.DEFAULT_GOAL := demo

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

# torch first and exactly as pinned. Where the default index serves a CUDA build and a CPU build is wanted, give pip's
# options for it: make TORCH_FLAGS="--index-url ..." demo
$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install -q $(TORCH_FLAGS) "$(TORCH)"
	$(BIN)/pip install -q -c constraints.txt -e ".[report]"
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/pip install -q -c constraints.txt -e ".[report,data,pdf,curation,sweeps,wandb,lora,evaluation,embedding,test]"
	touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/pip install -q -c constraints.txt -e ".[report,data,pdf,curation,sweeps,wandb,lora,evaluation,embedding,test,lint]"
	touch $@

demo: $(VENV)/.base
	$(BIN)/python -m experiments.study study=demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not gpu and not slow"
	@echo "left out: tests marked gpu ($(BIN)/python -m pytest -m gpu, on a machine with CUDA)"
	@echo "left out: tests marked slow ($(BIN)/python -m pytest -m slow, five minutes)"

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The newest study's tables and figures into paper/generated, and the PDF where LaTeX is installed.
paper: $(VENV)/.base
	@ls studies/*/study.json >/dev/null 2>&1 || { echo "no study yet: run make demo first"; exit 1; }
	$(BIN)/python -m analysis.report runs=runs out=paper/generated record=$$(ls -t studies/*/study.json | head -n 1)
	@if command -v latexmk >/dev/null; then cd paper && latexmk -pdf -interaction=nonstopmode main.tex; \
	else echo "LaTeX is not installed: paper/generated is renewed, paper/main.pdf is not"; fi

bench: $(VENV)/.test
	$(BIN)/python -m experiments.benchmark size=nano
	$(BIN)/python -m experiments.benchmark size=17m rounds=5
	$(BIN)/python -m experiments.benchmark_data

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info
