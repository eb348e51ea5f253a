rule generate:
    input:
        config=f"{FOLDER}/config/generate.json",
        prompts=RUNS.inputs("prompts.parquet"),
        clips=RUNS.inputs("clips.parquet") if RUNS.first.has_clips else [],
        adapter=RUNS.previous_adapter,
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
        " --shard {wildcards.shard} >> {log:q} 2>&1"


# Jobs that read all shards depend on this one small file: with a thousand paths per job, planning would take minutes.
rule list_videos:
    input:
        tables=expand(f"{ROUND}/videos/shard-{{shard}}.parquet", shard=RUNS.first.shards, allow_missing=True),
        latents=expand(
            f"{ROUND}/videos/latents/shard-{{shard}}.safetensors", shard=RUNS.first.shards, allow_missing=True
        ),
        texts=expand(f"{ROUND}/videos/texts/shard-{{shard}}.safetensors", shard=RUNS.first.shards, allow_missing=True),
    output:
        f"{ROUND}/videos/shards.json",
    log:
        f"{ROUND}/logs/list_videos.log",
    benchmark:
        f"{ROUND}/benchmarks/list_videos.tsv"
    localrule: True
    conda:
        "../envs/videodpo.yaml"
    shell:
        "videodpo list-shards {output:q} >> {log:q} 2>&1"
