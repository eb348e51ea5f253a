# Every stage reads its own settings snapshot alone: an edit of config.yaml during a run reaches no running
# job, and only the stages whose settings changed run again.
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
        text=lambda wildcards: RUN.snapshots[wildcards.snapshot],
    shell:
        "exec videodpo snapshot {output:q} --text {params.text:q} >> {log:q} 2>&1"
