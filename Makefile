# Two commands matter: `make book` and `make test`. Both set up .venv first when it is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
SITE := _build/html
ZIP := _build/derivations-that-run.zip
# The site's executables are small and the book runs one chapter per core: more threads would only fight.
export OMP_NUM_THREADS ?= 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export JUPYTER_PLATFORM_DIRS := 1
# Long training keeps its checkpoints in one place, whichever page it belongs to, and `make clean` leaves them.
ifeq ($(KEXUE_SCALE),full)
export KEXUE_CHECKPOINTS ?= $(CURDIR)/checkpoints
endif
# One build at a time in one tree, from the setting up of .venv to the zip.
ALONE := $(PYTHON) kexue_publish/alone.py $(MAKE) --no-print-directory
# Browser of the tests: the first of these that exists, or CHROMIUM=/path/to/one.
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
export CHROMIUM
# PyPI's torch for Linux brings gigabytes of CUDA; without an NVIDIA GPU its CPU build does. Empty: plain PyPI.
TORCH_INDEX ?= $(if $(filter Linux,$(shell uname -s)),$(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu))

.DEFAULT_GOAL := help
.PHONY: help book book-alone test audit serve notebooks clean render check-python check-browser

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 16

book: check-python  ## build the site: set up, execute what is stale, render, say where it is
	@$(ALONE) book-alone

book-alone: render
	@$(BIN)/python -m kexue_publish.archive $(SITE) $(ZIP)
	@printf '\nThe book is built. It opens from the folder, without a server and without network:\n  %s (%s)\nTo take along, in one file:\n  %s (%s)\n' \
	  "$(CURDIR)/$(SITE)/index.html" "$$(du -sh $(SITE) | cut -f1)" "$(CURDIR)/$(ZIP)" "$$(du -sh $(ZIP) | cut -f1)"

test: check-browser .venv/installed  ## run everything: lint, types, unit tests, the book with warnings as errors, browsers, notebooks on a Colab-like machine
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -m "not site and not live and not colab and not cold" -n auto --maxprocesses 8 --cov --cov-report=term
	@$(MAKE) --no-print-directory book
	@# A browser on a busy machine may come late to what a test waits for: what failed is asked once more, by itself.
	$(BIN)/pytest -m "site or live" tests/site tests/live -n auto --maxprocesses 4 --dist loadgroup || \
	  $(BIN)/pytest -m "site or live" tests/site tests/live --last-failed --last-failed-no-failures none
	$(BIN)/pytest -q -m colab tests/colab -n auto --maxprocesses 2 --dist loadgroup

audit: .venv/installed  ## put mistakes into every claim of the book, and see each rejected by its check; report in _build/audit.txt
	$(BIN)/python -m kexue_publish.audit

serve:  ## show the built site on http://127.0.0.1:8000 (PORT=... for another)
	@test -f $(SITE)/index.html || { echo "There is no site yet: run 'make book' first."; exit 1; }
	$(BIN)/python -m http.server $(or $(PORT),8000) --bind 127.0.0.1 --directory $(SITE)

notebooks: check-python  ## write one .ipynb a chapter, with all that running them takes, into _build/notebooks
	@$(ALONE) render
	@echo "The notebooks are in _build/notebooks/book"

clean:  ## remove what was built and executed; keep .venv
	rm -rf _build

# ---------------------------------------------------------------------------------------------------------------------

render: .venv/installed
	$(BIN)/python -m kexue_publish.execute
	$(BIN)/python -m kexue_publish.render

# Every file has the hash that requirements.lock says, except torch and the CUDA that its GPU build brings along: its builds
# differ from index to index. Our own two
# packages are built with the setuptools that is there then: pip would otherwise fetch one without a hash.
.venv/installed: requirements.txt requirements.lock pyproject.toml kexue_publish/pyproject.toml | check-python
	@echo "Setting up .venv (about 1.8 GB, a few minutes with a good connection)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install $$(grep '^torch==' requirements.txt) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX) --retries 1)
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e . -e ./kexue_publish
	@touch $@

check-python:
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11, 5))' 2>/dev/null || { echo \
	  "Needs Python 3.11.5 or newer with venv: 'apt-get install python3 python3-venv', or python.org; then, if it is not python3, make PYTHON=/path/to/it"; exit 1; }

check-browser:
	@test -x "$(CHROMIUM)" || { echo \
	  "The browser tests need Chromium: 'apt-get install chromium', or CHROMIUM=/path/to/a/chromium make test"; exit 1; }
