# Every target sets up what it needs: Debian packages (asked of sudo when not root), then a virtual environment from locked wheels.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

.DEFAULT_GOAL := help
.PHONY: help run test check bench image aidl fuzz clean lock packages

help: ## show the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

packages:
	@./packaging/install-packages $(if $(filter test check bench,$(MAKECMDGOALS)),test,run)

$(STAMP): requirements/dev.txt pyproject.toml | packages
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --disable-pip-version-check install -q --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip --disable-pip-version-check install -q --no-deps --no-build-isolation -e .
	@touch $@

IMAGE := build/image/microdroid.json
SAMPLE := build/payload/sample.apk
IMAGE_SOURCES := $(shell find src/avf/image src/avf/guest src/avf/binder src/avf/aidl src/avf/apk src/avf/sdk src/avf_payload src/avf/proto3.py src/avf/metadata.py src/avf/printable.py -name '*.py' -o -name '*.c' -o -name '*.h' -o -name '*.map')

$(IMAGE): $(IMAGE_SOURCES) | $(STAMP)
	@$(BIN)/python -m avf.image build --output $(@D)
	@touch $@

$(SAMPLE): $(wildcard examples/payload/* examples/payload/*/*) $(wildcard src/avf/sdk/include/*) examples/build_payload.py | $(STAMP)
	@rm -f build/payload/instance.img # sealed for the former payload
	@$(BIN)/python examples/build_payload.py $@

image: $(IMAGE) ## build the guest image

run: $(IMAGE) $(SAMPLE) ## run the sample payload in a virtual machine
	@AVF_IMAGE_DIR=$(CURDIR)/$(dir $(IMAGE)) $(BIN)/vm run-app $(SAMPLE) $(SAMPLE).idsig build/payload/instance.img \
		--payload-binary-name libhello.so --debug full

test: $(IMAGE) $(SAMPLE) ## run all tests, virtual machines included, a file at a time on each core
	@AVF_IMAGE_DIR=$(CURDIR)/$(dir $(IMAGE)) $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

bench: $(IMAGE) $(SAMPLE) ## measure, write build/bench.json
	@AVF_IMAGE_DIR=$(CURDIR)/$(dir $(IMAGE)) $(BIN)/python -m bench

check: $(STAMP) ## format, lint, types, import rules, spelling
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell

aidl: $(STAMP) ## generate src/avf/aidl from its .aidl files
	@$(BIN)/avf-aidl @src/avf/aidl/idl/avf-aidl.args

FUZZ := apk verify
FUZZ_SECONDS := 60

fuzz: $(STAMP) ## fuzz a parser: FUZZ="apk verify" FUZZ_SECONDS=60
	@$(BIN)/python -m pip --disable-pip-version-check install -q --require-hashes -r requirements/fuzz.txt
	@$(BIN)/python -m fuzz $(FUZZ) -max_total_time=$(FUZZ_SECONDS)

clean: ## remove everything that was built
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache $(VENV)

lock: $(STAMP) ## resolve requirements/dev.in anew
	@$(BIN)/python -m pip -q install pip-tools
	@$(BIN)/pip-compile -q --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate --allow-unsafe --strip-extras -o requirements/dev.txt requirements/dev.in
