.PHONY: check lint test docs format
PYTHON ?= python
JOBS ?= 3

check: lint docs test

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

docs:
	$(PYTHON) .ci/docs.py

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .
