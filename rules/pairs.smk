rule pairs:
    input:
        config=f"{FOLDER}/config/pairs.json",
        prompts=RUNS.inputs("prompts.parquet"),
        source=RUNS.inputs(lambda run: run.sources_of_pairs),
        videos=RUNS.inputs("round{round}/videos/shards.json"),
    output:
        pairs=f"{ROUND}/pairs.parquet",
        rejected=f"{ROUND}/pairs_rejected.parquet",
    log:
        f"{ROUND}/logs/pairs.log",
    benchmark:
        f"{ROUND}/benchmarks/pairs.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo pairs --config {input.config:q} --round {wildcards.round} >> {log:q} 2>&1"
