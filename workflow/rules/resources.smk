# What rules ask of a run, and a scheduler for it; without one there are no limits of memory and time.
GPUS = int(config["device"] != "cpu")


def spec_of(wildcards):
    if "run" in wildcards.keys():
        return RunSpec.parse(wildcards.run)
    if "method" in wildcards.keys():
        return RunSpec.from_wildcards(wildcards)
    return external.of_wildcards(wildcards, config).spec


def memory(wildcards, attempt):
    return cluster.memory_mb(PLAN, spec_of(wildcards), attempt)


def training_memory(wildcards, attempt):
    shared_by = config["processes"].get(wildcards.dataset, 1)
    return cluster.memory_mb(PLAN, spec_of(wildcards), attempt, shared_by)


def training_minutes(wildcards, attempt):
    return cluster.minutes(PLAN, spec_of(wildcards), "train", attempt)


def evaluation_minutes(wildcards, attempt):
    shares = int(wildcards.get("shards", 1))
    return cluster.minutes(PLAN, spec_of(wildcards), "evaluate", attempt, shares)


def attacks_minutes(wildcards, attempt):
    return cluster.minutes(PLAN, spec_of(wildcards), "attacks", attempt)


def run_name(wildcards):
    return spec_of(wildcards).name


def usual_network(wildcards):
    return network_option(spec_of(wildcards).model, config)


def usual_protocol(wildcards):
    return json.dumps(grid.protocol_for(config, spec_of(wildcards).dataset))


# Snakemake takes a param that asks for `input` for derived from it, and does not run a job again when it changes: so do
# all that change no result. `device` does: a CPU's numbers are not a GPU's.
def runs_per_gpu(wildcards, input):
    return config["runs_per_gpu"]
