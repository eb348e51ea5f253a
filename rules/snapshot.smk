# Every stage reads its own settings snapshot alone: an edit of config.yaml during a run reaches no running
# job, and only the stages whose settings changed run again. The driver writes the settings to a file before its first
# job, because a command line has no room for more than 128 KiB; their digest is what makes this rule run again.
rule snapshot:
    output:
        f"{FOLDER}/config/{{snapshot}}.json",
    log:
        f"{FOLDER}/logs/snapshot/{{snapshot}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/snapshot/{{snapshot}}.tsv"
    localrule: True
    conda:
        "../envs/videodpo.yaml"
    params:
        settings=lambda wildcards: RUN.planned_file(wildcards.snapshot),
        sha256=lambda wildcards: RUN.planned_sha256(wildcards.snapshot),
    shell:
        "exec videodpo snapshot {output:q} --settings {params.settings:q} --sha256 {params.sha256} >> {log:q} 2>&1"
