"""What `plan --out` reckoned: seconds and bytes of every cell, which is a run's name without its seed."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastat.errors import BadInput

PLAN = "plan.json"  # in results
NUMBERS = ("train_seconds", "evaluate_seconds", "host_bytes")


@dataclass(frozen=True)
class Estimates:
    """Of a device; of a cell those numbers that are known."""

    device: str = ""
    cells: dict[str, dict[str, float]] = field(default_factory=dict)

    def of(self, run: str, number: str) -> float | None:
        """A number of a run of this name, if it is known."""
        return self.cells.get(cell_of(run), {}).get(number)


def cell_of(run: str) -> str:
    """`digits/preact_tiny/eps77/atas/paper/seed0` -> `digits/preact_tiny/eps77/atas/paper`."""
    return run.rpartition("/")[0]


def read(results: Path) -> Estimates:
    """Those of a results folder; none where no plan was written.

    Raises: BadInput for a file that is no plan's.
    """
    path = results / PLAN
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return Estimates(str(said["device"]), {name: known(cell) for name, cell in said["cells"].items()})
    except FileNotFoundError:
        return Estimates()
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path} is not what `python -m fastat plan --out {path}` writes ({type(error).__name__}: {error}). "
            "Write it again, or remove it: nothing is then known beforehand of what a run takes"
        ) from error


def known(cell: dict[str, Any]) -> dict[str, float]:
    """The numbers of a cell.

    Raises: ValueError for one that is no finite number of at least 0; TypeError, AttributeError.
    """
    numbers = {name: float(cell[name]) for name in NUMBERS if cell.get(name) is not None}
    if wrong := [name for name, number in numbers.items() if not 0 <= number < math.inf]:
        raise ValueError(f"{wrong[0]} is {numbers[wrong[0]]}")
    return numbers
