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


def test_the_jobs_that_exceed_a_limit_are_named_and_not_others_of_their_kind(monkeypatch):
    monkeypatch.setattr(slurm, "refusal", lambda options: "")
    monkeypatch.setattr(slurm, "longest_minutes", lambda options: 240)
    jobs = [(rule, {"slurm_partition": "gpu", "runtime": n}) for rule, n in (("evaluate", 60), ("train", 300))]
    (said,) = slurm.check_jobs(jobs)
    assert said.startswith("jobs of train ask for 300 minutes, and their partition gives 240 at most")
    assert "say `train: {runtime: 240}`;" in said and "evaluate" not in said
