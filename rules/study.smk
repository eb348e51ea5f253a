# The verdicts are printed in the terminal. After a failure, the driver runs the same command on the finished runs.
rule study:
    input:
        RUNS.results,
    output:
        table=f"{RUNS.root}/study.parquet",
        verdicts=report(f"{RUNS.root}/verdicts.json", caption="report/verdicts.rst", category="Study"),
        page=f"{RUNS.root}/index.html",
    log:
        f"{RUNS.root}/logs/study.log",
    localrule: True
    conda:
        "../envs/videodpo.yaml"
    params:
        root=lambda wildcards, output: Path(output.page).parent,
        plan=RUNS.plan_sha256,
    shell:
        "exec videodpo study {params.root:q} 2>> {log:q}"
