# Everything happens in a virtual environment of this checkout. PYTHON may be any Python >= 3.11.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
QUIET := --disable-pip-version-check install --quiet
PIP := $(BIN)/python -m pip $(QUIET) --constraint constraints.txt

# With two busy processes OpenMP's spinning threads slow each other down many times over.
export OMP_WAIT_POLICY := passive

TRIES ?= 10000
SEED ?= 0

.PHONY: demo test lint types unit fuzz test-floor test-newest supply coverage bench docs pictures build clean help

help:
	@echo "make demo        explain photographs with a real network; ends with the path of a page"
	@echo "make test        lint, types and tests (make lint | types | unit)"
	@echo "make fuzz        ten thousand tries of every kind of file and request (TRIES=, SEED=)"
	@echo "make test-floor  tests with the lowest versions that pyproject.toml allows"
	@echo "make test-newest tests with the newest versions of everything"
	@echo "make supply      what the extras bring, licences, a bill of materials"
	@echo "make coverage    tests with line and branch coverage of src"
	@echo "make bench       time, memory and evaluations; writes benchmarks/results.json and docs/performance.md"
	@echo "make docs        the documentation site; ends with the path of its first page"
	@echo "make pictures    the README's pictures, drawn anew"
	@echo "make build       wheel and sdist in dist/, the wheel tried in an empty environment"
	@echo "make clean       remove what these made"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch is pinned first: a plain requirement could bring gigabytes of CUDA libraries.
$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --upgrade pip
	$(PIP) torch
	$(PIP) --editable ".[demo,explore]"
	@touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp
	$(PIP) --group dev
	$(PIP) --no-deps --group zoo
	@touch $@

demo: $(VENV)/demo.stamp
	$(BIN)/vtcav demo -o demo

test: lint types unit

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/dev.stamp
	$(BIN)/mypy

unit: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# TRIES and SEED may be given; two processes, about half an hour
fuzz: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --tries $(TRIES) --seed $(SEED) --output build/fuzz.json

# The lowest versions that the metadata allow, or the newest that there are, in a virtual environment
# of their own. Old versions warn of newer ones that they depend on, and new ones of what is to go,
# so warnings are no errors here. Where the index of PyTorch's CPU builds does not answer, the builds
# of the package index are taken: gigabytes of CUDA libraries.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
test-floor test-newest: test-%:
	$(PYTHON) -m venv build/$*
	$(PYTHON) tests/versions.py $* build/$* $(TORCH_INDEX)
	build/$*/bin/python -m pip $(QUIET) --requirement build/$*/torch.txt
	build/$*/bin/python -m pip $(QUIET) --requirement build/$*/packages.txt \
		pytest pytest-xdist hypothesis httpx
	build/$*/bin/python -m pip $(QUIET) --no-deps --requirement build/$*/networks.txt
	build/$*/bin/python -m pip $(QUIET) --no-deps --editable .
	OMP_NUM_THREADS=1 build/$*/bin/python -m pytest tests --ignore tests/docs -m "not browser" \
		-o filterwarnings=default --numprocesses 2 --dist loadfile --no-loadscope-reorder

# what the extras bring, the licences, and a bill of materials
supply: $(VENV)/dev.stamp
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/supply.py
	$(BIN)/cyclonedx-py environment $(BIN)/python --output-file build/sbom.json

coverage: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/pytest --cov --cov-report=term --cov-fail-under=90

bench: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/run.py

# the reference of the commands is written first; a test fails where it was forgotten
docs: $(VENV)/dev.stamp
	$(BIN)/python docs/generate_cli.py
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --doctree-dir build/doctrees docs build/site
	@echo "$(CURDIR)/build/site/index.html"

pictures: $(VENV)/dev.stamp
	$(BIN)/python pictures/make.py
	$(BIN)/python pictures/explorer.py

# What is released, built and tried in virtual environments of their own: the wheel is built from the
# sdist, and installed beside nothing but what it requires.
RELEASE := build/release
build:
	rm -rf dist $(RELEASE)
	$(PYTHON) -m venv $(RELEASE)/tools
	$(RELEASE)/tools/bin/python -m pip $(QUIET) build twine
	$(RELEASE)/tools/bin/python -m build --outdir dist .
	$(RELEASE)/tools/bin/twine check --strict dist/*
	$(PYTHON) -m venv $(RELEASE)/empty
	$(RELEASE)/empty/bin/python -m pip $(QUIET) --constraint constraints.txt dist/*.whl
	cd $(RELEASE) && empty/bin/vtcav --version && empty/bin/vtcav --help > /dev/null
	@ls -l dist

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
