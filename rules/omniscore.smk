rule omniscore:
    input:
        config=f"{FOLDER}/config/omniscore.json",
        prompts=RUNS.inputs("prompts.parquet"),
        videos=RUNS.inputs("round{round}/videos/shards.json"),
        scores=RUNS.inputs(
            lambda run: [f"round{{round}}/scores/{name}/shards.json" for name in sorted(run.config.formula.dimensions)]
        ),
    output:
        f"{ROUND}/omniscore.parquet",
    log:
        f"{ROUND}/logs/omniscore.log",
    benchmark:
        f"{ROUND}/benchmarks/omniscore.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo omniscore --config {input.config:q} --round {wildcards.round} >> {log:q} 2>&1"
