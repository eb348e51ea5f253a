# Stops the run before the training if something is broken. An alarm is exit code 3; docs/doctor.md says how to fix it.
rule doctor:
    input:
        config=f"{FOLDER}/config/train.json",
        prompts=RUNS.inputs("prompts.parquet"),
        pairs=RUNS.inputs("round{round}/pairs.parquet"),
        visits=RUNS.inputs("round{round}/visits.parquet"),
        videos=RUNS.inputs("round{round}/videos/shards.json"),
        reference=RUNS.inputs(
            lambda run: [f"round{{round}}/reference/shard-{part}.parquet" for part in run.reference_shards]
        ),
    output:
        report(f"{ROUND}/doctor.json", caption="report/doctor.rst", category="Result", subcategory=RUNS.folder_of),
    log:
        f"{ROUND}/logs/doctor.log",
    benchmark:
        f"{ROUND}/benchmarks/doctor.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=1,
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo doctor --config {input.config:q} --round {wildcards.round}"
        " --out {output:q} >> {log:q} 2>&1"
