rule visits:
    input:
        config=f"{FOLDER}/config/visits.json",
        pairs=f"{ROUND}/pairs.parquet",
        videos=f"{ROUND}/videos/shards.json",
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
