# Every target that runs Python sets up .venv first (once; again only when pyproject.toml or constraints.txt changed).
# PYTHON=python3.12   the interpreter to build .venv with; otherwise the newest of 3.11 to 3.13 that is found
# DEMO_ARGS=--no-serve   handed to `cutaway demo`
# TEST_ARGS='-k resume'   handed to pytest
# JOBS=2   how many tests run at once

.DEFAULT_GOAL := help
PYTHON ?=
DEMO_ARGS ?=
TEST_ARGS ?=
JOBS ?= auto

run := .venv/bin/python
pytest := $(run) -m pytest -n $(JOBS) --maxprocesses 8 --dist loadfile
has_gpu := $(run) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'

.PHONY: help setup demo test test-fast test-wide faults lint format bench wheel clean

help: ## list these targets
	@grep -E '^[a-z][a-z-]*:.*## ' $(firstword $(MAKEFILE_LIST)) | sort \
		| awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

setup: ## make .venv with everything that the other targets need
	@PYTHON='$(PYTHON)' tools/setup-venv .venv

demo: setup ## from real pictures to a classifier in the browser (DEMO_ARGS=--no-serve ends before the page)
	@$(run) -m cutaway demo $(DEMO_ARGS)

test: setup ## run the tests (those that need a GPU only where there is one)
	@if $(has_gpu); then $(pytest) -m 'not wide' $(TEST_ARGS); else $(pytest) -m 'not (wide or gpu)' $(TEST_ARGS); fi

test-wide: setup ## run the tests over every network of torchvision, which `test` takes a few of
	@$(pytest) -m wide $(TEST_ARGS)

test-fast: setup ## run the tests, but for the long ones and those that kill, fill disks and break files on purpose
	@if $(has_gpu); then $(pytest) -m 'not (slow or wide or faults)' $(TEST_ARGS); else $(pytest) -m 'not (slow or wide or faults or gpu)' $(TEST_ARGS); fi

faults: setup ## run only the tests that kill, fill disks and break files on purpose
	@CUTAWAY_KILLS=100 $(pytest) -m faults $(TEST_ARGS)

lint: setup ## check style, types and who imports whom
	@$(run) -m ruff check .
	@$(run) -m ruff format --check .
	@$(run) -m mypy
	@$(run) .venv/bin/lint-imports --no-cache

format: setup ## put imports and layout in order
	@$(run) -m ruff check --fix .
	@$(run) -m ruff format .

bench: setup ## measure against other tools, side by side
	@for script in benchmarks/[a-z]*.py; do \
		[ -f "$$script" ] || { echo 'there are no benchmarks yet'; continue; }; \
		echo "== $$script"; $(run) "$$script" || exit 1; \
	done

wheel: setup ## build the wheel into dist/
	@rm -rf build dist
	@$(run) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@rm -rf build
	@ls dist/*.whl

clean: ## remove .venv, caches and build outputs (runs/ and demo/ are yours and stay)
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -type d -name __pycache__ -prune -exec rm -rf {} +
