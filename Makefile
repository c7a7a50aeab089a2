# Every target sets up what it needs: Debian packages (asked of sudo when not root), then a virtual environment from locked wheels.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What runs VMs, what makes the documentation site, and what is needed to work on the project.
RUN_STAMP := $(VENV)/.run-stamp
DOCS_STAMP := $(VENV)/.docs-stamp
STAMP := $(VENV)/.stamp
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq

.DEFAULT_GOAL := help
.PHONY: help run test warm check bench image docs aidl fuzz clean wheel deb try-deb lock packages

help: ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

packages:
	@./packaging/install-packages $(or $(if $(filter test warm bench,$(MAKECMDGOALS)),test),$(if $(filter run image fuzz build/%,$(MAKECMDGOALS)),run),check)

$(RUN_STAMP): requirements/run.txt pyproject.toml | packages
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(DOCS_STAMP): requirements/docs.txt $(RUN_STAMP)
	@$(PIP) install --require-hashes -r requirements/docs.txt
	@touch $@

$(STAMP): requirements/dev.txt $(DOCS_STAMP)
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

IMAGE := build/image/microdroid.json
SAMPLE := build/payload/sample.apk
IMAGE_SOURCES := $(shell find src/avf/image src/avf/guest src/avf/binder src/avf/aidl src/avf/apk src/avf/shell src/avf/sdk src/avf_payload src/avf/proto3.py src/avf/invocation.py src/avf/metadata.py src/avf/named.py src/avf/printable.py -name '*.py' -o -name '*.c' -o -name '*.h' -o -name '*.map' -o -name '*.config')

$(IMAGE): $(IMAGE_SOURCES) | $(RUN_STAMP)
	@echo "Building the guest image" >&2
	@$(BIN)/python -m avf.image build --quiet --output $(@D)
	@touch $@

$(SAMPLE): $(wildcard examples/payload/* examples/payload/*/*) $(wildcard src/avf/sdk/include/*) examples/build_payload.py | $(RUN_STAMP)
	@rm -f build/payload/instance.img # sealed for the former payload
	@$(BIN)/python examples/build_payload.py $@

image: $(IMAGE) ## build the guest image

run: $(IMAGE) $(SAMPLE) ## run the sample payload in a virtual machine
	@AVF_IMAGE_DIR=$(CURDIR)/$(dir $(IMAGE)) $(BIN)/vm run-app $(SAMPLE) $(SAMPLE).idsig build/payload/instance.img \
		--payload-binary-name libhello.so --debug full

# One process more than cores: a test often waits for a program or a guest.
TEST_PROCESSES := $(shell cores=$$(nproc); echo $$((cores < 4 ? cores + 1 : 4)))

test: $(STAMP) $(IMAGE) $(SAMPLE) ## run all tests, virtual machines included, a file at a time in each process
	@AVF_IMAGE_DIR=$(CURDIR)/$(dir $(IMAGE)) $(BIN)/python -m tests -n $(TEST_PROCESSES) --dist loadfile

warm: $(STAMP) $(IMAGE) $(SAMPLE) ## run the tests of virtual machines with VMs that begin as clones
	@AVF_WARM=on AVF_IMAGE_DIR=$(CURDIR)/$(dir $(IMAGE)) $(BIN)/pytest -m vm -n $(TEST_PROCESSES) --dist loadfile

bench: $(STAMP) $(IMAGE) $(SAMPLE) ## measure, write build/bench.json
	@AVF_IMAGE_DIR=$(CURDIR)/$(dir $(IMAGE)) $(BIN)/python -m bench

check: $(STAMP) ## format, lint, types, import rules, spelling
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell

docs: $(DOCS_STAMP) ## build the documentation site into build/site
	@$(BIN)/python -m website build/site

aidl: $(STAMP) ## generate src/avf/aidl from its .aidl files
	@$(BIN)/avf-aidl @src/avf/aidl/idl/avf-aidl.args

FUZZ := apk verify
FUZZ_SECONDS := 60

fuzz: $(STAMP) ## fuzz a parser: FUZZ="apk verify" FUZZ_SECONDS=60
	@$(PIP) install --require-hashes -r requirements/fuzz.txt
	@$(BIN)/python -m fuzz $(FUZZ) -max_total_time=$(FUZZ_SECONDS)

clean: ## remove everything that was built
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache $(VENV)

wheel: $(RUN_STAMP) ## build the wheel into dist
	@$(PIP) wheel --no-deps --no-build-isolation -w dist .

deb: $(RUN_STAMP) ## build the Debian package into dist
	@$(BIN)/python packaging/deb/build.py dist

try-deb: deb ## install and purge the package in fresh Debian 12 and 13
	@./packaging/deb/try dist/avf-linux_*.deb

COMPILE := pip-compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate --allow-unsafe --strip-extras

lock: $(STAMP) ## resolve requirements anew
	@$(PIP) install pip-tools
	@cd requirements && ../$(BIN)/$(COMPILE) --upgrade -o dev.txt dev.in
	@cd requirements && for name in run package docs; do ../$(BIN)/$(COMPILE) --upgrade -o $$name.txt $$name.in || exit 1; done
