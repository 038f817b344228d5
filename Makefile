.PHONY: check format
PYTHON ?= python
JOBS ?= 2

check:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest -n $(JOBS) --dist loadfile

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .
