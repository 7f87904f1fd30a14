# make setup    create .venv with the versions of requirements.lock
# make demo     compose the sample clip, propagate its masks, score them, draw a video
# make test     run the tests in up to four processes (pytest-xdist); some need LIIR_SHARED, the folder of real video
# make soak     run the long tests, which take minutes
# make lint     check style and types
# make audit    check the versions in requirements.lock for known vulnerabilities
# make bench    run the measurements of docs/performance.md
# make reproduce VIDEOS=folder DAVIS=folder    train and evaluate the models of the README
# make sampler  build the optional correlation backend
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: setup demo test soak lint audit bench reproduce sampler
setup: .venv/installed

.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.lock
	touch $@

demo: setup
	$(BIN)/python scripts/make_sample.py --output data/sample
	$(BIN)/python evaluate_davis.py --usemomen --compact --datapath data/sample --savepath results/sample --overlay --overwrite

test: setup
	$(PYTEST) $(PYTEST_FLAGS)

soak: setup
	$(PYTEST) -m soak $(PYTEST_FLAGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit:
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements.lock

bench: setup
	mkdir -p results
	for name in attention propagation launches evaluation training metrics; do \
		$(BIN)/python benchmarks/$$name.py --json results/bench-$$name.json || exit 1; done

reproduce: setup
	bash scripts/reproduce.sh "$(VIDEOS)" "$(DAVIS)" "$(or $(RESULTS),results/reproduce)" $(BIN)/python

sampler: setup
	bash scripts/install_sampler.sh $(BIN)/python
