# `make run` and `make test` need Python 3.11+, pip and make; nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check clean

run: $(VENV)/installed ## start everything: web, workers, Redis; Ctrl-C stops it
	@exec $(BIN)/python manage.py up

test: $(VENV)/installed-tests ## the whole suite, on real servers that it starts itself
	$(BIN)/python -m pytest

check: $(VENV)/installed-tests ## style, types, import layers, migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python manage.py makemigrations --check --dry-run

clean: ## forget the virtual environment and the embedded data
	rm -rf $(VENV) var

$(VENV)/installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/installed-tests: $(VENV)/installed tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@
