#!/usr/bin/env bash
# Run with the conda environment active, from the top of the repository (Snakemake does both).
set -euo pipefail
python -m pip install -r envs/vbench.txt
# detectron2 has no release for this torch; its source is on GitHub. Without it, vbench scores twelve of the dimensions.
python -m pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2.git@02b5c4e ||
    echo "no detectron2: vbench cannot score object_class, multiple_objects, color and spatial_relationship" >&2
