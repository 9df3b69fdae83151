# `make` alone lists what there is. Works with GNU make 3.81 and POSIX sh, so that a Mac needs nothing more.

.DEFAULT_GOAL := help
# The targets share .venv; pytest runs its tests in parallel by itself, and `sure` what needs one processor each.
.NOTPARALLEL:

# Empty PYTHON means the first one on the PATH that is new enough; `make UV= ...` does without uv.
PYTHON ?=
UV ?= $(shell command -v uv 2>/dev/null)
# pytest's own arguments: make test ARGS="-k money -x"
ARGS ?=
# `logical`, since xdist's `auto` counts no hyper-threads. tests/conftest.py adds some, since many tests wait.
WORKERS ?= logical
# A worker that has nothing left to do takes over what another has not begun.
PARALLEL := -n $(WORKERS) --maxprocesses 8 --dist worksteal

# The modules rather than the scripts in .venv/bin, whose first line breaks when the folder is moved.
PY := .venv/bin/python
INSTALL := PYTHON='$(PYTHON)' UV='$(UV)' sh requirements/install.sh
SOURCES := app config.py worker.py wsgi.py gunicorn.conf.py gunicorn_worker.py

# A PostgreSQL, a Redis, a broker or a collector of traces to run with needs its library.
RUN_SET := $(if $(CELERY_BROKER_URL),worker,$(if $(OTEL_EXPORTER_OTLP_ENDPOINT),tracing,$(if $(DATABASE_URL)$(REDIS_URL),production,run)))

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: install-run ## Serve a demo catalogue on http://127.0.0.1:8000 (PORT=9000 moves it)
	@$(PY) -m flask db upgrade
	@$(PY) -m flask catalog demo --announce
	@exec $(PY) -m gunicorn wsgi:app

.PHONY: dev
dev: install-run ## The same, reloading when a source file changes
	@$(PY) -m flask db upgrade
	@$(PY) -m flask catalog demo --announce
	@exec $(PY) -m gunicorn --reload wsgi:app

.PHONY: fast
fast: ## Install gunicorn's parser in C, which needs a C compiler
	@$(INSTALL) fast

# What tests need that is published for npm alone: axe, which finds faults of accessibility, and for the tests of logins
# an identity provider and a client. Without npm, or where it fails, the tests that need them are skipped.
AXE := tests/browser/node_modules/.package-lock.json
LOGINS := tests/javascript/node_modules/.package-lock.json
$(AXE) $(LOGINS): %/node_modules/.package-lock.json: %/package-lock.json
	@PATH="$(CURDIR)/.venv/bin:$$PATH"; ! command -v npm >/dev/null || npm --prefix $* ci --silent || \
		echo "npm could not install $*/package-lock.json: the tests that need it are skipped"

.PHONY: test
test: install-test $(LOGINS) ## Run the tests (ARGS="-k money" chooses some)
	@$(PY) -m pytest $(PARALLEL) $(ARGS)

.PHONY: quick
quick: install-test ## The tests that need neither servers nor much time, on SQLite alone
	@TEST_QUICK=1 $(PY) -m pytest $(PARALLEL) $(ARGS)

.PHONY: reviewed
reviewed: install-test ## Regenerate the tables of routes and of who may call what, for review
	@UPDATE_REVIEWED=1 $(PY) -m pytest -p no:randomly tests/architecture $(ARGS)
	@git --no-pager diff --stat -- tests/architecture

# What CI has the time for; `make plain PLAIN=tests/features` runs more. tests/web/test_queries.py counts the statements
# of requests, and passes with compiled ones alone.
PLAIN ?= tests/core tests/features/stock tests/features/events tests/features/audit \
	$(addprefix tests/features/products/test_products_,list.py routes.py)

.PHONY: plain
plain: install-test ## Run the tests of the kernel and the features without compiled statements (FAST_SQL=0)
	@TEST_FAST_SQL=0 $(PY) -m pytest $(PARALLEL) $(PLAIN) $(ARGS)

