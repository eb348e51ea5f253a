# The training state is stored in <round>/state. It is not a declared output, because Snakemake deletes outputs before
# each try.
rule train:
    input:
        config=f"{FOLDER}/config/train.json",
        prompts=RUNS.inputs("prompts.parquet"),
        pairs=RUNS.inputs("round{round}/pairs.parquet"),
        visits=RUNS.inputs("round{round}/visits.parquet"),
        videos=RUNS.inputs("round{round}/videos/shards.json"),
        reference=RUNS.inputs(
            lambda run: [f"round{{round}}/reference/shard-{part}.parquet" for part in run.reference_shards]
        ),
        doctor=f"{ROUND}/doctor.json",  # an alarm must stop the run; `ancient` would hide a missing adapter
        adapter=RUNS.previous_adapter,
    output:
        adapter=directory(f"{ROUND}/adapter"),
        log=f"{ROUND}/train_log.parquet",
    log:
        f"{ROUND}/logs/train.log",
    benchmark:
        f"{ROUND}/benchmarks/train.tsv"
    conda:
        "../envs/videodpo.yaml"
    threads: RUNS.first.config.train_runtime.processes
    resources:
        **RUNS.first.train_resources,
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo train --config {input.config:q} --round {wildcards.round} >> {log:q} 2>&1"
