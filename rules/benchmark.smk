# The benchmark `evaluate.benchmark`. Each group of its prompts has its own clips, shards and dimensions.
BENCHMARK = f"{ROUND}/benchmark/{{group}}"


rule benchmark_prompts:
    input:
        config=f"{FOLDER}/config/benchmark_prompts/{{group}}.json",
    output:
        f"{FOLDER}/benchmark_prompts/{{group}}.parquet",
    log:
        f"{FOLDER}/logs/benchmark_prompts/{{group}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/benchmark_prompts/{{group}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo benchmark-prompts --config {input.config:q} --group {wildcards.group} >> {log:q} 2>&1"


rule benchmark_generate:
    input:
        config=RUNS.benchmark_config,
        adapter=RUNS.benchmark_adapter,
        prompts=f"{FOLDER}/benchmark_prompts/{{group}}.parquet",
    output:
        f"{BENCHMARK}/videos/{{arm}}/shard-{{shard}}.parquet",
    log:
        f"{ROUND}/logs/benchmark_generate/{{group}}/{{arm}}/shard-{{shard}}.log",
    benchmark:
        f"{ROUND}/benchmarks/benchmark_generate/{{group}}/{{arm}}/shard-{{shard}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=lambda wildcards: 0 if RUNS.copies(wildcards) else 1,
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo generate --config {input.config:q} --round {wildcards.round}"
        " --group {wildcards.group} --arm {wildcards.arm} --shard {wildcards.shard} >> {log:q} 2>&1"


rule benchmark_score:
    input:
        configs=RUNS.benchmark_configs,
        prompts=f"{FOLDER}/benchmark_prompts/{{group}}.parquet",
        videos=f"{BENCHMARK}/videos/{{arm}}/shard-{{shard}}.parquet",
    output:
        f"{BENCHMARK}/scores/{{arm}}/shard-{{shard}}.json",
    log:
        f"{ROUND}/logs/benchmark_score/{{group}}/{{arm}}/shard-{{shard}}.log",
    benchmark:
        f"{ROUND}/benchmarks/benchmark_score/{{group}}/{{arm}}/shard-{{shard}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=RUNS.benchmark_gpus,
        cpus_per_task=4,  # threads prefetch and decode clips
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo score --config {input.configs:q} --round {wildcards.round}"
        " --group {wildcards.group} --arm {wildcards.arm} --shard {wildcards.shard} >> {log:q} 2>&1"


# The number of shards differs between groups, so the tables themselves are not declared; the list has their SHA-256.
rule benchmark_collect_scores:
    input:
        config=f"{FOLDER}/config/benchmark_score/{{dimension}}.json",
        prompts=f"{FOLDER}/benchmark_prompts/{{group}}.parquet",
        videos=lambda wildcards: expand(
            f"{BENCHMARK}/videos/{{arm}}/shard-{{shard}}.parquet", shard=RUNS.benchmark_shards(wildcards), **wildcards
        ),
        scored=lambda wildcards: once_settled(
            expand(
                f"{BENCHMARK}/scores/{{arm}}/shard-{{shard}}.json", shard=RUNS.benchmark_shards(wildcards), **wildcards
            ),
            wildcards,
            ancient,
        ),
    output:
        f"{BENCHMARK}/scores/{{arm}}/{{dimension}}/shards.json",
    log:
        f"{ROUND}/logs/benchmark_collect_scores/{{group}}/{{arm}}/{{dimension}}.log",
    benchmark:
        f"{ROUND}/benchmarks/benchmark_collect_scores/{{group}}/{{arm}}/{{dimension}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo collect-scores --config {input.config:q} --round {wildcards.round} --group {wildcards.group}"
        " --arm {wildcards.arm} >> {log:q} 2>&1"


# The clips under the names that the benchmark's own program expects.
rule benchmark_folder:
    input:
        config=f"{FOLDER}/config/benchmark_official.json",
        prompts=RUNS.inputs(lambda run: run.benchmark.prompts),
        videos=RUNS.inputs(lambda run: run.benchmark.videos),
    output:
        directory(f"{ROUND}/benchmark/official/videos/{{arm}}"),
    log:
        f"{ROUND}/logs/benchmark_folder/{{arm}}.log",
    benchmark:
        f"{ROUND}/benchmarks/benchmark_folder/{{arm}}.tsv"
    localrule: True
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo benchmark-folder --config {input.config:q} --round {wildcards.round} --arm {wildcards.arm}"
        " >> {log:q} 2>&1"


# `vbench` comes from this environment, `videodpo` from the environment that runs Snakemake.
rule benchmark_official:
    input:
        config=f"{FOLDER}/config/benchmark_official.json",
        videos=RUNS.inputs(lambda run: run.benchmark.official_folder),
    output:
        f"{ROUND}/benchmark/official/{{arm}}.json",
    log:
        f"{ROUND}/logs/benchmark_official/{{arm}}.log",
    benchmark:
        f"{ROUND}/benchmarks/benchmark_official/{{arm}}.tsv"
    conda:
        "../envs/vbench.yaml"
    container:
        "vbench.sif"
    resources:
        gpu=1,
    shell:
        "exec videodpo benchmark-official --config {input.config:q} --round {wildcards.round} --arm {wildcards.arm}"
        " >> {log:q} 2>&1"


rule benchmark_summary:
    input:
        config=f"{FOLDER}/config/benchmark.json",
        prompts=RUNS.inputs(lambda run: run.benchmark.prompts),
        tables=RUNS.inputs(lambda run: run.benchmark.tables),
        official=RUNS.inputs(lambda run: run.benchmark.official_results),
    output:
        clips=f"{ROUND}/benchmark/clips.parquet",
        summary=report(
            f"{ROUND}/benchmark/summary.json",
            caption="report/summary.rst",
            category="Result",
            subcategory=RUNS.folder_of,
        ),
        csv=f"{ROUND}/benchmark/table.csv",
        latex=f"{ROUND}/benchmark/table.tex",
    log:
        f"{ROUND}/logs/benchmark_summary.log",
    benchmark:
        f"{ROUND}/benchmarks/benchmark_summary.tsv"
    conda:
        "../envs/videodpo.yaml"
    shell:
        "exec videodpo benchmark --config {input.config:q} --round {wildcards.round} >> {log:q} 2>&1"
