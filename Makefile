# `make demo` and `make test` need nothing but make and Python 3.11 or newer with its venv module:
# everything else goes into .venv, and is installed again only when the metadata changes.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
METADATA := setup.cfg pyproject.toml
# What the tests read beside the package; some of it may not exist.
SUITE := $(wildcard tests benchmarks docs examples README.md CHANGELOG.md CONTRIBUTING.md Makefile pyproject.toml .env.example)
TYPED := $(wildcard realtime_stream tests examples benchmarks)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # two installations into one environment would meet
.PHONY: help demo test stress scripts dev lint format types layers docs wheel-test clean

help:
	@echo "make demo        run the main job against a simulated exchange; no account needed"
	@echo "make test        run the whole suite, with coverage"
	@echo "make stress      run unit and integration tests 20 times in random order"
	@echo "make scripts     run 1000 random scripts of calls, callbacks and faults"
	@echo "make dev         set up .venv with every tool"
	@echo "make lint        check code and format; make format rewrites"
	@echo "make types       mypy --strict"
	@echo "make layers      who may import whom"
	@echo "make docs        build the documentation into build/site"
	@echo "make wheel-test  run the suite against the built wheel, without the source tree"
	@echo "make clean       remove .venv and everything that was built"

demo: $(VENV)/.core
	$(BIN)/realtime-stream demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -q --numprocesses=auto --cov --cov-report=term

# Twenty times, each in another order; a failure names the round, and so the seed.
stress: $(VENV)/.test
	@set -eu; for round in $$(seq 1 20); do \
		printf '\n== round %s\n' "$$round"; \
		$(BIN)/python -m pytest -q tests/unit tests/integration \
			--numprocesses=auto --random-order-bucket=global --random-order-seed="$$round"; \
	done

scripts: $(VENV)/.test
	REALTIME_STREAM_SCRIPTS=1000 $(BIN)/python -m pytest -q tests/abuse/test_lifecycle_machine.py

dev: $(VENV)/.dev

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev
	$(BIN)/mypy $(TYPED)

layers: $(VENV)/.dev
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/mkdocs build --strict --clean

wheel-test: $(VENV)/.dev
	@set -eu; \
	work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	$(BIN)/python -m build --outdir "$$work/dist" . >"$$work/build.log" 2>&1 || { cat "$$work/build.log"; exit 1; }; \
	$(BIN)/python -m venv "$$work/venv"; \
	set -- "$$work"/dist/*.whl; \
	"$$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$$1[test]"; \
	mkdir "$$work/suite"; cp -R $(SUITE) "$$work/suite"; cd "$$work/suite"; unset PYTHONPATH; \
	"$$work/venv/bin/python" -c 'import realtime_stream as r; assert "site-packages" in r.__file__, r.__file__'; \
	"$$work/venv/bin/python" -m pytest -q --numprocesses=auto

clean:
	rm -rf $(VENV) build dist *.egg-info htmlcov .coverage .coverage.* .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(VENV)/.python:
	@set -eu; chosen=; \
	for candidate in python3.11 python3; do \
		if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			chosen=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$chosen" ]; then \
		echo "Python 3.11 or newer is needed, as python3.11 or python3. On Debian: apt-get install python3 python3-venv" >&2; exit 1; \
	fi; \
	if ! $$chosen -c 'import ensurepip, venv' >/dev/null 2>&1; then \
		echo "$$chosen cannot make a virtual environment. On Debian: apt-get install python3-venv" >&2; exit 1; \
	fi; \
	rm -rf $(VENV); $$chosen -m venv $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.python $(METADATA)
	$(PIP) --editable '.[sql]'
	@touch $@

$(VENV)/.test: $(VENV)/.python $(METADATA)
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.python $(METADATA)
	$(PIP) --editable '.[dev]'
	@touch $@
