# Each clip is decoded once for all dimensions. Scores already in the shard's store, including those of other scorers,
# are not computed again.
rule score:
    input:
        configs=RUNS.score_configs("round{round}/scores", judges=False),
        prompts=RUNS.inputs("prompts.parquet"),
        videos=RUNS.inputs("round{round}/videos/shard-{shard}.parquet"),
    output:
        f"{ROUND}/scores/shard-{{shard}}.json",
    log:
        f"{ROUND}/logs/score/shard-{{shard}}.log",
    benchmark:
        f"{ROUND}/benchmarks/score/shard-{{shard}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=RUNS.num_gpus(judges=False),
        cpus_per_task=4,  # threads prefetch and decode clips
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo score --config {input.configs:q} --round {wildcards.round}"
        " --shard {wildcards.shard} >> {log:q} 2>&1"


# A dimension's tables are rewritten if its own scorer or the videos changed, or if a failed score was computed later.
# They are not rewritten if another scorer changed.
rule collect_scores:
    input:
        config=f"{FOLDER}/config/score/{{dimension}}.json",
        prompts=RUNS.inputs("prompts.parquet"),
        videos=RUNS.inputs("round{round}/videos/shards.json"),
        scored=lambda wildcards: once_settled(
            expand(f"{ROUND}/scores/shard-{{shard}}.json", shard=RUNS.first.shards, **wildcards), wildcards, ancient
        ),
    output:
        tables=expand(
            f"{ROUND}/scores/{{dimension}}/shard-{{shard}}.parquet", shard=RUNS.first.shards, allow_missing=True
        ),
        shards=f"{ROUND}/scores/{{dimension}}/shards.json",
    log:
        f"{ROUND}/logs/collect_scores/{{dimension}}.log",
    benchmark:
        f"{ROUND}/benchmarks/collect_scores/{{dimension}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo collect-scores --config {input.config:q} --round {wildcards.round} >> {log:q} 2>&1"
