"""What is asked of Slurm before the first job; what it answers is in tests/cluster."""

import math

import pytest

from fastat.config import slurm


@pytest.mark.parametrize("text,minutes", [
    ("30:00", 30), ("4:00:00", 240), ("1-12:00:00", 2160), ("0:30", 0.5), ("infinite", math.inf), ("n/a", math.inf),
])  # fmt: skip
def test_a_limit_as_sinfo_writes_it(text, minutes):
    assert slurm.minutes_of(text) == minutes


def test_gpus_are_asked_for_as_the_profile_says():
    assert slurm.gpus({"gpu": 2, "gpu_model": "a100"}) == ["--gpus=a100:2"]
    assert slurm.gpus({"gpu": 1, "gpu_model": None}) == ["--gpus=1"]
    assert slurm.gpus({"gpu": 0, "gpu_model": "a100"}) == slurm.gpus({}) == []
