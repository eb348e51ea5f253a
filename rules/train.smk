# The training state lies in <round>/state and is no declared output: Snakemake deletes those before every new try.
rule train:
    input:
        config=f"{FOLDER}/config/train.json",
        prompts=f"{FOLDER}/prompts.parquet",
        pairs=f"{ROUND}/pairs.parquet",
        visits=f"{ROUND}/visits.parquet",
        videos=f"{ROUND}/videos/shards.json",
        reference=expand(f"{ROUND}/reference/shard-{{part}}.parquet", part=RUN.reference_shards, allow_missing=True),
        doctor=f"{ROUND}/doctor.json",  # a gate; not `ancient`, which would hide that the adapter is missing
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
