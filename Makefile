# Flywheel's verbs. `make help` lists them; README.md says what they are for.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MEMBERS := $(wildcard libs/*/pyproject.toml) $(wildcard services/*/pyproject.toml) infra/local/pyproject.toml
EDITABLE := $(foreach m,$(MEMBERS),-e ./$(dir $(m)))
READY := $(VENV)/.ready
SEEDS ?= 20000
MINUTES ?= 30
PYTEST := $(BIN)/python -m pytest

.PHONY: help demo test quick up down status lint types schemas bench bench-anomaly bench-routing faults incidents soak lock clean

help: ## List the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(READY): requirements.lock infra/local/bootstrap.lock $(MEMBERS)
	@command -v $(PYTHON) >/dev/null || { echo "Flywheel needs Python 3.11 or newer: install it, or name it with PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Flywheel needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V)" >&2; exit 2; }
	@echo "Setting up $(VENV) (once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r infra/local/bootstrap.lock
	@$(BIN)/uv pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation $(EDITABLE)
	@touch $@

demo: $(READY) ## Replay recorded calls through the whole system and show what it learned
	@$(BIN)/flywheel demo

# A worker for each core: threads of linear algebra besides would wait for each other, at up to 14 times the CPU.
test quick: export OPENBLAS_NUM_THREADS := 1

test: $(READY) lint types ## Everything CI runs: lint, types, import rules, tests, coverage of cores and libs
	@rm -f .coverage .coverage.*
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report= --durations=15
	$(BIN)/python tests/coverage_gate.py

quick: $(READY) ## The tests that need no broker
	$(PYTEST) -q -m "not broker and not slow"

up: $(READY) ## Start Kafka, ClickHouse and the services here, in the background
	@$(BIN)/flywheel up

down: $(READY) ## Stop what `make up` started
	@$(BIN)/flywheel down

status: $(READY) ## Say what is running, and whether it is ready
	@$(BIN)/flywheel status

lint: $(READY) ## Style and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY) ## mypy --strict
	$(BIN)/mypy libs/*/src infra/local/src services/*/src

schemas: $(READY) ## Regenerate what is generated from schemas/ and the .proto files
	$(BIN)/python -m flywheel.events.generate
	$(BIN)/python -m flywheel.events.diagram README.md
	cd services/router && ../../$(BIN)/python -m grpc_tools.protoc -I proto --python_out=src --pyi_out=src --grpc_python_out=src proto/flywheel_router/v1/decide.proto

bench: $(READY) ## Measure, beside a baseline in the same run; results go to tests/bench/results/
	$(BIN)/python tests/bench/run.py

bench-anomaly: $(READY) ## Score the anomaly detector on NAB's series beside a rolling z and half-space trees
	$(BIN)/python tests/bench/run.py anomaly

bench-routing: $(READY) ## Compare routers on recorded answers (RouteLLM's MMLU and GSM8K, LLMRouter's nine models)
	$(BIN)/python tests/bench/run.py routing

faults: $(READY) ## Kill, freeze, cut and poison the running system, row by row (ROWS=...), and count everything
	$(BIN)/python tests/faults/run.py $(ROWS)

incidents: $(READY) ## Play ten kinds of incident in the running system, detector and controller killed all along
	$(BIN)/python tests/faults/incidents.py --kills

soak: $(READY) ## MINUTES (30) of load with random faults, then SEEDS (20,000) of the simulation: about 100 minutes
	$(BIN)/python tests/faults/soak.py --minutes $(MINUTES)
	$(BIN)/python tests/simulation/run.py --seeds $(SEEDS)

lock: $(VENV)/bin/python ## Pin every dependency with hashes (after a change to pyproject.toml)
	$(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --no-emit-index-url --extra dev --no-annotate --no-header pyproject.toml -o requirements.lock
	$(BIN)/python infra/docker/packages.py

clean: ## Stop what runs here; remove the environment and local data
	@test ! -x $(BIN)/flywheel || $(BIN)/flywheel down
	rm -rf $(VENV) .flywheel
