# The training state lies in <round>/state and is no declared output: Snakemake deletes those before every new try.
rule train:
    input:
        config=f"{FOLDER}/config/train.json",
        execution=EXECUTION,
        prompts=f"{FOLDER}/prompts.parquet",
        pairs=f"{ROUND}/pairs.parquet",
        videos=f"{ROUND}/videos/shards.json",
        reference=expand(f"{ROUND}/reference/shard-{{part}}.parquet", part=RUN.reference_shards, allow_missing=True),
        doctor=ancient(f"{ROUND}/doctor.json"),  # a gate: what it says changes nothing that is trained
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
    threads: RUN.config.trainer.processes
    resources:
        gpu=RUN.config.trainer.processes * RUN.config.trainer.nodes,
        nodes=RUN.config.trainer.nodes,
        mem_mb=lambda wildcards, attempt: 64000 * RUN.config.trainer.processes * attempt,
        runtime=lambda wildcards, attempt: 1440 * attempt,
    shell:
        "OMP_NUM_THREADS={threads} videodpo train --config {input.config:q} --round {wildcards.round} > {log:q} 2>&1"
