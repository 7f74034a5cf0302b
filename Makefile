# Creates its own environment in .venv; needs Python >= 3.11 with pip, nothing else.
PYTHON ?= python3

.venv/ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --requirement requirements.lock
	.venv/bin/pip install --quiet --no-deps --editable .
	touch .venv/ready

.PHONY: demo test lint lock
demo: .venv/ready  ## the whole job on two digital necks, results in demo/out
	.venv/bin/cervjax demo demo

test: .venv/ready  ## all tests; those that need ../shared skip without it
	.venv/bin/python -m pytest -n 2 --dist loadgroup

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright --pythonpath .venv/bin/python

lock:  ## renew requirements.lock (needs uv)
	uv pip compile --universal --python-version 3.11 --extra dev pyproject.toml \
	  --no-header --no-annotate --output-file requirements.lock
