"""A grid at a glance: counts, causes, what is left; and looking again until nothing runs."""

import json
import os
import time

import pytest
import yaml

from fastat.cli import main
from fastat.config.grid import load_config, result_files
from fastat.config.spec import RunSpec
from fastat.report import status
from fastat.report.progress import Progress
from fastat.training import checkpoint
from fastat.training.checkpoint import Standing

NAMES = [f"digits/preact_tiny/eps77/atas/paper/seed{seed}" for seed in range(4)]


@pytest.fixture
def config(tmp_path):
    """A config whose grid is NAMES."""
    path = tmp_path / "config.yaml"
    block = {"dataset": "digits", "model": "preact_tiny", "eps": "77/255", "method": "atas", "seed": [0, 1, 2, 3]}
    path.write_text(yaml.safe_dump({"grid": [block]}))
    return path


@pytest.fixture
def results(tmp_path, config):
    """The first run is done, the second at its 20th epoch of 30, the third failed, the fourth waits."""
    folder = tmp_path / "results"
    done, running = (folder / "runs" / name for name in NAMES[:2])
    (done / "eval").mkdir(parents=True)
    for name in result_files(RunSpec.parse(NAMES[0]), load_config([config])):
        (done / name).write_text("x")
    (done / "run.json").write_text(json.dumps({"run": NAMES[0], "status": "finished", "train_seconds": 40.0}))
    log = [{"epoch": k + 1, "seconds": 3.0} for k in range(20)]
    checkpoint.save(running / "state/state.safetensors", {}, Standing(21, log=log), "made from")
    failed = folder / f"logs/train/{NAMES[2]}.log"
    failed.parent.mkdir(parents=True)
    failed.write_text("fastat train: there is no GPU. Write `device: cpu`.\n")
    return folder


def test_the_verb_says_who_is_done_runs_failed_and_waits(results, config, capsys):
    assert main(["status", "--results", str(results), "--configfile", str(config)]) == 0
    said = capsys.readouterr().out
    assert "4 runs: 1 done, 1 running, 1 failed, 1 waiting. Trained: 1 of 4." in said
    assert f"{NAMES[1]}  20 of 30 epochs, > 30 s left, no lock seen here" in said
    assert f"{NAMES[2]}: there is no GPU. Write `device: cpu`.\n    see {results}/logs/train/{NAMES[2]}.log" in said
    assert "At least 70 s left with 1 at work, and 2 evaluations unlike any that is done." in said


def test_what_is_left_is_from_a_runs_own_epochs_or_from_those_that_are_done(results, config):
    runs = status.survey(load_config([config]), results).runs
    assert [run.left for run in runs] == pytest.approx([0.0, 30.0, 40.0, 40.0])
    runs[0].evaluated = 20.0
    for run in runs:
        run.left, run.unknown = 0.0, []
    status.estimate(runs, set(NAMES))
    assert [run.left for run in runs] == pytest.approx([0.0, 50.0, 60.0, 60.0]) and not any(run.unknown for run in runs)


def test_what_has_no_finished_neighbour_is_taken_from_the_plan(results, config, capsys):
    about = {"train_seconds": 900.0, "evaluate_seconds": 100.0, "gpu_bytes": 1, "host_bytes": 1}
    (results / "plan.json").write_text(
        json.dumps({"device": "a V100", "cells": {NAMES[0].removesuffix("/seed0"): about}})
    )
    found = status.survey(load_config([config]), results)
    assert [run.left for run in found.runs] == pytest.approx([0.0, 30.0 + 100, 40.0 + 100, 40.0 + 100])
    assert not any(run.unknown for run in found.runs) and not found.notes
    said = json.loads((results / "runs" / NAMES[0] / "run.json").read_text())
    (results / "runs" / NAMES[0] / "run.json").write_text(json.dumps({**said, "device": "an H100"}))
    assert status.survey(load_config([config]), results).notes == [
        "plan.json is of a V100, the finished runs of an H100."
    ]
    (results / "plan.json").write_text("{}")
    main(["status", "--results", str(results), "--configfile", str(config)])
    assert "plan.json is not what `python -m fastat plan --out" in capsys.readouterr().out


