"""Whether Slurm would take a grid's jobs, asked before the first of them is submitted."""

import math
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from fastat.errors import BadInput

OPTIONS = {
    "slurm_partition": "--partition", "slurm_account": "--account", "qos": "--qos", "constraint": "--constraint",
    "gres": "--gres", "clusters": "--clusters",
}  # fmt: skip
NO_NODE = "Requested node configuration is not available"


def check_jobs(jobs: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Ask Slurm whether it would take jobs such as these, of each kind the largest: (rule, resources).

    Returns: warnings, of what it takes and never starts.
    Raises: BadInput with its own sentence, if it refuses one.
    """
    kinds: dict[tuple[str, ...], list[tuple[str, Mapping[str, Any]]]] = {}
    for rule, asked in jobs:
        named = [f"{option}={asked[name]}" for name, option in OPTIONS.items() if asked.get(name)]
        more = shlex.split(asked.get("slurm_extra") or "")
        kinds.setdefault((*named, *gpus(asked), *more), []).append((rule, asked))
    warned = []
    for kind, alike in kinds.items():
        rules = ", ".join(sorted({rule for rule, _ in alike}))
        memory, minutes = (max(asked.get(name) or 0 for _, asked in alike) for name in ("mem_mb", "runtime"))
        options = [*kind, *[f"--mem={memory}"] * bool(memory), *[f"--time={minutes}"] * bool(minutes)]
        if why := refusal(options):
            raise BadInput(
                f"Slurm takes no job such as those of {rules}: {why}. It was asked for {shlex.join(options)}. "
                "Mend the head of profiles/slurm/config.yaml (docs/cluster.md)"
            )
        if minutes > (limit := longest_minutes(kind)):
            long = sorted({rule for rule, asked in alike if (asked.get("runtime") or 0) > limit})
            way_out = ", ".join(f"`{rule}: {{runtime: {limit:.0f}}}`" for rule in long)
            warned.append(
                f"jobs of {', '.join(long)} ask for {minutes} minutes, and their partition gives {limit:.0f} at "
                f"most: they would wait for ever (PartitionTimeLimit). Below set-resources of "
                f"profiles/slurm/config.yaml say {way_out}; a training that is cut off goes on at the next start"
            )
    return warned


def gpus(asked: Mapping[str, Any]) -> list[str]:
    """As snakemake-executor-plugin-slurm asks for them."""
    model = asked.get("gpu_model")
    return [f"--gpus={f'{model}:' if model else ''}{asked['gpu']}"] if asked.get("gpu") else []


def refusal(options: Iterable[str]) -> str:
    """What sbatch says against a job; nothing if it takes it, or a node is away that might.

    `--test-only` submits nothing. It knows no node that is down or drained; a job would wait for that.
    """
    tested = say(["sbatch", "--test-only", "--output=/dev/null", "--wrap=true", *options])
    if not tested.returncode:
        return ""
    away = say(["sinfo", "--noheader", "--format=%n", "--states=down,drain,fail,maint", *partition(options)]).stdout
    if NO_NODE in tested.stderr and away.strip():
        return ""
    return " ".join(re.sub(r"sbatch: error:|allocation failure:", "", tested.stderr).split())


def longest_minutes(options: Iterable[str]) -> float:
    """The longest limit of the partition that they name; infinite if they name none."""
    named = partition(options)
    limits = say(["sinfo", "--noheader", "--format=%l", *named]).stdout.split() if named else []
    return max(map(minutes_of, limits), default=math.inf)


def partition(options: Iterable[str]) -> list[str]:
    """Of sbatch's options the one that sinfo takes, too."""
    return [option for option in options if option.startswith("--partition=")]


def minutes_of(text: str) -> float:
    """sinfo's `1-12:00:00`, `4:00:00`, `30:00`, `infinite`."""
    days, _, clock = text.rpartition("-")
    try:
        *hours, minutes, seconds = map(int, clock.split(":"))
        return int(days or 0) * 24 * 60 + sum(hours) * 60 + minutes + seconds / 60
    except ValueError:
        return math.inf


def say(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run it."""
    return subprocess.run(command, capture_output=True, text=True)
