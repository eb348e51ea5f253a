rule evaluate_generate:
    input:
        config=f"{FOLDER}/config/evaluate_generate.json",
        prompts=f"{FOLDER}/prompts.parquet",
        adapter=lambda wildcards: [f"{FOLDER}/round{wildcards.round}/adapter"] * (wildcards.arm == "aligned"),
    output:
        table=f"{ROUND}/evaluation/videos/{{arm}}/shard-{{shard}}.parquet",
        latents=f"{ROUND}/evaluation/videos/{{arm}}/latents/shard-{{shard}}.safetensors",
    log:
        f"{ROUND}/logs/evaluate_generate/{{arm}}/shard-{{shard}}.log",
    benchmark:
        f"{ROUND}/benchmarks/evaluate_generate/{{arm}}/shard-{{shard}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=1,
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo generate --config {input.config:q} --round {wildcards.round}"
        " --arm {wildcards.arm} --shard {wildcards.shard} >> {log:q} 2>&1"


rule evaluate_score:
    input:
        configs=expand(f"{FOLDER}/config/score/{{dimension}}.json", dimension=RUN.scorers + RUN.judges),
        prompts=f"{FOLDER}/prompts.parquet",
        videos=f"{ROUND}/evaluation/videos/{{arm}}/shard-{{shard}}.parquet",
    output:
        f"{ROUND}/evaluation/scores/{{arm}}/shard-{{shard}}.json",
    log:
        f"{ROUND}/logs/evaluate_score/{{arm}}/shard-{{shard}}.log",
    benchmark:
        f"{ROUND}/benchmarks/evaluate_score/{{arm}}/shard-{{shard}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=RUN.num_gpus(RUN.scorers + RUN.judges),
        cpus_per_task=4,  # clips are decoded ahead
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo score --config {input.configs:q} --round {wildcards.round}"
        " --arm {wildcards.arm} --shard {wildcards.shard} >> {log:q} 2>&1"


rule evaluate_collect_scores:
    input:
        config=f"{FOLDER}/config/score/{{dimension}}.json",
        prompts=f"{FOLDER}/prompts.parquet",
        videos=expand(
            f"{ROUND}/evaluation/videos/{{arm}}/shard-{{shard}}.parquet", shard=RUN.heldout_shards, allow_missing=True
        ),
        scored=lambda wildcards: RUN.once_settled(
            expand(f"{ROUND}/evaluation/scores/{{arm}}/shard-{{shard}}.json", shard=RUN.heldout_shards, **wildcards),
            wildcards,
            ancient,
        ),
    output:
        expand(
            f"{ROUND}/evaluation/scores/{{arm}}/{{dimension}}/shard-{{shard}}.parquet",
            shard=RUN.heldout_shards,
            allow_missing=True,
        ),
    log:
        f"{ROUND}/logs/evaluate_collect_scores/{{arm}}/{{dimension}}.log",
    benchmark:
        f"{ROUND}/benchmarks/evaluate_collect_scores/{{arm}}/{{dimension}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo collect-scores --config {input.config:q} --round {wildcards.round} --arm {wildcards.arm} >> {log:q} 2>&1"


rule evaluate:
    input:
        config=f"{FOLDER}/config/evaluate.json",
        prompts=f"{FOLDER}/prompts.parquet",
        videos=expand(
            f"{ROUND}/evaluation/videos/{{arm}}/shard-{{shard}}.parquet",
            arm=("base", "aligned"),
            shard=RUN.heldout_shards,
            allow_missing=True,
        ),
        scores=expand(
            f"{ROUND}/evaluation/scores/{{arm}}/{{dimension}}/shard-{{shard}}.parquet",
            arm=("base", "aligned"),
            dimension=RUN.scorers + RUN.judges,
            shard=RUN.heldout_shards,
            allow_missing=True,
        ),
        headroom=expand(f"{FOLDER}/round1/{{table}}", table=RUN.headroom_tables, allow_missing=True),
        train_log=f"{ROUND}/train_log.parquet",
    output:
        prompts=f"{ROUND}/evaluation/prompts.parquet",
        summary=f"{ROUND}/evaluation/summary.json",
    log:
        f"{ROUND}/logs/evaluate.log",
    benchmark:
        f"{ROUND}/benchmarks/evaluate.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo evaluate --config {input.config:q} --round {wildcards.round} >> {log:q} 2>&1"
