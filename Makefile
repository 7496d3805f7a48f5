# Everything a developer types. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help ask test slow gpu adapters lint fix wheel wheels

PYTHON ?= python3
VENV := .venv
ADAPTERS := .venv-adapters
UV := $(shell command -v uv 2>/dev/null)
CXX_FOUND := $(shell command -v c++ g++ clang++ 2>/dev/null)
ifeq ($(UV),)
MAKE_VENV := $(PYTHON) -m venv
# Compiling what is imported when it is imported takes a second; all that is installed took six.
INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile
else
MAKE_VENV := $(UV) venv --quiet --seed --python $(PYTHON)
INSTALL := $(UV) pip install --quiet --python $(VENV)/bin/python
endif
INSTALL += -c constraints.txt
# Without a C++ compiler on the machine, one from the package index makes the kernels.
COMPILER := $(if $(CXX_FOUND),,[compiler])
Q ?= How many encoder layers does the bundled reader have?
export Q
# Tests start processes; without compiled bytecode each of them compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

ask: $(VENV)/.core ## Ask the bundled reader; Q="your question" asks another
	@$(VENV)/bin/fidkit ask "$$Q"

test: $(VENV)/.dev ## Run the tests (a few minutes, CPU, no network)
	$(VENV)/bin/python -m pytest -n auto --dist worksteal

gpu: $(VENV)/.dev ## Run the tests that need a CUDA device
	$(VENV)/bin/python -m pytest -m gpu

slow: $(VENV)/.dev ## Run the tests marked slow, and each property with many examples
	$(VENV)/bin/python -m pytest -m "slow and not gpu and not network"
	FIDKIT_EXAMPLES=100 $(VENV)/bin/python -m pytest -n auto -m "hypothesis and not slow and not gpu and not network"

adapters: $(ADAPTERS)/.installed ## Run the tests of the adapters against the real frameworks
	HAYSTACK_TELEMETRY_ENABLED=False $(ADAPTERS)/bin/python -m pytest -m adapters tests/adapters

lint: $(VENV)/.dev ## Check style, types, the import contract and the length of functions
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python .ci/structure.py

fix: $(VENV)/.dev ## Mend what the style check can mend
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

wheel: $(VENV)/.dev ## Build the wheel into dist/
	$(VENV)/bin/hatchling build -t wheel

wheels: $(VENV)/.dev ## Build wheels with compiled kernels for Linux into dist/
	$(INSTALL) ziglang
	FIDKIT_KERNELS=x86_64 $(VENV)/bin/hatchling build -t wheel
	FIDKIT_KERNELS=aarch64 $(VENV)/bin/hatchling build -t wheel

$(VENV)/bin/python:
	@$(MAKE_VENV) $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing fidkit into $(VENV), and compiling its kernels meanwhile (once)" >&2
	@PYTHONPATH=src $(PYTHON) src/fidkit/native/build.py & $(INSTALL) -e '.$(COMPILER)'; status=$$?; wait; exit $$status
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing fidkit and the developer tools into $(VENV) (once; torch is large)" >&2
	@$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.core

# Apart from the other tools: the frameworks bring a hundred packages, and none of them needs PyTorch here.
$(ADAPTERS)/.installed: pyproject.toml constraints.txt
	@$(MAKE_VENV) $(ADAPTERS)
	@$(subst $(VENV)/,$(ADAPTERS)/,$(INSTALL)) -e '.[adapters,serve]' pytest hypothesis httpx openai
	@touch $@
