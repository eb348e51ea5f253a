#!/usr/bin/env bash
# Run with the conda environment active, from the top of the repository (Snakemake does both).
set -euo pipefail
python -m pip install --no-deps --require-hashes -r requirements.lock
python -m pip install --no-deps --editable .
