rule report:
    input:
        config=f"{FOLDER}/config/report.json",
        prompts=RUNS.inputs("prompts.parquet"),
        dropped=RUNS.inputs("prompts_dropped.parquet"),
        omniscore=RUNS.inputs(lambda run: run.scored),
        pairs=RUNS.inputs("round{round}/pairs.parquet"),
        rejected=RUNS.inputs("round{round}/pairs_rejected.parquet"),
        train_log=RUNS.inputs("round{round}/train_log.parquet"),
        evaluation=f"{ROUND}/evaluation/prompts.parquet",
        summary=f"{ROUND}/evaluation/summary.json",
        benchmark=RUNS.inputs(lambda run: run.benchmark.summary),
        appearance=RUNS.inputs(
            lambda run: [f"round{{round}}/evaluation/appearance/{arm}.parquet" for arm in ("base", "aligned")]
        ),
    output:
        report(
            directory(f"{ROUND}/report"),
            htmlindex="index.html",
            caption="report/page.rst",
            category="Result",
            subcategory=RUNS.folder_of,
        ),
    log:
        f"{ROUND}/logs/report.log",
    benchmark:
        f"{ROUND}/benchmarks/report.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo report --config {input.config:q} --round {wildcards.round} >> {log:q} 2>&1"
