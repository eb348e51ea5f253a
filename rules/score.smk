# Each clip is decoded once, for all dimensions: what a shard's store has already, an earlier scorer's values too, is not
# measured again.
rule score:
    input:
        configs=expand(f"{FOLDER}/config/score/{{dimension}}.json", dimension=RUN.scorers),
        prompts=f"{FOLDER}/prompts.parquet",
        videos=f"{ROUND}/videos/shard-{{shard}}.parquet",
    output:
        f"{ROUND}/scores/shard-{{shard}}.json",
    log:
        f"{ROUND}/logs/score/shard-{{shard}}.log",
    benchmark:
        f"{ROUND}/benchmarks/score/shard-{{shard}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=RUN.num_gpus(RUN.scorers),
        cpus_per_task=4,  # clips are decoded ahead
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo score --config {input.configs:q} --round {wildcards.round}"
        " --shard {wildcards.shard} >> {log:q} 2>&1"


def once_settled(pattern, shards, wildcards):
    """The shards' lists of failures; `ancient` are those from which a dimension's tables cannot change any more."""
    scored = expand(pattern, shard=shards, **wildcards)
    return [ancient(file) if RUN.is_settled(file, wildcards.dimension) else file for file in scored]


# A dimension's tables are written again when its own scorer or the videos changed, or when a score is found that failed
# before; not when another scorer changed.
rule collect_scores:
    input:
        config=f"{FOLDER}/config/score/{{dimension}}.json",
        prompts=f"{FOLDER}/prompts.parquet",
        videos=f"{ROUND}/videos/shards.json",
        scored=lambda wildcards: once_settled(f"{ROUND}/scores/shard-{{shard}}.json", RUN.shards, wildcards),
    output:
        tables=expand(f"{ROUND}/scores/{{dimension}}/shard-{{shard}}.parquet", shard=RUN.shards, allow_missing=True),
        shards=f"{ROUND}/scores/{{dimension}}/shards.json",
    log:
        f"{ROUND}/logs/collect_scores/{{dimension}}.log",
    benchmark:
        f"{ROUND}/benchmarks/collect_scores/{{dimension}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo collect-scores --config {input.config:q} --round {wildcards.round} >> {log:q} 2>&1"
