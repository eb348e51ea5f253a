rule omniscore:
    input:
        config=f"{FOLDER}/config/omniscore.json",
        prompts=f"{FOLDER}/prompts.parquet",
        videos=f"{ROUND}/videos/shards.json",
        scores=expand(
            f"{ROUND}/scores/{{dimension}}/shards.json",
            dimension=sorted(RUN.config.formula.dimensions),
            allow_missing=True,
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
