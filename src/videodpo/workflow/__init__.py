"""Facts about a run that the Snakefile and SLURM need."""
