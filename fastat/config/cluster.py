"""What a job asks of a cluster: memory and minutes, from what `plan --out` reckoned; and what a profile may say."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastat import ROOT
from fastat.config.spec import RunSpec
from fastat.errors import BadInput, did_you_mean

PLAN = "plan.json"  # in results
MARGIN = 2  # estimates are of the arithmetic alone, and of a card that does nothing else
START_MINUTES = 15  # loading, compiling, and a file system that many wait for
PROCESS_MB = 2000  # Python, torch, CUDA's context and the two Snakemakes that stand above them
UNKNOWN_MB, UNKNOWN_MINUTES = 4000, 1440  # of what no plan says
LONGEST_MINUTES = 365 * 24 * 60
NUMBERS = ("train_seconds", "evaluate_seconds", "host_bytes")
OF_SLURM = (
    "slurm_partition", "slurm_account", "qos", "gpu_model", "gpu", "gres", "constraint", "slurm_extra", "runtime",
    "mem_mb", "mem", "mem_mb_per_cpu", "disk_mb", "disk", "tmpdir", "nodes", "tasks", "tasks_per_gpu", "cpus_per_task",
    "cpus_per_gpu", "clusters", "cluster", "slurm_cluster",
)  # fmt: skip

Estimates = dict[str, dict[str, float]]


def read_plan(results: Path) -> Estimates:
    """Cell (a run without its seed) -> its numbers, those that are known; nothing where no plan was written.

    Raises: BadInput for a file that is no plan's.
    """
    path = results / PLAN
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return {name: known(cell) for name, cell in cells.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path} is not what `python -m fastat plan --out {path}` writes ({type(error).__name__}: {error}). "
            "Write it again, or remove it: every job then asks for as much as if nothing were known"
        ) from error


def known(cell: dict[str, Any]) -> dict[str, float]:
    """The numbers of a cell.

    Raises: ValueError for one that is no finite number of at least 0; TypeError, AttributeError.
    """
    numbers = {name: float(cell[name]) for name in NUMBERS if cell.get(name) is not None}
    if wrong := [name for name, number in numbers.items() if not 0 <= number < math.inf]:
        raise ValueError(f"{wrong[0]} is {numbers[wrong[0]]}")
    return numbers


def memory_mb(plan: Estimates, spec: RunSpec, attempt: int) -> int:
    """Host memory of a run's training or evaluation, as much again at each further attempt."""
    held = plan.get(cell_of(spec), {}).get("host_bytes")
    once = UNKNOWN_MB if held is None else PROCESS_MB + math.ceil(MARGIN * held / 1e6)
    return once * attempt


def minutes(plan: Estimates, spec: RunSpec, part: str, attempt: int, shares: int = 1) -> int:
    """Wall time of `train` or `evaluate`, or of one of the equal shares that it is done in."""
    seconds = plan.get(cell_of(spec), {}).get(f"{part}_seconds")
    once = UNKNOWN_MINUTES if seconds is None else START_MINUTES + math.ceil(MARGIN * seconds / shares / 60)
    return min(once * attempt, LONGEST_MINUTES)


def cell_of(spec: RunSpec) -> str:
    """`digits/preact_tiny/eps77/atas/paper`."""
    return spec.name.rpartition("/")[0]


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
