# Each clip is decoded once for all dimensions. Scores already in the shard's store, including those of other scorers,
# are not computed again.
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


# A dimension's tables are rewritten if its own scorer or the videos changed, or if a failed score was computed later.
# They are not rewritten if another scorer changed.
rule collect_scores:
    input:
        config=f"{FOLDER}/config/score/{{dimension}}.json",
        prompts=f"{FOLDER}/prompts.parquet",
        videos=f"{ROUND}/videos/shards.json",
        scored=lambda wildcards: RUN.once_settled(
            expand(f"{ROUND}/scores/shard-{{shard}}.json", shard=RUN.shards, **wildcards), wildcards, ancient
        ),
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