# npm and its programs look for Node on the PATH.
NPM := PATH="$(CURDIR)/.venv/bin:$$PATH" npm --prefix clients/typescript
PYTHON_CLIENT := clients/python/build/catalog_client

.PHONY: browser
browser: install-test $(AXE) $(LOGINS) ## Run the tests that drive a headless Chromium
	@$(PY) -m pytest $(PARALLEL) tests/browser -m browser $(ARGS)

.PHONY: clients
clients: install-clients ## Generate clients from openapi.json, check their types, and drive each against a server
	@rm -rf clients/*/build
	@$(NPM) run --silent generate
	@$(NPM) run --silent check
	@.venv/bin/openapi-python-client generate --path openapi.json --config clients/python/config.yaml --meta none \
		--output-path $(PYTHON_CLIENT) --overwrite --fail-on-warning
	@MYPYPATH=$(dir $(PYTHON_CLIENT)) $(PY) -m mypy --config-file= --cache-dir .mypy_cache/clients --strict \
		clients/python/scenario.py $(PYTHON_CLIENT)
	@$(PY) -m pytest tests/clients -m clients $(ARGS)

.PHONY: document-lint
document-lint: install-clients ## Check openapi.json with Redocly and Spectral
	@$(NPM) run --silent lint

.PHONY: coverage
coverage: install-test $(LOGINS) ## Run the tests and list the lines they miss
	@$(PY) -m pytest $(PARALLEL) --cov $(ARGS)

.PHONY: lint
lint: install-test ## Check style, security patterns, dependencies and the Dockerfile
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m bandit --quiet --severity-level medium --configfile pyproject.toml --recursive $(SOURCES)
	@$(PY) -m deptry .
	@.venv/bin/hadolint Dockerfile

.PHONY: format
format: install-test ## Rewrite the sources in the project's style
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

.PHONY: types
types: install-test ## Check the types
	@$(PY) -m mypy

.PHONY: layers
layers: install-test ## Check who imports whom
	@.venv/bin/lint-imports

.PHONY: openapi
openapi: install-run ## Regenerate openapi.json from the routes and schemas
	@$(PY) -m flask openapi > openapi.json.new
	@mv openapi.json.new openapi.json

# The models are compared with a database of its own: the developer's may be behind, or hold what it should not.
.PHONY: migration
migration: install-test ## Write the next migration from the models (m="add suppliers")
	@test -n "$$m" || { echo 'Say what it does: make migration m="add suppliers"' >&2; exit 1; }
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
		export APP_ENV=development DATABASE_URL="sqlite:///$$folder/catalog.db" && \
		$(PY) -m flask db upgrade && $(PY) -m flask db migrate --message "$$m"

.PHONY: compatible
compatible: install-test ## Check that openapi.json breaks no client of the last release (docs/versions.md)
	@$(PY) -m compatibility

.PHONY: soak-feed
soak-feed: install-test ## Ten minutes of the change feed on each database, beside writers that do everything wrong
	@FEED_ROUNDS=10 FEED_SECONDS=60 FEED_HELD_SECONDS=60 $(PY) -m pytest tests/live/test_feed.py $(ARGS)

.PHONY: sure
sure: install-clients ## Everything CI checks
	@sh .ci/at_once.sh '$(MAKE) lint types layers compatible' '$(MAKE) document-lint clients'
	@$(MAKE) browser test plain

.PHONY: bench
bench: install-test ## Compare with other frameworks at equal work, in eight minutes; needs wrk
	@$(PY) -m benchmarks.compare $(ARGS)

.PHONY: bench-full
bench-full: install-test ## The same for longer and at two loads, and how costs grow with the catalogue
	@$(PY) -m benchmarks.compare --full $(ARGS)
	@$(PY) -m benchmarks.growth $(filter --write,$(ARGS))

.PHONY: bench-login
bench-login: install-test ## Measure logins: whether their time betrays accounts, and what a storm leaves to readers
	@$(PY) -m benchmarks.login

.PHONY: bench-imports
bench-imports: install-test ## Measure an import through the API: rows a second, and the memory of who takes and does it
	@$(PY) -m benchmarks.imports

.PHONY: bench-media
bench-media: install-test ## Measure what a picture costs, and an import whose rows name three each
	@$(PY) -m benchmarks.media $(ARGS)

.PHONY: bench-feed
bench-feed: install-test ## Measure creates with the change feed and without it, where commits wait for the disk
	@$(PY) -m benchmarks.feed $(ARGS)

.PHONY: bench-cache
bench-cache: install-test ## Measure what the response cache keeps and saves while the catalogue is written
	@$(PY) -m benchmarks.cache $(ARGS)

.PHONY: bench-webhooks
bench-webhooks: install-test ## Measure what a dead endpoint with a long queue does to the others, and to readers
	@$(PY) -m benchmarks.webhooks $(ARGS)

.PHONY: bench-tracing
bench-tracing: install-test ## Measure what traces cost a request, and what the hooks cost where they are off
	@$(PY) -m benchmarks.tracing $(ARGS)

.PHONY: bench-facets
bench-facets: install-test ## Measure what facets cost at 100,000 products, by filters, on both databases
	@$(PY) -m benchmarks.facets $(ARGS)

.PHONY: bench-variants
bench-variants: install-test ## Measure what variants cost, beside a flat catalogue with as many products
	@$(PY) -m benchmarks.variants $(ARGS)

.PHONY: bench-metrics
bench-metrics: install-test ## Measure what counting adds to a request, and what a scrape costs
	@$(PY) -m benchmarks.metrics $(ARGS)

.PHONY: bench-streams
bench-streams: install-test ## Measure what a thousand open live streams leave to the lists
	@$(PY) -m benchmarks.streams $(ARGS)

.PHONY: audit
audit: install-test ## Ask the vulnerability database about the locked packages
	@$(PY) -m pip_audit --strict --disable-pip --require-hashes --requirement requirements/production.txt

# --no-annotate: the graph is pyproject.toml's business; the smaller sets take their versions from the largest.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" pyproject.toml

.PHONY: lock
lock: ## Pin the dependencies again (ARGS=--upgrade takes newer versions); needs uv
	$(COMPILE) --extra production --extra worker --extra tracing --extra test --output-file requirements/test.txt $(ARGS)
	$(COMPILE) --extra production --extra worker --constraint requirements/test.txt --output-file requirements/worker.txt \
		$(ARGS)
	$(COMPILE) --extra production --extra tracing --constraint requirements/test.txt \
		--output-file requirements/tracing.txt $(ARGS)
	$(COMPILE) --extra production --constraint requirements/test.txt --output-file requirements/production.txt $(ARGS)
	$(COMPILE) --constraint requirements/test.txt --output-file requirements/run.txt $(ARGS)
	$(subst pyproject.toml,--group fast,$(COMPILE)) --output-file requirements/fast.txt $(ARGS)
	$(subst pyproject.toml,--group clients,$(COMPILE)) --constraint requirements/test.txt \
		--output-file requirements/clients.txt $(ARGS)
	@for folder in clients/typescript tests/javascript; do \
		PATH="$(CURDIR)/.venv/bin:$$PATH" npm --prefix $$folder install --package-lock-only --loglevel error && \
		$(PY) clients/typescript/without_addresses.py $$folder/package-lock.json || exit 1; done

.PHONY: clean
clean: ## Remove what the other targets made, except the data in instance/
	@rm -rf .venv .bench .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find app benchmarks migrations tests -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	@rm -rf __pycache__ clients/*/build clients/*/node_modules tests/*/node_modules

.PHONY: install-run install-test install-clients
install-run:
	@$(INSTALL) $(RUN_SET)

install-test:
	@$(INSTALL) test

# The copy of the lock beside what it installed is the stamp, as in install.sh.
install-clients: install-test
	@$(INSTALL) clients
	@cd clients/typescript && cmp -s package-lock.json node_modules/installed.json || { \
		echo "Installing clients/typescript/package-lock.json ..." && cd ../.. && $(NPM) ci --loglevel error && \
		cp clients/typescript/package-lock.json clients/typescript/node_modules/installed.json; }
