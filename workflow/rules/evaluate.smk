NETWORK = [
    f"results/runs/{PATTERN}/run.json",
    f"results/runs/{PATTERN}/weights.safetensors",
]


# One of the shards that the protocol may have: its images are kept in the run's state/, where the evaluation finds them.
rule evaluate_shard:
    input:
        NETWORK,
        data="results/data/{dataset}.safetensors",
    output:
        f"results/runs/{PATTERN}/state/{{best}}shard{{shard}}of{{shards}}.json",
    log:
        f"results/logs/evaluate/{PATTERN}-{{best}}shard{{shard}}of{{shards}}.log",
    wildcard_constraints:
        method="[a-z0-9_]+",  # `external`, too
        best="(best_)?",
        shard=r"\d+",
        shards=r"\d+",
    conda:
        "../envs/fastat.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=memory,
        runtime=evaluation_minutes,
    params:
        name=run_name,
        network=lambda wildcards: grid.network_option_of(
            RunSpec.from_wildcards(wildcards), config
        ),
        protocol=lambda wildcards: json.dumps(
            grid.protocol_of_run(RunSpec.from_wildcards(wildcards), config)
        ),
        device=config["device"],
        runs_per_gpu=runs_per_gpu,
    shell:
        "best={wildcards.best}; "
        "python -m fastat evaluate --run {params.name} --protocol {params.protocol:q} --suite autoattack"
        " ${{best:+--epoch best}} --shard {wildcards.shard} --device {params.device} --runs-per-gpu {params.runs_per_gpu}"
        " --threads {threads} {params.network} >> {log} 2>&1"


rule evaluate:
    input:
        NETWORK,
        lambda wildcards: grid.shard_files(RunSpec.from_wildcards(wildcards), config),
        data="results/data/{dataset}.safetensors",
    output:
        f"results/runs/{PATTERN}/eval/whitebox.csv",
        f"results/runs/{PATTERN}/eval/whitebox.json",
        f"results/runs/{PATTERN}/eval/surfaces.csv",
        f"results/runs/{PATTERN}/eval/surfaces.json",
        f"results/runs/{PATTERN}/eval/steps.csv",
        f"results/runs/{PATTERN}/eval/steps.json",
        f"results/runs/{PATTERN}/eval/autoattack.csv",
        f"results/runs/{PATTERN}/eval/autoattack.json",
    log:
        f"results/logs/evaluate/{PATTERN}.log",
    conda:
        "../envs/fastat.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=memory,
        runtime=evaluation_minutes,
    params:
        name=run_name,
        network=usual_network,
        protocol=usual_protocol,
        device=config["device"],
        runs_per_gpu=runs_per_gpu,
    shell:
        "python -m fastat evaluate --run {params.name} --protocol {params.protocol:q} --epoch last"
        " --device {params.device} --runs-per-gpu {params.runs_per_gpu} --threads {threads} {params.network}"
        " >> {log} 2>&1"


# After `evaluate`: both write into one run's folder.
rule evaluate_best:
    input:
        NETWORK,
        f"results/runs/{PATTERN}/eval/steps.json",
        lambda wildcards: grid.shard_files(
            RunSpec.from_wildcards(wildcards), config, "best_"
        ),
        data="results/data/{dataset}.safetensors",
    output:
        f"results/runs/{PATTERN}/eval/best_whitebox.csv",
        f"results/runs/{PATTERN}/eval/best_whitebox.json",
        f"results/runs/{PATTERN}/eval/best_autoattack.csv",
        f"results/runs/{PATTERN}/eval/best_autoattack.json",
    log:
        f"results/logs/evaluate/{PATTERN}-best.log",
    conda:
        "../envs/fastat.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=memory,
        runtime=evaluation_minutes,
    params:
        name=run_name,
        network=usual_network,
        protocol=usual_protocol,
        device=config["device"],
        runs_per_gpu=runs_per_gpu,
    shell:
        "python -m fastat evaluate --run {params.name} --protocol {params.protocol:q} --epoch best"
        " --device {params.device} --runs-per-gpu {params.runs_per_gpu} --threads {threads} {params.network}"
        " >> {log} 2>&1"


