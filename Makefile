# `make demo` and `make test` need nothing but Python 3.11+: they make their own environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test soak lint docs bench chaos train page dist-check clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("cnapse needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## The whole pipeline on a volume that it makes itself
	$(BIN)/cnapse demo demo

test: $(READY)  ## All tests
	$(BIN)/python -m pytest -n auto --dist loadfile

soak: $(READY)  ## Tests that take long
	$(BIN)/python -m pytest -m soak

lint: $(READY)  ## Style, types, arrows between the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)  ## The documentation, in build/site; its links are checked and its code blocks run
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python -m pytest tests/docs tests/test_docs.py

bench: $(READY)  ## Timings beside other tools, in a table; all of them: benchmarks/everything.py
	$(BIN)/python benchmarks/everything.py --quick

chaos: $(READY)  ## Workers killed, storage failing, messages doubled: the same bytes for 20 seeds
	$(BIN)/python benchmarks/chaos.py --seeds 20

train: $(READY)  ## The shipped weights, as they were made (about half an hour)
	$(BIN)/cnapse train benchmarks/train_phantom.toml
	mkdir -p cnapse/models/phantom
	cp build/train_phantom/model.json build/train_phantom/weights.safetensors cnapse/models/phantom/

page:  ## The page of `cnapse review`, built anew; only this needs node
	cd frontend && npm ci && npm run build

dist-check:  ## Wheel and sdist, their contents, and a clean installation; PYTHON=python3.13 for another Python
	rm -rf build/dist build/dist-tools build/dist-env
	$(PYTHON) -m venv build/dist-tools
	build/dist-tools/bin/python -m pip install --quiet build twine
	build/dist-tools/bin/python -m build --outdir build/dist
	build/dist-tools/bin/twine check --strict build/dist/*
	$(PYTHON) -m venv build/dist-env
	build/dist-env/bin/python -m pip install --quiet --constraint constraints.txt build/dist/*.whl
	build/dist-env/bin/python -m pip check
	cd build/dist && ../dist-env/bin/cnapse demo demo

clean:  ## What make made
	rm -rf $(VENV) demo
