# Stops the run before the training if something is broken. An alarm is exit code 3; docs/doctor.md says how to fix it.
rule doctor:
    input:
        config=f"{FOLDER}/config/train.json",
        prompts=f"{FOLDER}/prompts.parquet",
        pairs=f"{ROUND}/pairs.parquet",
        visits=f"{ROUND}/visits.parquet",
        videos=f"{ROUND}/videos/shards.json",
        reference=expand(f"{ROUND}/reference/shard-{{part}}.parquet", part=RUN.reference_shards, allow_missing=True),
    output:
        f"{ROUND}/doctor.json",
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
