# fedpeft: `make demo` runs the main job, `make test` passes the tests. Both set up what they need.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

export HF_HUB_OFFLINE := 1
export OMP_NUM_THREADS := 1

.PHONY: help demo test check lint types imports fast format install wheel bench clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(STAMP)  ## 20 unequal devices fine-tune a real pretrained model together
	$(BIN)/fedpeft run simulations/assistant.toml --fresh

install: $(STAMP)  ## build .venv with fedpeft and the tested versions of everything

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fedpeft needs Python 3.11 or newer; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	touch $(STAMP)

test: $(STAMP) lint types imports  ## everything, in under 30 minutes
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(STAMP) lint types imports fast  ## lint, types and fast tests, in under 3 minutes

fast: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not system"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

format: $(STAMP)  ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(STAMP)  ## build dist/*.whl
	$(BIN)/python -m build --wheel

bench: $(STAMP)  ## measure against peers and limits; writes benchmarks/benchmarks.html
	$(BIN)/fedpeft bench

clean:  ## remove what was built, but no run
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
