OWN = catalog.own(config)


rule data:
    output:
        "results/data/{dataset}.safetensors",
    log:
        "results/logs/data/{dataset}.log",
    conda:
        "../envs/fastat.yaml"
    params:
        source=lambda wildcards, input: config["data_dir"],
        options=lambda wildcards, input: (
            f"--options {shlex.quote(json.dumps(OWN[wildcards.dataset], sort_keys=True))}"
            if wildcards.dataset in OWN
            else ""
        ),
        # other content or changed files are prepared again; where they are looked for is of no account
        content=lambda wildcards: json.dumps(
            own_data.of_content(OWN.get(wildcards.dataset, {})), sort_keys=True
        ),
        state=lambda wildcards: own_data.state_of(OWN.get(wildcards.dataset, {})),
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
        mem_mb=training_memory,
        runtime=training_minutes,
    params:
        launch=lambda wildcards, input: grid.launcher(wildcards.dataset, config),
        name=run_name,
        recipe=lambda wildcards: resolve(
            RunSpec.from_wildcards(wildcards), config
        ).to_json(),
        snapshots=lambda wildcards: (
            "--snapshots" if grid.keeps_snapshots(spec_of(wildcards), config) else ""
        ),
        cuda_graphs=lambda wildcards, input: config["cuda_graphs"],
        device=config["device"],
        runs_per_gpu=runs_per_gpu,
    shell:
        "{params.launch} train --run {params.name} --recipe {params.recipe:q} --device {params.device}"
        " --cuda-graphs {params.cuda_graphs:q} --runs-per-gpu {params.runs_per_gpu} --threads {threads} {params.snapshots} >> {log} 2>&1"
