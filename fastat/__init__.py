"""fastat: the reproducibility suite for fast adversarial training."""

from pathlib import Path

__version__ = "0.1.0"
ROOT = Path(__file__).resolve().parent.parent  # the checkout: config/, methods/, docs/
