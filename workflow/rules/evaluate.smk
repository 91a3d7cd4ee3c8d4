rule evaluate:
    input:
        f"{RUN}/run.json",
        f"{RUN}/weights.safetensors",
        data="results/data/{dataset}.safetensors",
    output:
        f"{RUN}/eval/{{suite}}.csv",
    log:
        "results/logs/evaluate/" + runs.PATTERN + "/{suite}.log",
    params:
        name=lambda wildcards: spec(wildcards).name,
        protocol=json.dumps(config["evaluation"]),
        n_test=lambda wildcards: (
            f"--n-test {n}" if (n := runs.resolve_dataset(wildcards.dataset, config).get("n_test")) else ""
        ),
        device=config["device"],
    threads: 1
    conda:
        "../../environment.yml"
    shell:
        "python -m fastat evaluate --run {params.name} --suite {wildcards.suite} --protocol {params.protocol:q}"
        " {params.n_test} --device {params.device} --threads {threads} >> {log} 2>&1"
