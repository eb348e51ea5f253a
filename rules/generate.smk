# Round 1 samples from the base model, round r from the adapter of round r - 1.
def previous_adapter(wildcards):
    number = int(wildcards.round)
    return [] if number == 1 else f"{FOLDER}/round{number - 1}/adapter"


rule generate:
    input:
        config=f"{FOLDER}/config/generate.json",
        prompts=f"{FOLDER}/prompts.parquet",
        clips=[f"{FOLDER}/clips.parquet"] if RUN.from_clips else [],
        adapter=previous_adapter,
    output:
        table=f"{ROUND}/videos/shard-{{shard}}.parquet",
        latents=f"{ROUND}/videos/latents/shard-{{shard}}.safetensors",
    log:
        f"{ROUND}/logs/generate/shard-{{shard}}.log",
    benchmark:
        f"{ROUND}/benchmarks/generate/shard-{{shard}}.tsv"
    params:
        adapter=lambda wildcards: ["--adapter", previous_adapter(wildcards)] if wildcards.round != "1" else [],
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 48000 * attempt,
        runtime=lambda wildcards, attempt: 480 * attempt,
    conda:
        "../envs/videodpo.yaml"
    shell:
        "OMP_NUM_THREADS={threads} videodpo generate --config {input.config:q} --round {wildcards.round}"
        " --shard {wildcards.shard} {params.adapter:q} > {log:q} 2>&1"
