# Two commands are enough on a fresh machine (python3 >= 3.11 with venv, make): `make demo` and `make test`.
# Each sets up what it needs; every version is pinned in constraints.txt.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# a file to a process, in their order, which leaves no file of few and long tests to the end; tests with Ray run one
# after the other, since each of its clusters takes the whole machine
SPREAD := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
DEMO   := runs/train-classifier-demo-s42
BENCHMARKS := train_throughput scoring ray_overhead checkpointing cleaning generation serving ppo_seq2seq ppo_causal grpo_wrapper

.PHONY: help install demo serve test test-all lint type bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: $(STAMP)  ## set up .venv with the pinned dependencies

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, and $(PYTHON) is `$(PYTHON) --version`: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned dependencies into $(VENV) (a few minutes the first time)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: install  ## train a classifier from raw comments with Ray Train, offline, and write a report
	$(BIN)/python -m rayjobs.train_classifier demo

serve: install  ## the service at 127.0.0.1: make serve [MODEL=RUN_DIR] [REWRITER=RUN_DIR] [PORT=8000]
	@test -n "$(MODEL)" || test -f $(DEMO)/COMPLETE || $(MAKE) demo
	$(BIN)/python -m serve.local --classifier.model $(or $(MODEL),$(DEMO)) \
		$(if $(REWRITER),--rewriter.model $(REWRITER)) --port $(or $(PORT),8000)

test: install  ## the test suite
	$(PYTEST) $(SPREAD) -m "not slow and not (ray or serve)"
	$(PYTEST) -m "not slow and (ray or serve)"

test-all: install  ## the suite with what takes long
	$(PYTEST) $(SPREAD) -m "not (ray or serve)"
	$(PYTEST) -m "ray or serve"

lint: install  ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: install  ## mypy over the packages
	$(BIN)/mypy

bench: install  ## every benchmark, ours beside the peer: make bench [RUNS=5]
	@for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --runs $(or $(RUNS),5) || exit 1; done

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info
