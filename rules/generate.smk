rule generate:
    input:
        config=f"{FOLDER}/config/generate.json",
        execution=EXECUTION,
        prompts=f"{FOLDER}/prompts.parquet",
        clips=[f"{FOLDER}/clips.parquet"] if RUN.from_clips else [],
        adapter=lambda wildcards: RUN.previous_adapter(wildcards.round),
    output:
        table=f"{ROUND}/videos/shard-{{shard}}.parquet",
        latents=f"{ROUND}/videos/latents/shard-{{shard}}.safetensors",
        texts=f"{ROUND}/videos/texts/shard-{{shard}}.safetensors",
    log:
        f"{ROUND}/logs/generate/shard-{{shard}}.log",
    benchmark:
        f"{ROUND}/benchmarks/generate/shard-{{shard}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=1,
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo generate --config {input.config:q} --round {wildcards.round}"
        " --shard {wildcards.shard} > {log:q} 2>&1"
