# `make demo` runs the default workflow; `make test` checks our own work, `make faults` what breaks it for minutes.
# Each makes .venv first.
# CPU-only torch: make demo TORCH_INDEX=<PyTorch's index of CPU wheels, see pytorch.org, Get Started>
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test faults lint docs lock audit
demo: .venv/made
	$(BIN)/python -m fastat check
	. $(BIN)/activate && snakemake --cores all

test: .venv/made lint
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

faults: .venv/made  # kills, full disks, damaged files: docs/reliability.md
	$(BIN)/python -m pytest -m faults

lint: .venv/made
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow && . $(BIN)/activate && snakemake --lint

docs: .venv/made  # after `make demo`: its tables become the ones that the documentation shows
	$(BIN)/python -m fastat docs --results results

.venv/made: requirements/torch.lock requirements/suite.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is Python " + sys.version.split()[0] \
	  + ", and the suite needs 3.11, for which the locks are: make PYTHON=python3.11 $@")'
	@echo "into .venv, about 6 GB, for minutes and without a word"
	$(PYTHON) -m venv .venv
ifdef TORCH_INDEX
	test -s requirements/torch-cpu.lock || { echo "requirements/torch-cpu.lock: made of what $(TORCH_INDEX) has today," \
	  "nobody's hashes but its own; keep the file, and any other torch is refused"; \
	  $(BIN)/pip install -q --dry-run --ignore-installed --report - --index-url $(TORCH_INDEX) -r requirements/torch.in \
	  | $(BIN)/python requirements/pin.py > requirements/torch-cpu.lock; }
	$(BIN)/pip install -q --require-hashes --index-url $(TORCH_INDEX) -r requirements/torch-cpu.lock
	$(BIN)/pip install -q --require-hashes -r requirements/suite.lock
else
	$(BIN)/pip install -q --require-hashes -r requirements/torch.lock -r requirements/suite.lock
endif
	@# the clone itself, so that the command fastat is there, in any folder
	PYTHONWARNINGS=ignore $(BIN)/pip install -q --no-deps --no-build-isolation -e .
	touch $@

audit:  # known holes of what is pinned; needs pip-audit (pipx install pip-audit) and its service
	pip-audit --strict --require-hashes --disable-pip -r requirements/torch.lock -r requirements/suite.lock $(AUDIT)

lock: .venv/made
	cd requirements && for part in torch suite; do ../$(BIN)/pip-compile -q --generate-hashes --allow-unsafe \
	  --strip-extras --no-emit-index-url --no-emit-find-links --no-header --no-annotate -o $$part.lock $$part.in; done
	sed -i -E '/^(cuda-|nvidia-|triton==)/ s/ \\$$/ ; platform_system == "Linux" \\/' requirements/torch.lock
