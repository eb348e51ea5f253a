rule pairs:
    input:
        config=f"{FOLDER}/config/pairs.json",
        omniscore=f"{ROUND}/omniscore.parquet",
    output:
        pairs=f"{ROUND}/pairs.parquet",
        rejected=f"{ROUND}/pairs_rejected.parquet",
    log:
        f"{ROUND}/logs/pairs.log",
    benchmark:
        f"{ROUND}/benchmarks/pairs.tsv"
    resources:
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    conda:
        "../envs/videodpo.yaml"
    shell:
        "videodpo pairs --config {input.config:q} --round {wildcards.round} > {log:q} 2>&1"
