# Two commands do everything: `make demo` and `make test`. Both set up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test test-here test-slurm lint notes bench bench-corpora bench-building gpu chaos-train chaos-generate \
  clean slurm-up slurm-down

help:  ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## A virtual environment, the corpora and the soundfont (pip only, no root)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; ok = (3, 11) <= v < (3, 14); \
	  sys.exit(0 if ok else f"Python 3.11 to 3.13 is needed, {v[0]}.{v[1]} found: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/reelmill corpus get irish traditional
	$(BIN)/python -m reelmill.audio.soundfont
	touch $@

demo: $(READY)  ## Train on real tunes, generate, render, report: about five minutes on two cores
	$(BIN)/reelmill train configs/demo.yaml --run runs/demo
	$(BIN)/reelmill generate runs/demo --songs 32 --out songs/demo
	$(BIN)/reelmill collect songs/demo
	$(BIN)/reelmill verify songs/demo
	$(BIN)/reelmill report runs/demo
	$(BIN)/reelmill report songs/demo

test: $(READY)  ## All tests (those of Slurm, CUDA and Chromium where these are there)
	+$(MAKE) --no-print-directory --jobs=2 test-here test-slurm  # jobs are waited for most of the time

test-here: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not slurm and not cuda' tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cuda tests

test-slurm: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile -m slurm tests

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notes: $(READY)  ## Every real tune plays the same notes before and after canonical form: two corpora, and Essen
	$(BIN)/python -m tests.notation.notes

bench: $(READY)  ## The figures of docs/benchmarks.md, each beside what it is compared with, in one run
	$(BIN)/python tests/benchmarks/run.py

bench-corpora: $(READY)  ## 100,000 songs without sound and 5,000 with it (50 GB): what they take and what comes out
	$(BIN)/python tests/benchmarks/corpora.py

bench-building: $(READY)  ## Build a corpus of 200,000 made-up tunes: seconds and memory
	$(BIN)/python -m tests.benchmarks.building

gpu: $(READY)  ## What is promised of GPUs, tried on this machine's: PASS or FAIL, docs/gpu.md
	$(BIN)/python tests/gpu/run.py

chaos-train: $(READY)  ## Kill training in every phase, many times; the weights must be the undisturbed run's
	$(BIN)/python tests/chaos/train.py

chaos-generate: $(READY)  ## Kill generation and collecting in every phase, harm the shards, fill the disk; the songs must be the same
	$(BIN)/python tests/chaos/generate.py

slurm-up:  ## A real four-node Slurm on this host (Debian or Ubuntu, root)
	bash slurm/devcluster/up.sh

slurm-down:  ## Take it down
	bash slurm/devcluster/down.sh

clean:  ## What set-up and the demo made; the cache stays
	rm -rf $(VENV) runs/demo songs/demo build *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
