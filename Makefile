.DEFAULT_GOAL := help
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test integration_tests lint format types notebooks tables bench-usage bench-conformance bench-ledger bench-limits bench-compress bench-cache bench-budget

help: ## List the targets
	@grep -hE '^[a-z_-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 22

setup: $(STAMP) ## Create .venv with everything, when it is missing or out of date

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev]"
	@touch $@

demo: setup ## Run the trading desk and show its bill per agent
	@$(BIN)/tokenopt demo

test: setup ## Run all tests (no network needed)
	$(BIN)/pytest -n 2

lint: setup ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## Check types strictly
	$(BIN)/mypy

notebooks: setup ## Run the notebooks as tests
	$(BIN)/pytest --nbmake --nbmake-timeout=300 -p no:xdist notebooks

tables: setup ## Write the measured tables into the README
	$(BIN)/python -m tests.benchmarks.tables

bench-usage: setup ## Measure the overhead of usage tracking and of the seam
	$(BIN)/python -m tests.benchmarks.bench_usage

bench-conformance: ## Compare what trackers count, in an environment of its own
	$(PYTHON) -m venv .venv-rivals-usage
	.venv-rivals-usage/bin/pip install -q -c constraints.txt -e . -r tests/benchmarks/requirements-rivals-usage.txt
	.venv-rivals-usage/bin/python -W ignore -m tests.benchmarks.conformance

bench-ledger: setup ## Measure the ledger: rows per second, answers, bytes, kill -9
	$(BIN)/python -m tests.benchmarks.bench_ledger

bench-limits: setup ## Measure word limits (and forecasts, with DATA=folder of the trace)
	$(BIN)/python -m tests.benchmarks.bench_limits
	$(if $(DATA),$(BIN)/python -m tests.benchmarks.bench_forecast --data $(DATA))

bench-compress: setup ## Compare what survives shortening: make bench-compress DATA=folder
	$(PYTHON) -m venv .venv-rivals-compress
	.venv-rivals-compress/bin/pip install -q -c constraints.txt -r tests/benchmarks/requirements-rivals-compress.txt
	$(BIN)/python -m tests.benchmarks.bench_compress --data $(DATA) --rivals .venv-rivals-compress/bin/python

bench-cache: setup ## Measure the semantic cache: make bench-cache DATA=folder
	$(PYTHON) -m venv .venv-rivals-cache
	.venv-rivals-cache/bin/pip install -q -r tests/benchmarks/requirements-rivals-cache.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.bench_cache --data $(DATA) --rivals .venv-rivals-cache/bin/python

bench-budget: setup ## Measure budgets: overshoot, times, other guards, the desk with 40,000 tokens
	$(PYTHON) -m venv .venv-rivals-budget
	.venv-rivals-budget/bin/pip install -q -r tests/benchmarks/requirements-rivals-budget.txt
	$(BIN)/python -W ignore -m tests.benchmarks.bench_budget --rivals .venv-rivals-budget/bin/python
	$(BIN)/python -m tests.benchmarks.bench_desk
