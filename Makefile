# `make run` and `make test` need Python 3.11+, pip and make; nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

# Tests often wait, so the suite runs in more processes than there are cores: two more, but at most four in all. Each
# process has servers of its own. The tests of a file run in one process, because they share the servers that they start.
PROCESSES = $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 2))')
TOGETHER = --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder
SLOW_FIRST := tests/faults tests/e2e tests/browser tests/soak

# Keep compiled files, even if the environment says otherwise: compiling the tests costs each process six seconds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test long prepare bench check lock faults soak clean chromium broker programs

run: $(VENV)/installed ## start the whole service: web, workers, Redis; Ctrl-C stops it; CLUSTER=3 adds a Redis Cluster
	@exec $(BIN)/python manage.py up $(if $(CLUSTER),--cluster $(CLUSTER))

test: prepare ## run the whole suite, which starts the servers it needs
	$(BIN)/python -m pytest $(TOGETHER) -m "not long" $(SLOW_FIRST) tests

long: prepare broker ## run the tests that measure speed, memory and many connections; the machine must be idle
	$(BIN)/python -m pytest -m long tests

prepare: $(VENV)/installed-tests programs ## install what the suite needs

broker: ## install Debian's RabbitMQ, if this user is root; only one test of `make long` needs it
	$(call install-programs,rabbitmq-server:rabbitmq-server)

# The headless shell needs half as much processor time as the whole browser. Some distributions have only the browser.
chromium: ## install Debian's Chromium for the admin's tests, if it is missing and this user is root
	@command -v chromium-headless-shell >/dev/null || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || { \
		apt-get update -qq && for each in chromium-headless-shell chromium; do DEBIAN_FRONTEND=noninteractive \
		apt-get install -qq -y --no-install-recommends $$each fonts-dejavu-core >/dev/null && break; done; } || true

# Install Debian packages, if this user is root. Each argument is package:command. Skip a package if its command exists.
define install-programs
	@PATH="$$PATH:/usr/sbin"; missing=; \
	for each in $(1); do command -v $${each#*:} >/dev/null || missing="$$missing $${each%:*}"; done; \
	test -z "$$missing" || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || { \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing \
		>/dev/null; } || true
endef

# Unpack Debian packages, and the packages that these need, into a folder of the virtual environment. syslog-ng is only
# unpacked: if Debian installed it, Debian would remove the system's own log daemon.
define unpack-programs
	@test -e $(VENV)/$(1) || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || { \
		mkdir -p $(VENV)/$(1).new/partial && { fetch() { apt-get install -qq -y --no-install-recommends --download-only \
		-o Dir::Cache::archives=$(CURDIR)/$(VENV)/$(1).new $(2) >/dev/null; }; fetch || { apt-get update -qq && fetch; }; } && \
		for each in $(VENV)/$(1).new/*.deb; do dpkg-deb --extract $$each $(VENV)/$(1).new; done && \
		rm -r $(VENV)/$(1).new/*.deb $(VENV)/$(1).new/partial && mv $(VENV)/$(1).new $(VENV)/$(1); } || true
endef

# Install the Node packages of each folder, if the lock file of the folder has changed. Without npm, do nothing.
define install-node-packages
	@for each in $(1); do \
		test $$each/node_modules/.package-lock.json -nt $$each/package-lock.json || ! command -v npm >/dev/null \
		|| npm ci --silent --no-audit --no-fund --prefix $$each || true; done
endef

programs: chromium ## install the programs that some tests need (proxies, Node, PgBouncer and others), if this user is root
	$(call install-programs,nginx-light:nginx caddy:caddy haproxy:haproxy wrk:wrk nodejs:node npm:npm pgbouncer:pgbouncer \
		miller:mlr)
	$(call unpack-programs,syslog-ng,syslog-ng-core syslog-ng-mod-http)
	$(call install-node-packages,clients/typescript tests/clients tests/benchmarks/node)

bench: $(VENV)/installed-tests ## compare the service with three references, on this machine; options: make bench ARGS=--quick
	$(call install-programs,wrk:wrk nodejs:node npm:npm)
	$(call install-node-packages,tests/benchmarks/node)
	$(BIN)/python -m tests.benchmarks $(ARGS)

# pip-audit is not run here, because it needs a network service that lists known vulnerabilities.
check: $(VENV)/installed-tests ## check style, spelling, types, security, import layers, migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy .
	$(BIN)/mypy --config-file clients/python/pyproject.toml clients/python/src
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml config datasets ingest quotas clients/python/src manage.py
	$(BIN)/lint-imports --no-cache
	$(BIN)/python manage.py makemigrations --check --dry-run

lock: $(VENV)/installed-tests ## lock the packages of the two requirements.in; make lock ARGS=--upgrade takes newer indirect packages
	$(BIN)/uv pip compile --quiet $(ARGS) --output-file requirements.txt requirements.in
	$(BIN)/uv pip compile --quiet $(ARGS) --output-file tests/requirements.txt tests/requirements.in

faults: $(VENV)/installed-tests ## cause a thousand faults in half an hour, and check that no record is lost or doubled; SEED=n repeats a plan
	$(BIN)/python -m tests.faults --postgresql --faults 1000 $(if $(SEED),--seed $(SEED))

soak: $(VENV)/installed-tests ## run an hour of load, and check that memory, files and threads do not grow; options: make soak ARGS="--minutes 2"
	$(BIN)/python -m tests.soak $(ARGS)

clean: ## delete the virtual environment and the embedded data
	rm -rf $(VENV) var

$(VENV)/installed: requirements.txt
	@echo "Installing into $(VENV). This takes about a minute, once."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(INSTALL) -r requirements.txt
	@touch $@

$(VENV)/installed-tests: $(VENV)/installed tests/requirements.txt
	@# Python compiles each module when it first imports it. To compile whole packages here would take half a minute more.
	$(INSTALL) --no-compile -r tests/requirements.txt
	@touch $@
