rule report:
    input:
        config=f"{FOLDER}/config/report.json",
        prompts=f"{FOLDER}/prompts.parquet",
        dropped=f"{FOLDER}/prompts_dropped.parquet",
        omniscore=f"{ROUND}/omniscore.parquet",
        pairs=f"{ROUND}/pairs.parquet",
        rejected=f"{ROUND}/pairs_rejected.parquet",
        train_log=f"{ROUND}/train_log.parquet",
        evaluation=f"{ROUND}/evaluation/prompts.parquet",
        summary=f"{ROUND}/evaluation/summary.json",
    output:
        f"{ROUND}/report/index.html",
    log:
        f"{ROUND}/logs/report.log",
    benchmark:
        f"{ROUND}/benchmarks/report.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo report --config {input.config:q} --round {wildcards.round} >> {log:q} 2>&1"
