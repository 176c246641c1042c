# Everything that is done with this checkout. `make` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The first Python on the machine that is new enough; `make PYTHON=/path/to/python3.12 …` chooses another.
find_python := for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done
PYTHON ?= $(shell $(find_python))
UV ?= uv
# Tests spend half their time waiting for servers, disks and processes.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 2 ? 3 : n > 6 ? 8 : n + n / 2)))
PYTEST := .venv/bin/python -m pytest
# For `make test ARGS="-k cursor"`.
ARGS ?=
# Where `make install` puts things, and which lock file of requirements/ it takes.
PREFIX ?= /opt/eventferry
BINDIR ?= /usr/local/bin
WITH ?= full

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: .venv-demo/installed ## carry a sample store to two sinks and check the books; DEMO_EVENTS=1000000 for more
	@.venv-demo/bin/python demo/run.py $(if $(DEMO_EVENTS),--events $(DEMO_EVENTS))

.PHONY: demo-warehouse
demo-warehouse: .venv-demo/warehouse ## carry the sample store into a PostgreSQL and ask it four questions
	@.venv-demo/bin/python demo/warehouse.py $(if $(DEMO_EVENTS),--events $(DEMO_EVENTS)) $(ARGS)

.PHONY: install
install: ## put it into PREFIX=/opt/eventferry, for a service; as root
	$(call make_environment,$(PREFIX)/venv,$(WITH),.)
	@mkdir -p $(BINDIR)
	@ln -sfn $(PREFIX)/venv/bin/eventferry $(BINDIR)/eventferry
	@$(BINDIR)/eventferry --version

.PHONY: test
test: .venv/installed ## every test but the lanes below; ARGS="-k cursor" selects
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not faults and not systemd and not servers and not pull" $(ARGS)

.PHONY: test-pull
test-pull: .venv/installed ## the pull side as a whole: server, dialects, exports, console in a browser
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "pull and not faults" $(ARGS)

.PHONY: test-servers
test-servers: .venv/installed .venv-chdb/installed .venv-azurite/installed ## sinks and stores against servers that pip does not bring (MariaDB, ClickHouse, Azurite, …)
	$(PYTEST) -n $(WORKERS) --dist loadfile -m "servers and not faults" --ignore tests/contract/test_snowflake.py $(ARGS)
	$(MAKE) test-snowflake

.PHONY: test-snowflake
test-snowflake: .venv-snowflake/installed ## the snowflake sink against fakesnow, which needs an environment of its own
	.venv-snowflake/bin/python -m pytest -m servers $(ARGS) tests/contract/test_snowflake.py

.PHONY: test-systemd
test-systemd: .venv/installed ## the units on a real systemd, booted on an overlay of the machine; as root
	$(PYTEST) -n $(WORKERS) --dist worksteal -m systemd $(ARGS)

.PHONY: faults-short
faults-short: .venv/installed ## kill -9 the daemon a hundred times and count every event
	$(PYTEST) -m "faults and not slow" $(ARGS) tests/faults

.PHONY: faults
faults: .venv/installed ## the same, and whether the lane finds faults that were put in on purpose
	$(PYTEST) -m faults $(ARGS) tests/faults

.PHONY: lint
lint: .venv/installed ## style, formatting, types, layers
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo

.PHONY: format
format: .venv/installed ## mend style and formatting where that is mechanical
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.PHONY: bench
bench: .venv/installed ## measure against decompression alone, a naive script and zcat
	.venv/bin/python bench/run.py $(ARGS)

.PHONY: bench-short
bench-short: .venv/installed ## the same in a few minutes, with wider limits
	.venv/bin/python bench/run.py --short $(ARGS)

.PHONY: bench-sinks
bench-sinks: .venv/installed ## measure postgres, object_store, clickhouse and http, each against its client's own best way
	.venv/bin/python bench/postgres.py $(ARGS)
	.venv/bin/python bench/object_store.py $(ARGS)
	.venv/bin/python bench/http_sink.py $(ARGS)
	$(if $(ARGS),,.venv/bin/python bench/clickhouse.py)

.PHONY: bench-far
bench-far: .venv/installed ## measure a store 50 ms away, and the memory that its client takes
	.venv/bin/python bench/far_store.py $(ARGS)

.PHONY: bench-exports
bench-exports: .venv/installed ## measure a million events exported, counted by DuckDB, and served
	.venv/bin/python bench/exports.py
	.venv/bin/python bench/exact.py
	.venv/bin/python bench/events_endpoint.py

.PHONY: lock
lock: ## pin every dependency anew (needs uv); LOCK_ARGS=--upgrade for newer versions
	$(call compile,dev,--extra dev)
	$(call compile,full,--extra s3 --extra gcs --extra azure --extra duckdb --extra postgres --extra mysql --extra notify --extra parquet --extra api -c requirements/dev.txt)
	$(call compile,demo,--extra demo -c requirements/dev.txt)
	$(call compile,warehouse,--extra warehouse -c requirements/dev.txt)
	$(call compile,core,-c requirements/dev.txt)
	$(call compile,snowflake,--extra snowflake -c requirements/dev.txt requirements/snowflake.in)
	$(call pin,chdb,-c requirements/dev.txt requirements/chdb.in)

# Nothing of this machine's own configuration gets into the files.
pin = $(UV) --no-config pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --no-emit-index-url --no-emit-find-links $(LOCK_ARGS) --output-file requirements/$(1).txt $(2)
compile = $(call pin,$(1),$(2) pyproject.toml requirements/build.in)

.PHONY: clean
clean: ## remove environments, caches, what the demo and the benchmark wrote
	rm -rf .venv .venv-demo .venv-snowflake .venv-azurite .venv-chdb demo-data demo-warehouse-data bench-data bench/results dist build .hypothesis
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments. The stamp is newer than what it was made from, so that a second run starts at once.
.venv/installed: requirements/dev.txt pyproject.toml
	$(call make_environment,.venv,dev,--editable .)
	@touch $@

.venv-demo/installed: requirements/demo.txt pyproject.toml
	$(call make_environment,.venv-demo,demo,--editable .)
	@touch $@

.venv-demo/warehouse: requirements/warehouse.txt pyproject.toml
	$(call make_environment,.venv-demo,warehouse,--editable .)
	@touch $@

.venv-snowflake/installed: requirements/snowflake.txt pyproject.toml
	$(call make_environment,.venv-snowflake,snowflake,--editable .)
	@touch $@

# ClickHouse's engine as a library, for tests/chdb_front.py: 800 MB that nothing of eventferry imports.
.venv-chdb/installed: requirements/chdb.txt
	$(call make_environment,.venv-chdb,chdb)
	@touch $@

# Azurite comes from npm, its whole tree by hash. Without Node.js its tests are skipped, and in CI they fail.
.venv-azurite/installed: requirements/azurite/package-lock.json
	@mkdir -p .venv-azurite
	@cp requirements/azurite/package.json requirements/azurite/package-lock.json .venv-azurite/
	@if command -v npm >/dev/null; then echo "Installing into .venv-azurite, once …"; \
		cd .venv-azurite && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error && touch installed; fi

# Whatever pip is configured to look at on this machine: it may install only what has the hashes in the lock file.
define make_environment
	@test -n "$(PYTHON)" || { echo "eventferry needs Python 3.11 or newer; install it, or name it: make PYTHON=/path/to/python3 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing into $(1), once ($$($(PYTHON) --version)) …"
	@$(PYTHON) -m venv $(1)
	@$(1)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/$(2).txt
	$(if $(3),@$(1)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation $(3))
endef
