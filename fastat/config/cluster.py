"""What a job asks of a cluster: memory and minutes, from what `plan --out` reckoned; and what a profile may say."""

import math
import re
from collections.abc import Iterable, Mapping

from fastat import ROOT
from fastat.config.estimates import Estimates
from fastat.config.spec import RunSpec
from fastat.errors import BadInput, did_you_mean

MARGIN = 2  # estimates are of the arithmetic alone, and of a card that does nothing else
START_MINUTES = 15  # loading, compiling, and a file system that many wait for
PROCESS_MB = 2000  # Python, torch, CUDA's context and the two Snakemakes that stand above them
UNKNOWN_MB, UNKNOWN_MINUTES = 4000, 1440  # of what no plan says
LONGEST_MINUTES = 365 * 24 * 60
OF_SLURM = (
    "slurm_partition", "slurm_account", "qos", "gpu_model", "gpu", "gres", "constraint", "slurm_extra", "runtime",
    "mem_mb", "mem", "mem_mb_per_cpu", "disk_mb", "disk", "tmpdir", "nodes", "tasks", "tasks_per_gpu", "cpus_per_task",
    "cpus_per_gpu", "clusters", "cluster", "slurm_cluster",
)  # fmt: skip


def memory_mb(plan: Estimates, spec: RunSpec, attempt: int, processes: int = 1) -> int:
    """Host memory of a run's training, by so many processes, or evaluation; as much again at each further attempt."""
    held = plan.of(spec.name, "host_bytes")
    once = UNKNOWN_MB if held is None else PROCESS_MB + math.ceil(MARGIN * held / 1e6)
    return once * processes * attempt


def minutes(plan: Estimates, spec: RunSpec, part: str, attempt: int, shares: int = 1) -> int:
    """Wall time of `train`, `evaluate` or `attacks`, which no plan knows, or of an equal share that it is done in."""
    seconds = plan.of(spec.name, f"{part}_seconds")
    once = UNKNOWN_MINUTES if seconds is None else START_MINUTES + math.ceil(MARGIN * seconds / shares / 60)
    return min(once * attempt, LONGEST_MINUTES)


def rules() -> list[str]:
    """Every rule of the workflow, also those that this grid needs none of."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "workflow/rules").glob("*.smk"))]
    return re.findall(r"^ *rule (\w+):", "\n".join(texts), re.MULTILINE)


def check_resources(default: Iterable[str], of_rules: Mapping[str, Iterable[str]]) -> None:
    """What a Slurm profile says of jobs; Snakemake takes any word, and would submit without what it was to mean.

    Raises: BadInput for an unknown resource or rule.
    """
    for rule in of_rules:
        if rule not in rules():
            raise BadInput(f"profile: set-resources: there is no rule {rule!r}.{did_you_mean(rule, rules())}")
    blocks = {"default-resources": default, **{f"set-resources: {rule}": names for rule, names in of_rules.items()}}
    for where, names in blocks.items():
        for name in names:
            if name not in OF_SLURM and not name.startswith("_"):
                raise BadInput(f"profile: {where}: Slurm is not asked for {name!r}.{did_you_mean(name, OF_SLURM)}")
