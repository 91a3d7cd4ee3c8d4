"""The real DAG on a corner of digits: end to end, a second call, and what one lost file costs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fastat import ROOT
from fastat.cli import main
from fastat.config.grid import load_config
from fastat.report.contents import FIGURES, TABLES, drawn


def snakemake(folder: Path, *more: str, code: int = 0) -> str:
    command = ["snakemake", "--cores", "2", "--directory", str(folder)]
    command += ["--workflow-profile", str(ROOT / "profiles/default"), "--configfile", str(ROOT / "config/smoke.yaml")]
    done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder in which the smoke workflow has run; its plan asks for more memory than any machine has."""
    folder = tmp_path_factory.mktemp("smoke")
    planned(folder, 10**18)
    (folder / "said.txt").write_text(snakemake(folder))
    return folder


def planned(folder: Path, host_bytes: int) -> None:
    """A plan that knows ATAS's run of the smoke grid alone."""
    cell = {"train_seconds": 3600, "evaluate_seconds": 60, "gpu_bytes": 0, "host_bytes": host_bytes}
    plan = {"device": "made up", "cells": {"digits/preact_tiny/eps102/atas/paper": cell}}
    (folder / "results").mkdir()
    (folder / "results/plan.json").write_text(json.dumps(plan))


def test_a_scheduler_is_asked_for_what_the_plan_reckons(tmp_path):
    planned(tmp_path, 500_000_000)
    output = snakemake(tmp_path, "--dry-run")
    pattern = r"^rule (train|evaluate):\n(?:    .+\n)*?.+method=(\w+),.+\n    resources: .*runtime=(\d+), mem_mb=(\d+),"
    assert sorted(re.findall(pattern, output, re.MULTILINE)) == [
        ("evaluate", "atas", "17", "3000"), ("evaluate", "fgsm_rs", "1440", "4000"),
        ("train", "atas", "135", "3000"), ("train", "fgsm_rs", "1440", "4000"),
    ]  # fmt: skip


def test_no_gpu_is_asked_for_where_the_config_says_cpu(tmp_path):
    output = snakemake(tmp_path, "--dry-run", "--config", "device=cpu")
    assert "gpu=0" in output and "gpu=1" not in output


