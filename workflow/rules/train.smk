rule data:
    output:
        "results/data/{dataset}.safetensors",
    log:
        "results/logs/data/{dataset}.log",
    conda:
        "../envs/fastat.yaml"
    params:
        source=config["data_dir"],
        options=lambda wildcards: (
            f"--options {shlex.quote(json.dumps(own_data.known(config)[wildcards.dataset], sort_keys=True))}"
            if wildcards.dataset in own_data.known(config)
            else ""
        ),
        # changed files are prepared again
        state=lambda wildcards: own_data.state_of(
            own_data.known(config).get(wildcards.dataset, {})
        ),
    shell:
        "python -m fastat data --dataset {wildcards.dataset} --source {params.source:q} {params.options}"
        " --out {output} >> {log} 2>&1"


# The state of an unfinished run lies beside these outputs and is none of them: Snakemake deletes outputs.
rule train:
    input:
        lambda wildcards: grid.needed_files(RunSpec.from_wildcards(wildcards)),
        data="results/data/{dataset}.safetensors",
    output:
        f"results/runs/{PATTERN}/run.json",
        f"results/runs/{PATTERN}/log.csv",
        f"results/runs/{PATTERN}/weights.safetensors",
        f"results/runs/{PATTERN}/instances.safetensors",
    log:
        f"results/logs/train/{PATTERN}.log",
    conda:
        "../envs/fastat.yaml"
    threads: 1
    resources:
        gpu=lambda wildcards: GPUS * config["processes"].get(wildcards.dataset, 1),
        mem_mb=memory,
        runtime=training_minutes,
    params:
        launch=lambda wildcards: grid.launcher(wildcards.dataset, config),
        name=lambda wildcards: RunSpec.from_wildcards(wildcards).name,
        recipe=lambda wildcards: resolve(
            RunSpec.from_wildcards(wildcards), config
        ).to_json(),
        options=lambda wildcards: grid.train_options(
            RunSpec.from_wildcards(wildcards), config
        ),
        device=config["device"],
        runs_per_gpu=config["runs_per_gpu"],
    shell:
        "{params.launch} train --run {params.name} --recipe {params.recipe:q} --device {params.device}"
        " --runs-per-gpu {params.runs_per_gpu} --threads {threads} {params.options} >> {log} 2>&1"
