# Every stage reads its own frozen settings alone: an edit of config.yaml during a run reaches no running
# job, and only the stages whose settings changed run again.
rule freeze:
    output:
        f"{FOLDER}/config/{{frozen}}.json",
    log:
        f"{FOLDER}/logs/freeze/{{frozen}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/freeze/{{frozen}}.tsv"
    localrule: True
    conda:
        "../envs/videodpo.yaml"
    params:
        text=lambda wildcards: RUN.frozen[wildcards.frozen],
    shell:
        "exec videodpo freeze {output:q} --text {params.text:q} > {log:q} 2>&1"
