# The commands of this project. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
PORT ?= 8000
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
SITE := book/_build/html

# One thread each: on a busy machine small convolutions run several times slower with more.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export PYTHONPATH := $(CURDIR):$(CURDIR)/book
export PYTHONNOUSERSITE := 1
export PYTHONHASHSEED := 0
export PYDEVD_DISABLE_FILE_VALIDATION := 1
# The reader's own settings must not change a figure.
export MPLCONFIGDIR := $(CURDIR)/.make/matplotlib
export IPYTHONDIR := $(CURDIR)/.make/ipython
export JUPYTER_CONFIG_DIR := $(CURDIR)/.make/jupyter
export JUPYTER_PREFER_ENV_PATH := 1

# Stamps carry a checksum of what they depend on, so touching a file or switching branches redoes nothing.
checksum = $(shell { printf '%s ' '$(CURDIR)'; cat $(1); } 2>/dev/null | cksum | tr ' ' '-')
INSTALLED := $(VENV)/installed-$(call checksum,pyproject.toml constraints.txt)
DERIVED := .make/derived-$(call checksum,pyproject.toml constraints.txt derivations/*.py derivations/kernel/* reference/fguidance/symbolic/*.py)

.PHONY: help book test test-deep bench mutation prove alter derive generate check-generated lint serve clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

book: $(INSTALLED) $(DERIVED) generate  ## prove, emit, execute the chapters, build the site (IMAGENET=1: the full experiment first)
ifdef CI
	@rm -rf book/_build
endif
	@mkdir -p "$$MPLCONFIGDIR" "$$IPYTHONDIR" "$$JUPYTER_CONFIG_DIR"
ifdef IMAGENET
	@$(PY) -m lab.imagenet
endif
	@$(PY) -c 'import matplotlib.pyplot'  # its font cache is built here, not in a chapter
	@$(VENV)/bin/jupyter-book build --all -W -n --keep-going book
	@$(PY) -c 'import pathlib, sys; print("The book is built: open", pathlib.Path(sys.argv[1]).resolve().as_uri())' $(SITE)/index.html

test: $(INSTALLED)  ## run the tests on all cores (make test ARGS="-k name" for some of them)
	@$(PY) -m pytest -n auto --dist worksteal $(ARGS)

test-deep: $(INSTALLED)  ## 10,000 examples of every property: hours, resumed where interrupted (ARGS="-k js")
	@HYPOTHESIS_PROFILE=nightly $(PY) -m pytest tests/testing/deep.py $(ARGS)

bench: $(INSTALLED)  ## measure time and memory, and write book/results/benchmarks.json
	@mkdir -p .make
	@$(PY) -m pytest -p no:cacheprovider -o python_files='bench_*.py' -o timeout=0 -W default --benchmark-warmup=on \
	  --benchmark-columns=median,iqr,rounds --benchmark-json=.make/benchmark.json tests/benchmarks $(ARGS)
	@$(PY) -m tests.benchmarks.record .make/benchmark.json

mutation: $(INSTALLED)  ## change the reference one small place at a time and see the tests fail (hours; resumes)
	@$(PY) -m tests.mutation.run $(ARGS)

prove: $(INSTALLED)  ## have Coq check its theorems, and refuse altered ones (one minute; says how to install Coq)
	@$(PY) -m derivations.coq $(ARGS)

alter: $(INSTALLED)  ## alter every object that a proof checks, and see the proof fail (a minute)
	@$(PY) -m derivations.alter

derive: $(INSTALLED)  ## prove every claim of the ledger; fails if one proof does
	@$(PY) -m derivations prove
	@mkdir -p .make && touch $(DERIVED)

$(DERIVED): | $(INSTALLED)
	@$(MAKE) derive

generate: $(INSTALLED)  ## write the emitted reference and the book's generated tables
	@$(PY) -m derivations

check-generated: $(INSTALLED)  ## emit elsewhere and compare byte for byte with what is here
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(PY) -m derivations --root "$$fresh"; \
	if diff -u reference/fguidance/closed_forms.py "$$fresh/reference/fguidance/closed_forms.py" \
	    && diff -u reference/fguidance/catalogue.py "$$fresh/reference/fguidance/catalogue.py" \
	    && diff -ru book/generated "$$fresh/book/generated"; then \
	  echo "The generated files are what derivations/ emits."; \
	else \
	  echo "The generated files differ from what derivations/ emits. Update them with: make generate" >&2; exit 1; \
	fi

lint: $(INSTALLED)  ## ruff everywhere, mypy --strict on reference/ and derivations/
	@$(PY) -m ruff check .
	@$(PY) -m mypy

serve:  ## serve the built book on this machine, at PORT (8000)
	@test -f $(SITE)/index.html || { echo "There is no built book yet: run make book first." >&2; exit 1; }
	@$(PY) -m http.server --bind 127.0.0.1 --directory $(SITE) $(PORT)

clean:  ## remove what the build made; the virtual environment stays
	rm -rf book/_build .make build dist reference/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find derivations reference tests book -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): SUPPORTED = import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
  "fguidance needs Python 3.11 to 3.13; this is " + sys.version.split()[0] + " (" + sys.executable + "). $(1)")
$(INSTALLED):
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON): name a Python 3.11 to 3.13, as in make PYTHON=python3.12 book" >&2; exit 1; }
	@test -x $(PY) || "$(PYTHON)" -c '$(call SUPPORTED,Name another: make PYTHON=python3.12 book)'
	@test -x $(PY) || { echo "Creating $(VENV)"; "$(PYTHON)" -m venv $(VENV); }
	@$(PY) -c '$(call SUPPORTED,Remove $(VENV) and run make again.)'
	@echo "Installing the pinned versions into $(VENV) (a few minutes, once)"
	@$(PY) -m pip install --disable-pip-version-check -c constraints.txt setuptools
	@$(PY) -m pip install --disable-pip-version-check --no-build-isolation -c constraints.txt -e '.[book,dev]'
	@rm -f $(VENV)/installed-*
	@touch $@
