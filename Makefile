# Every target sets up what it needs: Debian packages (asked of sudo when not root), then a virtual environment from locked wheels.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

.DEFAULT_GOAL := help
.PHONY: help run test check bench image clean lock packages

help: ## show the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

packages:
	@./packaging/install-packages $(if $(filter test check bench,$(MAKECMDGOALS)),test,run)

$(STAMP): requirements/dev.txt pyproject.toml | packages
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --disable-pip-version-check install -q --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip --disable-pip-version-check install -q --no-deps --no-build-isolation -e .
	@touch $@

check: $(STAMP) ## format, lint, types, import rules, spelling
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell

clean: ## remove everything that was built
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache $(VENV)

lock: $(STAMP) ## resolve requirements/dev.in anew
	@$(BIN)/python -m pip -q install pip-tools
	@$(BIN)/pip-compile -q --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate --allow-unsafe --strip-extras -o requirements/dev.txt requirements/dev.in
