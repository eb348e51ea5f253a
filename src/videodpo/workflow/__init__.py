"""What the Snakefile and SLURM need to know about a run."""
