def spec(wildcards):
    return runs.RunSpec(
        wildcards.dataset,
        wildcards.model,
        int(wildcards.eps),
        wildcards.method,
        wildcards.variant,
        int(wildcards.seed),
    )


rule data:
    output:
        "results/data/{dataset}.safetensors",
    log:
        "results/logs/data/{dataset}.log",
    params:
        source=config["data_dir"],
    conda:
        "../../environment.yml"
    shell:
        "python -m fastat data --dataset {wildcards.dataset} --source {params.source:q} --out {output} >> {log} 2>&1"


# The state of an unfinished run lies beside these outputs and is none of them: Snakemake deletes outputs.
rule train:
    input:
        "results/data/{dataset}.safetensors",
    output:
        f"{RUN}/run.json",
        f"{RUN}/log.csv",
        f"{RUN}/weights.safetensors",
    log:
        "results/logs/train/" + runs.PATTERN + ".log",
    params:
        name=lambda wildcards: spec(wildcards).name,
        recipe=lambda wildcards: runs.resolve(spec(wildcards), config).to_json(),
        device=config["device"],
    threads: 1
    conda:
        "../../environment.yml"
    shell:
        "python -m fastat train --run {params.name} --recipe {params.recipe:q} --device {params.device}"
        " --threads {threads} >> {log} 2>&1"
