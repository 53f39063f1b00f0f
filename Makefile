# What a contributor needs, each in one command. `make` alone lists them.
# PYTHON chooses the interpreter (3.11 or newer) that .venv is made with.

PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$each" && break; done || true)
BIN := .venv/bin
SECONDS ?= 60

.PHONY: help test try lint unit contract tools guest machine faults fuzz bench clean needs machine-needs

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

test: needs  ## install what is needed, then linters and every floor of the tests
	@PYTHON=$(PYTHON) tests/vm/install-needs machine || true  # the floor says by itself that it could not run
	@$(MAKE) --no-print-directory lint; linted=$$?; $(BIN)/python tests/floors.py || exit; \
	[ $$linted = 0 ] || echo 'The linters are NOT content, see above (make lint).'; exit $$linted

try: needs  ## install what is needed, then show a whole rotation on practice drives
	@tests/vm/try $(BIN)/python -m flashback practice

lint: .venv/ready  ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

unit contract: .venv/ready
	@$(BIN)/python tests/floors.py $@

tools guest: needs
	@$(BIN)/python tests/floors.py $@

machine: needs machine-needs  ## the tests with systemd, a desktop session and USB sticks, in QEMU (root)
	@$(BIN)/python tests/floors.py machine

unit:  ## the tests that start no process
contract:  ## the tests that start fake programs
tools:  ## the tests with real tools on loop files (root)
guest:  ## the tests with dm-crypt and sticks, in a kernel of their own (root)

faults: needs  ## every fault at every point, for hours; writes docs/explanation/fault-matrix.md (root)
	@$(BIN)/python tests/fault_matrix.py $(COMMANDS)

fuzz: .venv/ready  ## look for bytes that break a parser, a minute for each (TARGETS, SECONDS)
	@$(BIN)/pip install -qq --disable-pip-version-check --group fuzz
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(TARGETS)

bench: .venv/ready  ## how long the start takes
	@$(BIN)/python benchmarks/start_up.py

clean:  ## remove what was made here: .venv, caches, build output
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find flashback tests benchmarks -name __pycache__ -type d -exec rm -rf {} +

needs:
	@PYTHON=$(PYTHON) tests/vm/install-needs
	@$(MAKE) --no-print-directory -s .venv/ready

machine-needs:
	@PYTHON=$(PYTHON) tests/vm/install-needs machine

# The pip that an old Python brings does not know --group.
.venv/ready: pyproject.toml flashback/__init__.py
	@PYTHON=$(PYTHON) tests/vm/install-needs
	@echo "Making .venv ($$($(PYTHON) --version))"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/pip install -qq --disable-pip-version-check --editable . --group dev
	@touch $@
