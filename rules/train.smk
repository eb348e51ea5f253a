# The training state is stored in <round>/state. It is not a declared output, because Snakemake deletes outputs before
# each try.
rule train:
    input:
        config=f"{FOLDER}/config/train.json",
        prompts=f"{FOLDER}/prompts.parquet",
        pairs=f"{ROUND}/pairs.parquet",
        visits=f"{ROUND}/visits.parquet",
        videos=f"{ROUND}/videos/shards.json",
        reference=expand(f"{ROUND}/reference/shard-{{part}}.parquet", part=RUN.reference_shards, allow_missing=True),
        doctor=f"{ROUND}/doctor.json",  # a gate; `ancient` would hide a missing adapter
        adapter=lambda wildcards: RUN.previous_adapter(wildcards.round),
    output:
        adapter=directory(f"{ROUND}/adapter"),
        log=f"{ROUND}/train_log.parquet",
    log:
        f"{ROUND}/logs/train.log",
    benchmark:
        f"{ROUND}/benchmarks/train.tsv"
    conda:
        "../envs/videodpo.yaml"
    threads: RUN.config.train_runtime.processes
    resources:
        **RUN.train_resources,
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo train --config {input.config:q} --round {wildcards.round} >> {log:q} 2>&1"
