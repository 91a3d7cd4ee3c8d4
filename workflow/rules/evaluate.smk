rule evaluate:
    input:
        "results/runs/{dataset}/{model}/eps{eps}/{method}/{variant}/seed{seed}/run.json",
        "results/runs/{dataset}/{model}/eps{eps}/{method}/{variant}/seed{seed}/weights.safetensors",
        data="results/data/{dataset}.safetensors",
    output:
        "results/runs/{dataset}/{model}/eps{eps}/{method}/{variant}/seed{seed}/eval/{suite}.csv",
    log:
        "results/logs/evaluate/{dataset}/{model}/eps{eps}/{method}/{variant}/seed{seed}/{suite}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=1,
    params:
        name=lambda wildcards: runs.RunSpec.of(wildcards).name,
        protocol=lambda wildcards: json.dumps(runs.protocol(config, wildcards.dataset)),
        device=config["device"],
        runs_per_gpu=config["runs_per_gpu"],
    shell:
        "python -m fastat evaluate --run {params.name} --suite {wildcards.suite} --protocol {params.protocol:q}"
        " --device {params.device} --runs-per-gpu {params.runs_per_gpu} --threads {threads} >> {log} 2>&1"
