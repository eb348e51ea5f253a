rule reference:
    input:
        config=f"{FOLDER}/config/reference.json",
        prompts=RUNS.inputs("prompts.parquet"),
        pairs=RUNS.inputs("round{round}/pairs.parquet"),
        visits=RUNS.inputs("round{round}/visits.parquet"),
        videos=RUNS.inputs("round{round}/videos/shards.json"),
    output:
        f"{ROUND}/reference/shard-{{part}}.parquet",
    log:
        f"{ROUND}/logs/reference/shard-{{part}}.log",
    benchmark:
        f"{ROUND}/benchmarks/reference/shard-{{part}}.tsv"
    wildcard_constraints:
        part=r"\d{5}",
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=1,
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo reference --config {input.config:q} --round {wildcards.round}"
        " --shard {wildcards.part} >> {log:q} 2>&1"