# Runs whose blocks of the grid say `autoattack: false`. Inputs and params are those of `evaluate` and `evaluate_best`, so
# that a run that was attacked before, without shards, is not attacked again.
if WITHOUT_AUTOATTACK:

    ruleorder: evaluate_whitebox > evaluate
    ruleorder: evaluate_best_whitebox > evaluate_best

    rule evaluate_whitebox:
        input:
            [file.replace(PATTERN, "{run}") for file in NETWORK],
            data=lambda wildcards: f"results/data/{RunSpec.parse(wildcards.run).dataset}.safetensors",
        output:
            "results/runs/{run}/eval/whitebox.csv",
            "results/runs/{run}/eval/whitebox.json",
            "results/runs/{run}/eval/surfaces.csv",
            "results/runs/{run}/eval/surfaces.json",
            "results/runs/{run}/eval/steps.csv",
            "results/runs/{run}/eval/steps.json",
        log:
            "results/logs/evaluate/{run}.log",
        wildcard_constraints:
            run="|".join(WITHOUT_AUTOATTACK),
        conda:
            "../envs/fastat.yaml"
        threads: 1
        resources:
            gpu=GPUS,
            mem_mb=memory,
            runtime=evaluation_minutes,
        params:
            name=run_name,
            network=usual_network,
            protocol=usual_protocol,
            device=config["device"],
            runs_per_gpu=runs_per_gpu,
        shell:
            "python -m fastat evaluate --run {params.name} --protocol {params.protocol:q} --suite whitebox --epoch last"
            " --device {params.device} --runs-per-gpu {params.runs_per_gpu} --threads {threads} {params.network}"
            " >> {log} 2>&1"

    rule evaluate_best_whitebox:
        input:
            [file.replace(PATTERN, "{run}") for file in NETWORK],
            "results/runs/{run}/eval/steps.json",
            data=lambda wildcards: f"results/data/{RunSpec.parse(wildcards.run).dataset}.safetensors",
        output:
            "results/runs/{run}/eval/best_whitebox.csv",
            "results/runs/{run}/eval/best_whitebox.json",
        log:
            "results/logs/evaluate/{run}-best.log",
        wildcard_constraints:
            run="|".join(WITHOUT_AUTOATTACK),
        conda:
            "../envs/fastat.yaml"
        threads: 1
        resources:
            gpu=GPUS,
            mem_mb=memory,
            runtime=evaluation_minutes,
        params:
            name=run_name,
            network=usual_network,
            protocol=usual_protocol,
            device=config["device"],
            runs_per_gpu=runs_per_gpu,
        shell:
            "python -m fastat evaluate --run {params.name} --protocol {params.protocol:q} --suite whitebox --epoch best"
            " --device {params.device} --runs-per-gpu {params.runs_per_gpu} --threads {threads} {params.network}"
            " >> {log} 2>&1"


EXTERNAL = PATTERN.replace("{method}", "external").replace("{seed}", "0")


rule external:
    input:
        weights=lambda wildcards: external.of_wildcards(wildcards, config).path,
        data="results/data/{dataset}.safetensors",
    output:
        f"results/runs/{EXTERNAL}/run.json",
        f"results/runs/{EXTERNAL}/weights.safetensors",
        f"results/runs/{EXTERNAL}/eval/whitebox.csv",
        f"results/runs/{EXTERNAL}/eval/whitebox.json",
        f"results/runs/{EXTERNAL}/eval/surfaces.csv",
        f"results/runs/{EXTERNAL}/eval/surfaces.json",
        f"results/runs/{EXTERNAL}/eval/steps.csv",
        f"results/runs/{EXTERNAL}/eval/steps.json",
    log:
        f"results/logs/evaluate/{EXTERNAL}.log",
    conda:
        "../envs/fastat.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=memory,
        runtime=evaluation_minutes,
    params:
        options=lambda wildcards: external.of_wildcards(wildcards, config).options,
        protocol=lambda wildcards: json.dumps(
            grid.protocol_for(config, wildcards.dataset)
        ),
        device=config["device"],
        runs_per_gpu=runs_per_gpu,
    shell:
        "python -m fastat evaluate {params.options} --protocol {params.protocol:q} --suite whitebox"
        " --device {params.device} --runs-per-gpu {params.runs_per_gpu} --threads {threads} >> {log} 2>&1"


