rule prompts:
    input:
        config=f"{FOLDER}/config/prompts.json",
    output:
        prompts=f"{FOLDER}/prompts.parquet",
        dropped=f"{FOLDER}/prompts_dropped.parquet",
        clips=[f"{FOLDER}/clips.parquet"] if RUNS.first.has_clips else [],
        pairs=[f"{FOLDER}/imported_pairs.parquet"] if RUNS.first.has_pairs else [],
    log:
        f"{FOLDER}/logs/prompts.log",
    benchmark:
        f"{FOLDER}/benchmarks/prompts.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo prompts --config {input.config:q} >> {log:q} 2>&1"
