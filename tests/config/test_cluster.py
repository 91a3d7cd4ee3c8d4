"""What jobs ask of a cluster."""

import json
import re

import pytest
import yaml

from fastat import ROOT
from fastat.config import cluster, estimates
from fastat.config.spec import RunSpec
from fastat.errors import BadInput

SPEC = RunSpec.parse("cifar10/resnet18/eps8/atas/paper/seed3")
CELL = {"train_seconds": 3600, "evaluate_seconds": None, "gpu_bytes": 4_000_000_000, "host_bytes": 500_000_000}


def plan_of(folder, cell):
    (folder / "plan.json").write_text(
        json.dumps({"device": "one", "cells": {"cifar10/resnet18/eps8/atas/paper": cell}})
    )
    return estimates.read(folder)


def test_a_job_asks_for_the_plan_s_estimate_twice_and_what_every_job_needs(tmp_path):
    plan = plan_of(tmp_path, CELL)
    assert cluster.memory_mb(plan, SPEC, 1) == 2000 + 1000
    assert cluster.memory_mb(plan, SPEC, 2, processes=4) == 2 * 4 * (2000 + 1000)  # the estimate is of one
    assert cluster.minutes(plan, SPEC, "train", 1) == 15 + 120
    assert cluster.minutes(plan, SPEC, "attacks", 1) == 24 * 60  # by name


def test_a_shard_asks_for_its_share_and_a_further_attempt_for_more(tmp_path):
    plan = plan_of(tmp_path, CELL | {"evaluate_seconds": 7200})
    assert cluster.minutes(plan, SPEC, "evaluate", 1, shares=4) == 15 + 60
    assert cluster.minutes(plan, SPEC, "evaluate", 2) == 2 * (15 + 240)
    assert cluster.memory_mb(plan, SPEC, 3) == 3 * 3000


def test_what_no_plan_says_is_asked_for_as_unknown(tmp_path):
    for plan in (estimates.read(tmp_path), plan_of(tmp_path, {"train_seconds": None})):
        assert cluster.memory_mb(plan, SPEC, 1) == 4000
        assert cluster.minutes(plan, SPEC, "train", 1) == cluster.minutes(plan, SPEC, "evaluate", 1) == 24 * 60


def test_a_word_or_a_rule_that_nobody_knows_is_refused():
    cluster.check_resources(["slurm_account", "qos", "mem_mb", "_cores"], {"train": ["gpu_model"]})
    with pytest.raises(BadInput, match="default-resources: Slurm is not asked for 'acount'"):
        cluster.check_resources(["acount"], {})
    with pytest.raises(BadInput, match="set-resources: train: .* 'gpu_modell'. Did you mean 'gpu_model'"):
        cluster.check_resources([], {"train": ["gpu_modell"]})
    with pytest.raises(BadInput, match="there is no rule 'trian'. Did you mean 'train'"):
        cluster.check_resources([], {"trian": ["runtime"]})


def test_the_slurm_profile_sends_every_job_without_a_gpu_elsewhere_or_runs_it_at_home():
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    texts = [path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk")]
    with_gpu = {
        name
        for text in texts
        for name, body in re.findall(r"rule (\w+):(.*?)(?=\n *rule |\Z)", text, re.DOTALL)
        if "gpu=" in body
    }
    local = set(
        re.findall(r"\w+", re.findall(r"^localrules:\n((?:    \w+,\n)+)", (ROOT / "Snakefile").read_text(), re.M)[0])
    )
    elsewhere = {rule for rule, said in profile["set-resources"].items() if said.get("slurm_partition") == "cpu"}
    assert {*cluster.rules()} - with_gpu - local == elsewhere == {"data", "cost"}
    assert all(profile["set-resources"][rule]["gpu_model"] is None for rule in elsewhere)
