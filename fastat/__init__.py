"""fastat: the reproducibility suite for fast adversarial training."""

from pathlib import Path

__version__ = "0.1.0"
CODE = Path(__file__).resolve().parent.parent  # the folder with the packages fastat and methods
IN_CLONE = (CODE / "Snakefile").is_file()
ROOT = (
    CODE if IN_CLONE else CODE / "fastat/_suite"
)  # what lies beside the code in a clone: Snakefile, config/, workflow/
