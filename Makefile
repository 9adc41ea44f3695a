# The same commands everywhere: on a developer's machine, in CI and in the README.
PYTHON ?= python

.PHONY: setup check test bench

setup:  ## everything a developer needs, with the CPU build of torch where there is one
	$(PYTHON) -m pip install -c constraints/cpu.txt -e ".[dev]"

check:  ## style, types, layers
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	lint-imports

test:
	OMP_WAIT_POLICY=passive $(PYTHON) -m pytest -n 2 --dist loadfile

PICTURES ?= docs/pictures
bench:  ## cold start, import, rate, memory, stages, of PICTURES=folder; writes benchmarks/RESULTS.md
	$(PYTHON) benchmarks/speed.py --pictures $(PICTURES)
	$(PYTHON) benchmarks/stages.py --pictures $(PICTURES)
	$(PYTHON) benchmarks/stages.py --pictures $(PICTURES) --model dgiqa_mobile.quick --out benchmarks/STAGES_quick.json
	$(PYTHON) benchmarks/table.py
