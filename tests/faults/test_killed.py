"""Killed at any moment by any signal, a stage that is begun again leaves the bytes of an undisturbed one."""

import random
import signal
import time
from pathlib import Path

import pytest

from fastat.config.recipe import method_names
from tests.faults import harness
from tests.faults.harness import EVENTS_OF, STAGES, TRIED, Process, before, content, ignored, leftovers, run, signalled

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
EVENTS = 6  # at which a stage is killed, one after the other, of all that it has
TIMES = 3  # after which a training is killed, whatever it does
NAMED = [name for name in method_names() if name not in ("atas", "fgsm_rs")]


def killed_at_events(folder: Path, argv: list[str], events: int, n: int, draw: random.Random) -> int:
    """Begin a stage n times, and kill it at one of its file events; how often it was killed."""
    moments = sorted(draw.sample(range(1, events + 1), min(n, events)), reverse=True)
    return sum(run(folder, argv, signalled, signal.SIGKILL, at).code == -signal.SIGKILL for at in moments)


def killed_in_time(folder: Path, argv: list[str], seconds: float, n: int, draw: random.Random) -> int:
    """Likewise, after a time."""
    killed = 0
    for _ in range(n):
        process = Process(folder, argv)
        time.sleep(draw.uniform(0, seconds))
        process.send(signal.SIGKILL)
        killed += process.wait().code == -signal.SIGKILL
    return killed


def same_after(folder: Path, argv: list[str], wanted: dict[str, bytes], below: str = "") -> None:
    """The stage, begun again, ends well, and what it leaves is as it was undisturbed."""
    done = run(folder, argv)
    assert done.code == 0, done.said
    found = content(folder, below)
    assert found.keys() == wanted.keys()
    assert [path for path in wanted if found[path] != wanted[path]] == []
    assert leftovers(folder) == []


def killed_and_begun_again(stage: str, whole: Path, folder: Path, seed: int, n: int) -> None:
    argv = STAGES[stage]
    before(stage, whole, folder)
    TRIED["kill -9", stage] += killed_at_events(folder, argv, EVENTS_OF[stage], n, random.Random(seed))
    same_after(folder, argv, content(whole))


QUICK = ("autoattack", "tidy", "judge")
LATEST = {"data": 0.6, "train": 0.15}  # the share of its file events after which nothing is left but to write results


@pytest.mark.parametrize("stage", QUICK)
def test_a_stage_that_is_killed_and_begun_again_leaves_the_same_bytes(stage, whole, tmp_path):
    killed_and_begun_again(stage, whole, tmp_path / "a", seed=0, n=3)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_killed_again_and_again(stage, seed, whole, tmp_path):
    killed_and_begun_again(stage, whole, tmp_path / "a", seed=1 + seed, n=EVENTS)


@pytest.mark.faults
@pytest.mark.parametrize("name", NAMED)
def test_every_method_killed_in_training_and_evaluation_ends_with_the_same_bytes(name, whole, tmp_path):
    run_name = harness.NAME.replace("atas", name)
    stages = {"train": harness.train(run_name)}
    stages |= {suite: harness.evaluate(suite, run_name) for suite in ("whitebox", "autoattack")}
    folders = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in folders:
        (folder / "results").mkdir(parents=True)
        (folder / "results/data").symlink_to(whole / "results/data")
    draw = random.Random(name)
    for stage, argv in stages.items():
        began = time.monotonic()
        done = run(folders[0], argv)
        took = time.monotonic() - began
        assert done.code == 0, done.said
        killed = killed_at_events(folders[1], argv, done.events, EVENTS // 2, draw)
        killed += killed_in_time(folders[1], argv, took, TIMES, draw)
        TRIED["kill -9", f"{stage}, every method"] += killed
        same_after(folders[1], argv, content(folders[0], "results/runs"), "results/runs")


def interrupted(stage: str, sign: int, at: float, whole: Path, folder: Path) -> str:
    """A stage is sent a signal at a share of its file events: no traceback, and it goes on to the same bytes."""
    argv, name = STAGES[stage], signal.Signals(sign).name
    done = run(before(stage, whole, folder), argv, signalled, sign, max(1, round(at * EVENTS_OF[stage])))
    assert "Traceback" not in done.said
    too_late = stage == "train" and done.code == 0  # it writes its results already
    assert done.code in (-sign, 128 + sign) or too_late, done.said
    TRIED[name, stage] += not too_late
    same_after(folder, argv, content(whole))
    return done.said


@pytest.mark.parametrize("sign", SIGNALS[1:])
def test_a_training_that_is_asked_to_stop_saves_its_state_and_goes_on(sign, whole, tmp_path):
    assert "stopped; saved at epoch" in interrupted("train", sign, LATEST["train"], whole, tmp_path / "a")


@pytest.mark.faults
@pytest.mark.parametrize("sign", SIGNALS[1:])
@pytest.mark.parametrize("stage", STAGES)
def test_every_signal_at_every_stage(stage, sign, whole, tmp_path):
    share = random.Random(f"{stage} {sign}").uniform(0.1, LATEST.get(stage, 0.95))
    interrupted(stage, sign, share, whole, tmp_path / "a")


def test_a_training_under_nohup_goes_on(whole, tmp_path):
    folder = before("train", whole, tmp_path / "a")
    assert run(folder, STAGES["train"], ignored, signal.SIGHUP, EVENTS_OF["train"] // 2).code == 0
    assert content(folder) == content(whole)
