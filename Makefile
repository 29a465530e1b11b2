# Every target sets up what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= report
# one worker a core with one thread each: several threads a worker would only wait for each other
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope

.PHONY: setup report gallery docs notebooks lab test test-slow lint types bench bench-gpu map clean

# torch goes first and alone: its pin must be settled before another package asks for a torch of its own
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cluster,dev,diffusers,docs,imagenet,notebooks]'
	touch $@

build/types/scorescope:
	mkdir -p $@
	for room in data probes analysis reports; do ln -sfn ../../../$$room $@/$$room; done

setup: $(VENV)/.ready

report: setup
	$(BIN)/scorescope report --out $(OUT)

gallery: setup
	test -f $(OUT)/guidance/manifest.json || $(BIN)/scorescope report --out $(OUT)
	$(BIN)/python -m tests.docs_gallery $(OUT)

docs: setup
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

# runs every notebook and keeps its outputs
notebooks: setup
	OMP_NUM_THREADS=1 $(BIN)/python notebooks/run.py

lab: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab notebooks

test: setup
	$(PYTEST) -m 'not slow'

test-slow: setup
	$(PYTEST) -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup build/types/scorescope
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p scorescope

bench: setup
	$(BIN)/python -m tests.benchmarks

# on a CUDA device; one line where there is none
bench-gpu: setup
	$(BIN)/python -m tests.benchmarks gpu
	$(BIN)/python -m pytest -q -m cuda tests

map: setup
	$(BIN)/python -m tests.house_map

clean:
	rm -rf build dist docs/generated *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