def test_a_plan_that_is_none_stops_the_workflow_with_the_way_out(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/plan.json").write_text("[]")
    assert "Write it again, or remove it" in snakemake(tmp_path, "--dry-run", code=1)


def test_absent_own_data_stop_the_workflow_before_its_first_job_if_a_job_needs_them(tmp_path):
    block = {"model": "preact_tiny", "eps": "8/255", "method": "clean", "seed": 0}
    grid = [{"dataset": dataset, **block} for dataset in ("digits", "mine")]
    own = tmp_path / "own.yaml"
    own.write_text(json.dumps({"datasets": {"mine": {"folder": str(tmp_path / "mine")}}, "grid": grid}))
    prepared = tmp_path / "results/data/digits.safetensors"
    assert f"mine: there is no {tmp_path / 'mine'}" in snakemake(tmp_path, "--configfile", str(own), code=1)
    assert not prepared.exists()
    snakemake(tmp_path, "--configfile", str(own), "--", "results/data/digits.safetensors")
    assert prepared.exists()


def test_where_the_page_is_is_said_where_there_is_one(finished, tmp_path):
    assert "All results: results/report/index.html" not in snakemake(tmp_path, "--until", "data")
    assert "All results: results/report/index.html" in (finished / "said.txt").read_text()


def test_tables_figures_and_page_are_made(finished):
    for name in (*TABLES, "cost"):
        for ending in ("csv", "md", "tex")[: 2 if name == "cost" else 3]:
            assert (finished / f"results/tables/{name}.{ending}").stat().st_size > 0
    assert "atas" in (finished / "results/tables/table1.md").read_text()
    names = drawn(load_config([ROOT / "config/smoke.yaml"]))
    assert {*FIGURES} - {*names} == {"sweeps"} and not (finished / "figures/sweeps.svg").exists()
    for name in names:
        assert (finished / f"figures/{name}.svg").stat().st_size > 1000
        assert (finished / f"figures/{name}.png").stat().st_size > 1000
        assert (finished / f"figures/{name}.txt").read_text().strip()
    for name in ("verdicts", "claims", "pairs", "sanity", "figures/theory"):
        assert len((finished / f"results/{name}.csv").read_text().splitlines()) > 1
    assert "<!doctype html>" in (finished / "results/report/index.html").read_text()[:100].lower()


def test_tables_figures_and_page_are_made_again_without_torch(finished, tmp_path):
    (tmp_path / "results").mkdir()
    for name in ("measured.csv", "correct.csv", "evidence.jsonl", "figures"):
        (tmp_path / "results" / name).symlink_to(finished / "results" / name)
    (tmp_path / "torch.py").write_text("raise ImportError('torch is not needed here')")
    for verb in (["judge", "--configfile", str(ROOT / "config/smoke.yaml")], ["draw"], ["page"]):
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        command = [sys.executable, "-m", "fastat", *verb]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    for name in ("results/claims.csv", "results/tables/table1.md", "figures/fig01.svg"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


def test_the_report_has_every_table_and_figure(finished):
    snakemake(finished, "--report", "report.zip")
    import zipfile

    with zipfile.ZipFile(finished / "report.zip") as archive:
        names = [Path(name).name for name in archive.namelist()]
    pictures = drawn(load_config([ROOT / "config/smoke.yaml"]))
    for name in (*(f"{table}.csv" for table in TABLES), *(f"{figure}.svg" for figure in pictures), "index.html"):
        assert name in names


def test_a_second_call_does_nothing(finished):
    assert "Nothing to be done" in snakemake(finished)


def test_a_lost_evaluation_is_redone_with_its_tables_and_figures_alone(finished):
    run = finished / "results/runs/digits/preact_tiny/eps102/atas/paper/seed0"
    weights = (run / "weights.safetensors").stat().st_mtime_ns
    (run / "eval/whitebox.csv").unlink()
    output = snakemake(finished)
    assert (run / "weights.safetensors").stat().st_mtime_ns == weights
    done = re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", output)
    assert sorted(done) == ["all", "draw", "evaluate", "figure_data", "judge", "page", "tidy"]


def jobs(output: str) -> dict[str, int]:
    """Rule -> how many jobs, of a dry run."""
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}


ATTACKS = r"^(data|train|evaluate\w*|probe) +[0-9]"


def test_what_changes_no_result_neither_trains_nor_attacks_again(finished):
    again = snakemake(finished, "--dry-run", "--config", "runs_per_gpu=3", "data_dir=elsewhere", "cuda_graphs=never")
    assert not re.search(ATTACKS, again, re.MULTILINE) and "grid" in jobs(again)
    cell = "dataset: digits, model: preact_tiny, eps: 102/255, method: [fgsm_rs, atas], seed: 0"
    again = snakemake(finished, "--dry-run", "--config", f"grid=[{{{cell}, autoattack: false}}]")
    assert not re.search(ATTACKS, again, re.MULTILINE) and "grid" in jobs(again)
    assert "evaluate" in jobs(snakemake(finished, "--dry-run", "--config", "evaluation={pgd_step: 0.3 eps}"))


def test_own_data_are_prepared_again_if_they_are_others_and_not_for_the_words_where_they_are_absent(tmp_path):
    for k in range(8):
        path = tmp_path / f"own/{'ab'[k % 2]}/{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), k).save(path)
    prepared = "results/data/mine.safetensors"

    def prepares(*more: str, **options: object) -> bool:
        own = {"folder": str(tmp_path / "own"), "test": 0.5, **options}
        return "data" in jobs(snakemake(tmp_path, "--config", f"datasets={json.dumps({'mine': own})}", *more, prepared))

    assert prepares("--")
    assert not prepares("--dry-run", "--", absent="Ask Ann")
    assert prepares("--dry-run", "--", seed=1)


def test_a_sweep_is_as_many_more_trainings_and_evaluations(tmp_path):
    swept = "sweep={fgsm_rs: [{alpha: [0.5 eps, 1 eps]}, {average: [0, 0.9]}], atas: {reset_every: [1]}}"
    output = snakemake(tmp_path, "--dry-run", "-p", "--config", swept)
    once = dict.fromkeys(("all", "cost", "data", "draw", "figure_data", "grid", "judge", "page", "theory", "tidy"), 1)
    assert jobs(output) == {**once, "train": 2 + 4 + 1, "evaluate": 2 + 4 + 1, "total": 24}
    ran = set(re.findall(r"train --run (\S+) ", output))
    names = ("fgsm_rs/paper", "fgsm_rs/alpha_0p5eps", "fgsm_rs/alpha_1eps", "fgsm_rs/average_0", "fgsm_rs/average_0p9")
    assert ran == {f"digits/preact_tiny/eps102/{name}/seed0" for name in (*names, "atas/paper", "atas/reset_every_1")}


def test_runs_whose_block_says_so_are_not_attacked_by_autoattack(tmp_path):
    runs = "dataset: digits, model: preact_tiny, eps: 102/255, method: [fgsm_rs/step100, atas], seed: 0"
    held = "recipes={digits: {fgsm_rs/step100: {hold_out: 0.1}}}"
    added = f"extra_grid=[{{{runs}, autoattack: false}}]"
    output = snakemake(tmp_path, "--dry-run", "-p", "--config", added, held)
    found = {"train": 3, "evaluate": 2, "evaluate_whitebox": 1, "evaluate_best_whitebox": 1}
    assert found.items() <= jobs(output).items() and "evaluate_best" not in jobs(output)
    suites = dict(re.findall(r"evaluate --run (\S+) --protocol .+? --suite (whitebox) --epoch last", output))
    assert suites == {"digits/preact_tiny/eps102/fgsm_rs/step100/seed0": "whitebox"}


def test_a_variant_that_the_config_makes_is_trained_and_one_recipe_for_two_is_said(tmp_path):
    cell = "{dataset: digits, model: preact_tiny, eps: 102/255, method: [fgsm_rs/mine, fgsm_rs/step100], seed: 0}"
    recipes = "recipes={digits: {fgsm_rs: {params: {alpha: 1.1 eps}}, fgsm_rs/mine: {params: {alpha: 1.1 eps}}}}"
    output = snakemake(tmp_path, "--dry-run", "-p", "--config", f"extra_grid=[{cell}]", recipes)
    assert jobs(output)["train"] == 4
    (mine,) = re.findall(r"train --run digits/preact_tiny/eps102/fgsm_rs/mine/seed0 --recipe ('.+?') --device", output)
    assert '"params":{"alpha":"1.1 eps"' in mine
    said = "warning: config: recipes: digits: fgsm_rs gives fgsm_rs/paper and fgsm_rs/mine and fgsm_rs/step100 the same"
    assert said in output


def test_a_checkpoint_of_the_config_is_attacked_and_again_if_its_file_changes(finished, tmp_path):
    trained = finished / "results/runs/digits/preact_tiny/eps102/atas/paper/seed0/weights.safetensors"
    (tmp_path / "results/data").mkdir(parents=True)
    (tmp_path / "results/data/digits.safetensors").symlink_to(finished / "results/data/digits.safetensors")
    (tmp_path / "theirs.safetensors").write_bytes(trained.read_bytes())
    (tmp_path / "external.yaml").write_text(
        "grid: []\nexternal: [{weights: theirs.safetensors, model: preact_tiny, arch: shared, dataset: digits, "
        "eps: 102/255, images: 2}]\n"
    )
    configs = ["--configfile", str(ROOT / "config/smoke.yaml"), str(tmp_path / "external.yaml")]
    output = snakemake(tmp_path, "--until", "external_autoattack", *configs)
    assert {"external": 1, "external_autoattack": 1}.items() <= jobs(output).items()
    assert not {"train", "evaluate"} & jobs(output).keys()
    run = tmp_path / "results/runs/digits/preact_tiny/eps102/external/theirs/seed0"
    theirs, ours = ((folder / "eval/whitebox.csv").read_bytes() for folder in (run, trained.parent))
    assert theirs == ours
    another = finished / "results/runs/digits/preact_tiny/eps102/fgsm_rs/paper/seed0/weights.safetensors"
    (tmp_path / "theirs.safetensors").write_bytes(another.read_bytes())
    assert {"external": 1, "external_autoattack": 1}.items() <= jobs(snakemake(tmp_path, "-n", *configs)).items()


def test_after_a_merge_nothing_is_trained_or_attacked_again(finished, tmp_path):
    for k, method in enumerate(("atas", "fgsm_rs")):
        run = f"runs/digits/preact_tiny/eps102/{method}"
        shutil.copytree(finished / "results" / run, tmp_path / f"machine{k}" / run, copy_function=shutil.copy)
        shutil.copytree(finished / "results/data", tmp_path / f"machine{k}/data", copy_function=shutil.copy)
    folders = [str(tmp_path / f"machine{k}") for k in (0, 1)]
    assert main(["merge", *folders, "--out", str(tmp_path / "results")]) == 0
    said = snakemake(tmp_path, "--dry-run")
    assert re.search(r"^tidy +1$", said, re.MULTILINE)
    assert not re.search(ATTACKS, said, re.MULTILINE)
