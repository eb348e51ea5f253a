# Set-up, demo and tests; everything is installed into .venv, from requirements.lock.
UV_VERSION := 0.13.9
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DIFFUSERS_DISABLE_REMOTE_CODE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
# Use the system's certificates, for sites that install their own there.
export UV_SYSTEM_CERTS := 1
# Idle threads sleep instead of spinning: several times faster on shared cores, also for the tests' own processes.
export OMP_WAIT_POLICY := PASSIVE
# Without bytecode on disk, importing torch and diffusers takes three times as long in every job.
unexport PYTHONDONTWRITEBYTECODE
SHELL := /bin/bash

.PHONY: setup demo study check test test-all test-browser test-slurm rehearsal format docs docs-site rule-graph demo-weights lock clean

setup: .venv/.ready

.uv/$(UV_VERSION):
	python3 -m venv --clear .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	touch $@

# VIRTUAL_ENV is set in the environment and not in the commands, so that the shell does not parse the folder's name.
.venv/.ready: export VIRTUAL_ENV := $(CURDIR)/.venv
.venv/.ready: .uv/$(UV_VERSION) requirements.lock pyproject.toml
	.uv/bin/uv venv --quiet --clear --python 3.11 .venv
	.uv/bin/uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	.uv/bin/uv pip install --quiet --no-deps --editable .
	touch $@

demo: setup
	snakemake --profile profiles/demo
	videodpo summary results/demo

# The paper's findings on the bundled model: 14 arms with three seeds, each trained and evaluated.
study: setup
	snakemake --profile profiles/demo study --config study=studies/core.yaml

# Format, lint, types, import contract, workflow lint.
check: setup
	ruff format --check .
	ruff check .
	snakefmt --check Snakefile rules
	mypy
	MYPYPATH=src mypy --allow-untyped-calls --allow-subclassing-any --no-warn-return-any --implicit-reexport bench
	lint-imports
	snakemake --lint

# All modules, every stage once on a very small run, and a dry run of the workflow: about 3 minutes on two cores.
test: check
	pytest --numprocesses 2 -m quick

# In addition: the workflow end to end, faults, hostile inputs, all model families, launchers: about 25 minutes more.
test-all: test
	pytest --numprocesses 2 -m full

# The pages in headless Chromium: Debian's package, which needs root if it is not installed. About a minute.
test-browser: setup
	command -v chromium || { apt-get update && apt-get install --yes --no-install-recommends chromium; }
	pytest -m browser

# A real SLURM with two nodes, from Debian's packages, in a separate folder; needs root if they are not installed.
test-slurm: setup
	python tests/slurm/cluster.py install
	pytest tests/slurm

# The default configuration and every model's preset end to end, with random weights at published widths.
# Required before a release. Scoring alone needs 7 GB of memory; weights are written to a temporary folder.
rehearsal: setup
	PYTHONPATH=$(CURDIR) python bench/rehearsal.py

format: setup
	ruff format .
	ruff check --fix .
	snakefmt Snakefile rules

# Files generated from the configuration's classes; tests/config/test_config_docs.py fails if they are out of date.
docs: setup
	videodpo schema > config.schema.json
	videodpo schema --markdown > docs/configuration.md

# The pages in docs/ as a site that works without a network: docs/_build/html/index.html.
docs-site: setup
	sphinx-build -W --keep-going -n -q -b html docs docs/_build/html

# The rule graph of docs/stages.md; after a change of rules or their inputs. Needs `dot` of Graphviz.
rule-graph: setup
	set -o pipefail; snakemake --profile profiles/demo --rulegraph dot | python docs/rule_graph.py | \
		dot -Tsvg > docs/images/rules.svg

# Trains every bundled model from scratch: under two hours on two cores.
demo-weights: setup
	python -m demo.recipe.all

lock: .uv/$(UV_VERSION)
	.uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--override overrides.txt --extra dev pyproject.toml --output-file requirements.lock --custom-compile-command "make lock"

clean:
	rm -rf .venv .uv .snakemake docs/_build results
