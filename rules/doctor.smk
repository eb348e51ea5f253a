# Stops before the training where something is broken: an alarm is exit code 3. docs/doctor.md says what to do about it.
rule doctor:
    input:
        config=f"{FOLDER}/config/train.json",
        execution=EXECUTION,
        prompts=f"{FOLDER}/prompts.parquet",
        pairs=f"{ROUND}/pairs.parquet",
        latents=expand(f"{ROUND}/videos/latents/shard-{{shard}}.safetensors", shard=RUN.shards, allow_missing=True),
        texts=expand(f"{ROUND}/videos/texts/shard-{{shard}}.safetensors", shard=RUN.shards, allow_missing=True),
        reference=expand(f"{ROUND}/reference/shard-{{part}}.parquet", part=RUN.reference_shards, allow_missing=True),
    output:
        f"{ROUND}/doctor.json",
    log:
        f"{ROUND}/logs/doctor.log",
    benchmark:
        f"{ROUND}/benchmarks/doctor.tsv"
    conda:
        "../envs/videodpo.yaml"
    resources:
        gpu=1,
    shell:
        "OMP_NUM_THREADS={threads} exec videodpo doctor --config {input.config:q} --round {wildcards.round}"
        " --out {output:q} > {log:q} 2>&1"
