rule pairs:
    input:
        config=f"{FOLDER}/config/pairs.json",
        prompts=f"{FOLDER}/prompts.parquet",
        omniscore=f"{ROUND}/omniscore.parquet",
        videos=f"{ROUND}/videos/shards.json",
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
