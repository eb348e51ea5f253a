rule generate:
    input:
        config=f"{FOLDER}/config/generate.json",
        prompts=f"{FOLDER}/prompts.parquet",
        clips=[f"{FOLDER}/clips.parquet"] if RUN.from_clips else [],
        adapter=lambda wildcards: RUN.previous_adapter(wildcards.round),
    output:
        table=f"{ROUND}/videos/shard-{{shard}}.parquet",
        latents=f"{ROUND}/videos/latents/shard-{{shard}}.safetensors",
    log:
        f"{ROUND}/logs/generate/shard-{{shard}}.log",
    benchmark:
        f"{ROUND}/benchmarks/generate/shard-{{shard}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 48000 * attempt,
        runtime=lambda wildcards, attempt: 480 * attempt,
    params:
        adapter=lambda wildcards: [f"--adapter={folder}" for folder in RUN.previous_adapter(wildcards.round)],
    shell:
        "OMP_NUM_THREADS={threads} videodpo generate --config {input.config:q} --round {wildcards.round}"
        " --shard {wildcards.shard} {params.adapter:q} > {log:q} 2>&1"
