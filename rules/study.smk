# The verdicts are printed in the terminal. After a failure, the driver runs the same command on what is finished.
rule study:
    input:
        RUNS.results,
    output:
        f"{RUNS.root}/study.parquet",
        f"{RUNS.root}/verdicts.json",
        f"{RUNS.root}/index.html",
    log:
        f"{RUNS.root}/logs/study.log",
    localrule: True
    conda:
        "../envs/videodpo.yaml"
    params:
        root=RUNS.root,
        plan=RUNS.plan_sha256,
    shell:
        "exec videodpo study {params.root:q} 2>> {log:q}"
