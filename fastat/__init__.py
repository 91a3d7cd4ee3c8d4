"""fastat: the reproducibility suite for fast adversarial training.

`fastat.train`, `fastat.evaluate` and `fastat.attacks` are for use in one's own Python (docs/library.md). Nothing loads
torch before they are asked for: reports and the workflow do without.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastat import attacks
    from fastat.errors import BadInput
    from fastat.evaluator import evaluate
    from fastat.library import Diverged, train

__all__ = ["BadInput", "Diverged", "attacks", "evaluate", "train"]
__version__ = "0.1.0"
CODE = Path(__file__).resolve().parent.parent  # the folder with the packages fastat and methods
IN_CLONE = (CODE / "Snakefile").is_file()
ROOT = CODE if IN_CLONE else CODE / "fastat/_suite"  # has Snakefile, config/, workflow/, docs/
PLACES = {  # name -> its module
    "BadInput": "fastat.errors",
    "Diverged": "fastat.library",
    "evaluate": "fastat.evaluator",
    "train": "fastat.library",
}


def __getattr__(name: str) -> Any:
    """What __all__ names, imported when it is asked for."""
    if name == "attacks":
        return importlib.import_module("fastat.attacks")
    if name in PLACES:
        return getattr(importlib.import_module(PLACES[name]), name)
    raise AttributeError(f"module 'fastat' has no attribute {name!r}")


def __dir__() -> list[str]:
    """For completion in an editor or shell."""
    return sorted({*globals(), *__all__})
