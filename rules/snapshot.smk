# Each stage reads only its own settings snapshot. Therefore an edit of config.yaml during a run affects no running job,
# and only the stages whose settings changed re-run. The driver writes the settings to a file before its first job,
# because a command-line argument is limited to 128 KiB. A change of their digest re-runs this rule.
rule snapshot:
    output:
        report(
            f"{FOLDER}/config/{{snapshot}}.json",
            caption="report/settings.rst",
            category="Settings",
            subcategory=RUNS.folder_of,
        ),
    log:
        f"{FOLDER}/logs/snapshot/{{snapshot}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/snapshot/{{snapshot}}.tsv"
    localrule: True
    conda:
        "../envs/videodpo.yaml"
    params:
        settings=lambda wildcards: RUNS.of(wildcards).planned_file(wildcards.snapshot),
        sha256=lambda wildcards: RUNS.of(wildcards).planned_sha256(wildcards.snapshot),
    shell:
        "exec videodpo snapshot {output:q} --settings {params.settings:q} --sha256 {params.sha256} >> {log:q} 2>&1"
