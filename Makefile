# make lab, make test, …: each installs into .venv what it needs, on first use and again when pyproject.toml or
# constraints.txt change; with uv, where that is installed.
#   make lab ARGS="--no-browser --port 9999"        arguments for the command
#   make lab DIR=.                                  with the solutions beside the labs
#   make test PYTHON=python3.12                     another Python (3.10 to 3.14); make clean first to change it
#   make lab FMLAB_TORCH=default                    PyTorch as PyPI has it. Else, on Linux without NVIDIA's driver and
#                                                   where pip knows no other places, the small one without CUDA
PYTHON ?= $(shell for p in python3.11 python3 python; do $$p -c "" 2>/dev/null && echo $$p && break; done)
ARGS   ?=
DIR    ?= labs
BIN    := .venv/bin
FIRST  := $(if $(filter .,$(DIR)),labs/)lab0_welcome/lab0_welcome.ipynb

# A stamp says: what these commands need was installed here. Without any, or if Python no longer runs, .venv is made anew.
HERE   := $(firstword $(shell pwd -P | cksum))
LAB    := .venv/lab-$(HERE)
GRADE  := .venv/grade-$(HERE)
SITE   := .venv/site-$(HERE)
TEST   := .venv/test-$(HERE)
BENCH  := .venv/bench-$(HERE)
ANEW   := $(shell ls .venv/*-$(HERE) >/dev/null 2>&1 && $(BIN)/python -c "" 2>/dev/null || echo anew)

$(LAB):   EXTRAS := jupyter
$(GRADE): EXTRAS := jupyter,grading
$(SITE):  EXTRAS := jupyter,grading,site
$(TEST):  EXTRAS := jupyter,grading,site,dev
$(BENCH): EXTRAS := jupyter,grading,site,dev,bench
# A peer whose declared requirements are far larger than what the measurements import, and the one that they do.
$(BENCH): BARE   := torchcfm pot

.PHONY: help lab test build verify handout site mutants grade bench lint clean anew

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' Makefile

lab: $(LAB)  ## open the labs in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=$(DIR) --LabApp.default_url=/lab/tree/$(FIRST) \
	  $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

test: $(TEST)  ## run every test and replay the solutions
	$(BIN)/python -m pytest $(ARGS)

build: $(GRADE)  ## make labs/ and solutions/ from course/sources/
	$(BIN)/python -m course build $(ARGS)

verify: $(GRADE)  ## check that labs/ and solutions/ are what a build makes
	$(BIN)/python -m course verify $(ARGS)

handout: $(GRADE)  ## make the zip that students get, in build/
	$(BIN)/python -m course handout $(ARGS)

grade: $(GRADE)  ## grade submissions: make grade ARGS="folder-or.zip"
	$(BIN)/python -m course grade $(ARGS)

site: $(SITE)  ## make all labs and solutions into pages to read, in build/site/
	$(BIN)/python -m course.site $(ARGS)

mutants: $(TEST)  ## change solutions a little and list what the checks let pass
	$(BIN)/python -m tests.mutants $(ARGS)

bench: $(BENCH)  ## run the measurements
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(TEST)  ## check the style and the types
	$(BIN)/ruff check $(ARGS)
	$(BIN)/ruff format --check $(ARGS)
	$(BIN)/mypy

clean:  ## remove .venv and caches
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .coverage* htmlcov build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# Where to find PyTorch beside the usual place.
CPU    := https://download.pytorch.org/whl/cpu
SMALL   = $(if $(filter default,$(FMLAB_TORCH)),,$(shell [ "$$(uname)" = Linux ] && [ ! -e /proc/driver/nvidia ] && \
  ! { $(PYTHON) -m pip config list; env | grep -i "^UV_"; } 2>/dev/null | grep -qiE "index|find.links" && echo yes))
UV     ?= $(shell command -v uv)
INSTALL = $(if $(UV),$(UV) pip install --python $(BIN)/python $(if $(SMALL),--index-strategy unsafe-best-match),\
  $(BIN)/python -m pip install) $(if $(SMALL),--extra-index-url $(CPU))

# The last steps: JupyterLab asks no questions about news and calls nobody for updates; what was installed is known.
$(LAB) $(GRADE) $(SITE) $(TEST) $(BENCH): pyproject.toml constraints.txt $(ANEW)
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' 2>/dev/null || \
	  { echo 'fmlab needs Python 3.10 to 3.14 with its venv module (Debian: apt install python3-venv).' >&2; \
	    echo 'Found: "$(PYTHON)". Name another with: make PYTHON=/path/to/python' >&2; exit 1; }
	$(if $(ANEW),$(PYTHON) -m venv --clear .venv)
	$(INSTALL) -c constraints.txt -e '.[$(EXTRAS)]' || { rm -f .venv/*-$(HERE); exit 1; }
	$(if $(BARE),$(INSTALL) -c constraints.txt --no-deps $(BARE) || { rm -f .venv/*-$(HERE); exit 1; })
	@$(BIN)/jupyter labextension disable --log-level=ERROR "@jupyterlab/apputils-extension:announcements"
	@touch $@
