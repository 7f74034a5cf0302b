# Creates its own environment in .venv; needs Python >= 3.11 with pip, nothing else.
PYTHON ?= python3
PYTEST = .venv/bin/python -m pytest -n 2 --dist loadgroup

.venv/ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --requirement requirements.lock
	.venv/bin/pip install --quiet --no-deps --editable .
	touch .venv/ready

.PHONY: demo test test-all lint docs bench wheel release lock help
help:  ## the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /: /'

demo: .venv/ready  ## the whole job on two digital necks, results in demo/out
	.venv/bin/cervjax demo demo

test: .venv/ready  ## the quick tests; those that need ../shared skip without it
	$(PYTEST) -m "not slow"

test-all: .venv/ready  ## all tests, of programs compiled as for users
	XLA_FLAGS= $(PYTEST)

lint: .venv/ready  ## ruff, pyright, and hadolint where it can be had
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright --pythonpath .venv/bin/python
	! test -x .venv/bin/hadolint || .venv/bin/hadolint Dockerfile

docs: .venv/ready  ## the site in site/; every link and spelling is checked
	.venv/bin/python docs/check_links.py
	.venv/bin/codespell
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict

bench: .venv/ready  ## every time in the README; PYTORCH=python-with-torch compares, too
	.venv/bin/python benchmarks/latency.py --cohort 20
	.venv/bin/python benchmarks/latency.py --random --cohort 20
	.venv/bin/python benchmarks/network.py $(if $(PYTORCH),--pytorch $(PYTORCH))

# Files are as old as the commit, so that everybody's build has the same bytes.
wheel release: export SOURCE_DATE_EPOCH = \
  $(or $(shell git log -1 --format=%ct 2>/dev/null),1580601600)

wheel: .venv/ready  ## the package as a wheel and an sdist, in dist/
	rm -rf dist
	.venv/bin/python -m build

release: wheel  ## what a release needs: twice the same bytes, metadata, SBOM
	.venv/bin/pip install --quiet --editable ".[release]"
	.venv/bin/python -m build --outdir dist/again
	cd dist && for f in again/*; do cmp $$f $$(basename $$f); done && rm -r again
	.venv/bin/twine check --strict dist/*
	.venv/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml \
	  --output-reproducible --output-file dist/sbom.json

lock:  ## renew requirements.lock (needs uv)
	uv pip compile --universal --python-version 3.11 --extra dev pyproject.toml \
	  --no-header --no-annotate --output-file requirements.lock
