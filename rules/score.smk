rule score:
    input:
        config=f"{FOLDER}/config/score/{{dimension}}.json",
        execution=EXECUTION,
        prompts=f"{FOLDER}/prompts.parquet",
        videos=f"{ROUND}/videos/shard-{{shard}}.parquet",
    output:
        f"{ROUND}/scores/{{dimension}}/shard-{{shard}}.parquet",
    log:
        f"{ROUND}/logs/score/{{dimension}}/shard-{{shard}}.log",
    benchmark:
        f"{ROUND}/benchmarks/score/{{dimension}}/shard-{{shard}}.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=lambda wildcards: RUN.num_gpus(wildcards.dimension),
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    shell:
        "OMP_NUM_THREADS={threads} videodpo score --config {input.config:q} --round {wildcards.round}"
        " --dimension {wildcards.dimension} --shard {wildcards.shard} > {log:q} 2>&1"
