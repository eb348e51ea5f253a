rule visits:
    input:
        config=f"{FOLDER}/config/visits.json",
        pairs=RUNS.inputs("round{round}/pairs.parquet"),
        videos=RUNS.inputs("round{round}/videos/shards.json"),
    output:
        f"{ROUND}/visits.parquet",
    log:
        f"{ROUND}/logs/visits.log",
    benchmark:
        f"{ROUND}/benchmarks/visits.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo visits --config {input.config:q} --round {wildcards.round} >> {log:q} 2>&1"