def test_two_at_work_halve_what_is_left_but_the_longest_takes_its_time():
    def left(*seconds):
        runs = [Progress(NAMES[0], "running", left=each) for each in seconds[:2]]
        runs += [Progress(NAMES[0], "waiting", left=each) for each in seconds[2:]]
        return status.shared(runs)

    assert left(10.0, 20.0, 70.0) == 50.0
    assert left(10.0, 90.0) == 90.0


def test_json_has_every_run(results, config, capsys):
    assert main(["status", "--results", str(results), "--configfile", str(config), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [run["status"] for run in said["progress"]] == ["done", "running", "failed", "waiting"]
    assert (said["grid"]["running"], said["grid"]["left"]) == (1, pytest.approx(70.0))


def test_data_that_could_not_be_prepared_are_a_failure(results, config, capsys):
    (results / "logs/data").mkdir()
    (results / "logs/data/digits.log").write_text("fastat data: no archive. Download it.\n")
    main(["status", "--results", str(results), "--configfile", str(config)])
    assert "data digits: no archive. Download it." in capsys.readouterr().out
    (results / "data").mkdir()
    (results / "data/digits.safetensors").touch()
    main(["status", "--results", str(results), "--configfile", str(config)])
    assert "no archive" not in capsys.readouterr().out


def test_a_thousand_failures_of_one_cause_are_two_lines_and_a_thousand_running_are_twenty():
    names = [NAMES[0].replace("seed0", f"seed{k}") for k in range(2000)]
    runs = [Progress(name, "failed", "training", cause=f"{name} has no data", log="a.log") for name in names[:1000]]
    runs += [Progress(name, "running", "training") for name in names[1000:]]
    said = status.describe(status.Status(None, runs, [], [], [], 0.0))
    assert len(said.splitlines()) < 40
    assert f"{names[0]} and 999 more: {names[0]} has no data\n    see a.log" in said and "... and 980 more" in said


def test_nothing_there_is_said_and_is_no_error(tmp_path, config, capsys):
    assert main(["status", "--results", str(tmp_path / "none"), "--configfile", str(config)]) == 0
    said = capsys.readouterr().out
    assert "4 runs: 4 waiting" in said and "There is no folder" in said and "How long still is unknown" in said


def test_a_folder_whose_name_is_no_text_is_said_all_the_same(results, config, capsys):
    os.mkdir(os.fsencode(results / "runs") + b"/digits/preact_tiny/eps77/atas/paper/\xff")
    for verb in ("status", "clean"):
        assert main([verb, "--results", str(results), "--configfile", str(config)]) == 0
    assert "paper/? is no run's folder" in capsys.readouterr().out


def test_watching_ends_when_all_is_done_or_nothing_ran_in_three_looks(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)

    def looks(*statuses):
        seen, left = [], list(statuses)
        status.watch(lambda: status.Status(None, [Progress(NAMES[0], left.pop(0))], [], [], [], 0.0), seen.append, 1)
        return len(seen)

    assert looks("running", "waiting", "running", "done", "done") == 4
    assert looks("waiting", "waiting", "running", "waiting", "waiting", "waiting", "running") == 6


def test_ctrl_c_ends_watching_in_one_line(results, config, capsys, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["status", "--results", str(results), "--configfile", str(config), "--watch", "5"]) == 0
    assert capsys.readouterr().out.endswith("\n\nLooked at no longer; what runs goes on.\n")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_seconds_that_are_none_are_refused(seconds, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["status", "--watch", seconds])
    assert "--watch" in capsys.readouterr().err


@pytest.mark.parametrize("seconds,text", [(44.6, "45 s"), (300, "5 min"), (9000, "2.5 h"), (4 * 86400, "4.0 days")])
def test_durations_are_rounded_for_people(seconds, text):
    assert status.duration(seconds) == text
