"""fastat: the reproducibility suite for fast adversarial training."""

__version__ = "0.1.0"
