rule evaluate_generate:
    input:
        config=f"{FOLDER}/config/evaluate_generate.json",
        prompts=RUNS.inputs("prompts.parquet"),
        adapter=RUNS.adapter,
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
        configs=RUNS.score_configs("round{round}/evaluation/scores/{arm}", judges=True),
        prompts=RUNS.inputs("prompts.parquet"),
        videos=RUNS.inputs("round{round}/evaluation/videos/{arm}/shard-{shard}.parquet"),
    output:
        f"{ROUND}/evaluation/scores/{{arm}}/shard-{{shard}}.json",
    log:
        f"{ROUND}/logs/evaluate_score/{{arm}}/shard-{{shard}}.log",
    benchmark:
        f"{ROUND}/benchmarks/evaluate_score/{{arm}}/shard-{{shard}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=RUNS.num_gpus(judges=True),
        cpus_per_task=4,  # threads prefetch and decode clips
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo score --config {input.configs:q} --round {wildcards.round}"
        " --arm {wildcards.arm} --shard {wildcards.shard} >> {log:q} 2>&1"


rule evaluate_collect_scores:
    input:
        config=f"{FOLDER}/config/score/{{dimension}}.json",
        prompts=RUNS.inputs("prompts.parquet"),
        videos=RUNS.inputs(
            lambda run: [
                f"round{{round}}/evaluation/videos/{{arm}}/shard-{shard}.parquet" for shard in run.heldout_shards
            ]
        ),
        scored=lambda wildcards: once_settled(
            expand(
                f"{ROUND}/evaluation/scores/{{arm}}/shard-{{shard}}.json", shard=RUNS.first.heldout_shards, **wildcards
            ),
            wildcards,
            ancient,
        ),
    output:
        expand(
            f"{ROUND}/evaluation/scores/{{arm}}/{{dimension}}/shard-{{shard}}.parquet",
            shard=RUNS.first.heldout_shards,
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


rule evaluate_appearance:
    input:
        config=f"{FOLDER}/config/appearance.json",
        videos=RUNS.inputs(
            lambda run: [
                f"round{{round}}/evaluation/videos/{{arm}}/shard-{shard}.parquet" for shard in run.heldout_shards
            ]
        ),
    output:
        f"{ROUND}/evaluation/appearance/{{arm}}.parquet",
    log:
        f"{ROUND}/logs/evaluate_appearance/{{arm}}.log",
    benchmark:
        f"{ROUND}/benchmarks/evaluate_appearance/{{arm}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=RUNS.appearance_gpus,
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo appearance --config {input.config:q} --round {wildcards.round}"
        " --arm {wildcards.arm} >> {log:q} 2>&1"


rule evaluate:
    input:
        config=f"{FOLDER}/config/evaluate.json",
        prompts=RUNS.inputs("prompts.parquet"),
        videos=RUNS.inputs(heldout_videos),
        scores=RUNS.inputs(heldout_scores),
        headroom=RUNS.inputs(lambda run: [f"round1/{table}" for table in run.headroom_tables]),
        train_log=RUNS.inputs("round{round}/train_log.parquet"),
    output:
        prompts=f"{ROUND}/evaluation/prompts.parquet",
        summary=report(
            f"{ROUND}/evaluation/summary.json",
            caption="report/summary.rst",
            category="Result",
            subcategory=RUNS.folder_of,
        ),
    log:
        f"{ROUND}/logs/evaluate.log",
    benchmark:
        f"{ROUND}/benchmarks/evaluate.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo evaluate --config {input.config:q} --round {wildcards.round} >> {log:q} 2>&1"
