# make lab, make test, …: each makes .venv on first use and again when pyproject.toml or constraints.txt change.
#   make lab ARGS="--no-browser --port 9999"        arguments for the command
#   make lab DIR=.                                  with the solutions beside the labs
#   make test PYTHON=python3.12                     another Python (3.10 to 3.13); make clean first to change it
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make lab
#                                                   on Linux: PyTorch without CUDA, 0.2 GB instead of several
PYTHON ?= $(shell for p in python3.11 python3 python; do $$p -c "" 2>/dev/null && echo $$p && break; done)
ARGS   ?=
DIR    ?= labs
BIN    := .venv/bin

# The stamp says: pip finished here. Without it, or if its Python no longer runs, .venv is made anew.
STAMP  := .venv/installed-$(firstword $(shell pwd -P | cksum))
PEERS  := .venv/peers-installed
ANEW   := $(shell test -e $(STAMP) && $(BIN)/python -c "" 2>/dev/null || echo anew)

.PHONY: help lab test build verify handout site mutants grade bench lint clean anew

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' Makefile

lab: $(STAMP)  ## open the labs in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=$(DIR) $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

test: $(STAMP)  ## run every test and replay the solutions
	$(BIN)/python -m pytest $(ARGS)

build: $(STAMP)  ## make labs/ and solutions/ from course/sources/
	$(BIN)/python -m course build $(ARGS)

verify: $(STAMP)  ## check that labs/ and solutions/ are what a build makes
	$(BIN)/python -m course verify $(ARGS)

handout: $(STAMP)  ## make the zip that students get, in build/
	$(BIN)/python -m course handout $(ARGS)

site: $(STAMP)  ## make all labs and solutions into pages to read, in build/site/
	$(BIN)/python -m course.site $(ARGS)

mutants: $(STAMP)  ## change solutions a little and list what the checks let pass
	$(BIN)/python -m tests.mutants $(ARGS)

grade: $(STAMP)  ## grade submissions: make grade ARGS="folder-or.zip"
	$(BIN)/python -m course grade $(ARGS)

bench: $(PEERS)  ## run the measurements
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(STAMP)  ## check the style
	$(BIN)/ruff check $(ARGS)
	$(BIN)/ruff format --check $(ARGS)

clean:  ## remove .venv and caches
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .coverage* htmlcov build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# The last step: JupyterLab asks no questions about news and calls nobody for updates.
$(STAMP): pyproject.toml constraints.txt $(ANEW)
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null || \
	  { echo 'fmlab needs Python 3.10 to 3.13 with its venv module (Debian: apt install python3-venv).' >&2; \
	    echo 'Found: "$(PYTHON)". Name another with: make PYTHON=/path/to/python' >&2; exit 1; }
	$(if $(ANEW),$(PYTHON) -m venv --clear .venv)
	@rm -f $(STAMP)
	$(BIN)/python -m pip install -c constraints.txt -e '.[grading,dev,site]'
	@$(BIN)/jupyter labextension disable --log-level=ERROR "@jupyterlab/apputils-extension:announcements"
	@touch $(STAMP)

# What is measured against, JAX among it, is for `make bench` alone.
$(PEERS): $(STAMP)
	$(BIN)/python -m pip install -c constraints.txt -e '.[bench]'
	@touch $(PEERS)
