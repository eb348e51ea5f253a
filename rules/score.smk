# Each clip is decoded once, for all dimensions: what a shard's store has already, an earlier scorer's values too, is not
# measured again.
rule measure:
    input:
        configs=expand(f"{FOLDER}/config/score/{{dimension}}.json", dimension=RUN.scorers),
        prompts=f"{FOLDER}/prompts.parquet",
        videos=f"{ROUND}/videos/shard-{{shard}}.parquet",
    output:
        f"{ROUND}/scores/shard-{{shard}}.json",
    log:
        f"{ROUND}/logs/measure/shard-{{shard}}.log",
    benchmark:
        f"{ROUND}/benchmarks/measure/shard-{{shard}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=RUN.num_gpus(RUN.scorers),
        cpus_per_task=4,  # clips are decoded ahead
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo measure --config {input.configs:q} --round {wildcards.round}"
        " --shard {wildcards.shard} > {log:q} 2>&1"


# A dimension's tables are written again when its own scorer or the videos changed, not when another scorer did.
rule score:
    input:
        config=f"{FOLDER}/config/score/{{dimension}}.json",
        prompts=f"{FOLDER}/prompts.parquet",
        videos=f"{ROUND}/videos/shards.json",
        measured=ancient(expand(f"{ROUND}/scores/shard-{{shard}}.json", shard=RUN.shards, allow_missing=True)),
    output:
        tables=expand(f"{ROUND}/scores/{{dimension}}/shard-{{shard}}.parquet", shard=RUN.shards, allow_missing=True),
        shards=f"{ROUND}/scores/{{dimension}}/shards.json",
    log:
        f"{ROUND}/logs/score/{{dimension}}.log",
    benchmark:
        f"{ROUND}/benchmarks/score/{{dimension}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo score --config {input.config:q} --round {wildcards.round} > {log:q} 2>&1"