# After `external`: both write into one run's folder.
rule external_autoattack:
    input:
        f"results/runs/{EXTERNAL}/run.json",
        f"results/runs/{EXTERNAL}/weights.safetensors",
        lambda wildcards: grid.shard_files(
            external.of_wildcards(wildcards, config).spec, config
        ),
        data="results/data/{dataset}.safetensors",
    output:
        f"results/runs/{EXTERNAL}/eval/autoattack.csv",
        f"results/runs/{EXTERNAL}/eval/autoattack.json",
    log:
        f"results/logs/evaluate/{EXTERNAL}-autoattack.log",
    conda:
        "../envs/fastat.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=memory,
        runtime=evaluation_minutes,
    params:
        name=lambda wildcards: external.of_wildcards(wildcards, config).spec.name,
        network=lambda wildcards: external.of_wildcards(
            wildcards, config
        ).network_option,
        protocol=lambda wildcards: json.dumps(
            external.of_wildcards(wildcards, config).protocol(
                grid.protocol_for(config, wildcards.dataset)
            )
        ),
        device=config["device"],
        runs_per_gpu=runs_per_gpu,
    shell:
        "python -m fastat evaluate --run {params.name} --protocol {params.protocol:q} --suite autoattack"
        " --device {params.device} --runs-per-gpu {params.runs_per_gpu} --threads {threads} {params.network}"
        " >> {log} 2>&1"


# By name, if the config asks for some; after the other evaluations: all write into one run's folder.
if any(grid.is_attacked_by_name(spec, config) for spec in SPECS):

    rule evaluate_attacks:
        input:
            NETWORK,
            lambda wildcards: grid.last_evaluation(
                RunSpec.from_wildcards(wildcards), config
            ),
            data="results/data/{dataset}.safetensors",
        output:
            f"results/runs/{PATTERN}/eval/attacks.csv",
            f"results/runs/{PATTERN}/eval/attacks.json",
        log:
            f"results/logs/evaluate/{PATTERN}-attacks.log",
        wildcard_constraints:
            method="[a-z0-9_]+",  # `external`, too
        conda:
            "../envs/fastat.yaml"
        threads: 1
        resources:
            gpu=GPUS,
            mem_mb=memory,
            runtime=attacks_minutes,
        params:
            name=run_name,
            network=lambda wildcards: grid.network_option_of(
                RunSpec.from_wildcards(wildcards), config
            ),
            protocol=lambda wildcards: json.dumps(
                grid.protocol_of_run(RunSpec.from_wildcards(wildcards), config)
            ),
            attacks=lambda wildcards: list(grid.attacks_for(config, wildcards.dataset)),
            device=config["device"],
            runs_per_gpu=runs_per_gpu,
        shell:
            "python -m fastat evaluate --run {params.name} --protocol {params.protocol:q} --suite attacks"
            " --attacks {params.attacks:q} --device {params.device} --runs-per-gpu {params.runs_per_gpu}"
            " --threads {threads} {params.network} >> {log} 2>&1"


rule probe:
    input:
        NETWORK,
        f"results/runs/{PATTERN}/log.csv",
        lambda wildcards: f"results/runs/{RunSpec.from_wildcards(wildcards).ranked_by.name}/instances.safetensors",
        data="results/data/{dataset}.safetensors",
    output:
        f"results/runs/{PATTERN}/eval/surfaces_by_epoch.csv",
        f"results/runs/{PATTERN}/eval/surfaces_by_epoch.json",
    log:
        f"results/logs/evaluate/{PATTERN}-probe.log",
    conda:
        "../envs/fastat.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=memory,
        runtime=evaluation_minutes,
    params:
        name=run_name,
        network=usual_network,
        device=config["device"],
        numerics=config["numerics"],
        runs_per_gpu=runs_per_gpu,
    shell:
        "python -m fastat probe --run {params.name} --device {params.device}"
        " --numerics {params.numerics} --runs-per-gpu {params.runs_per_gpu} --threads {threads} {params.network}"
        " >> {log} 2>&1"
