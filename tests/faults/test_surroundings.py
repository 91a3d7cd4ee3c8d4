"""Little memory, a clock that is set back, a process that stands still, one of three that is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastat import ROOT
from fastat.config.grid import launcher, load_config, overlay
from fastat.config.recipe import resolve
from fastat.config.spec import RunSpec
from fastat.training import run as training
from tests.faults import harness
from tests.faults.harness import (
    EVENTS_OF,
    STAGES,
    TRIED,
    Process,
    before,
    clock_set_back,
    content,
    little_memory,
    run,
    signalled,
)  # fmt: skip


@pytest.mark.faults
@pytest.mark.parametrize("megabytes", (0, 4, 16))
@pytest.mark.parametrize("stage", STAGES)
def test_with_little_memory_a_stage_says_so_and_goes_on_with_more(stage, megabytes, whole, tmp_path):
    folder = before(stage, whole, tmp_path / "a")
    done = run(folder, STAGES[stage], little_memory, megabytes)
    TRIED["little memory", stage] += done.code != 0
    assert done.code != 1 and "Traceback" not in done.said, done.said
    assert done.code <= 0 or "out of memory" in done.said  # below 0: a library in C did not look, and crashed
    again = run(folder, STAGES[stage])
    assert again.code == 0, again.said
    assert content(folder) == content(whole)


@pytest.mark.faults
@pytest.mark.parametrize("stage", STAGES)
def test_a_clock_that_is_set_back_changes_nothing(stage, whole, tmp_path):
    """By a year, at one of the stage's file events."""
    at = random.Random(stage).randint(1, EVENTS_OF[stage])
    folder = before(stage, whole, tmp_path / "a")
    done = run(folder, STAGES[stage], clock_set_back, 365 * 86400, at)
    TRIED["clock set back", stage] += 1
    assert done.code == 0, done.said
    assert content(folder) == content(whole)
    about = json.loads((folder / harness.RUN / "run.json").read_text())
    assert about["train_seconds"] > 0


def stands_still(folder: Path, stage: str) -> Process:
    """Begin a stage that stops halfway as Ctrl-Z does; the process."""
    process = Process(folder, STAGES[stage], signalled, signal.SIGSTOP, EVENTS_OF[stage] // 2)
    until = time.monotonic() + 60
    while Path(f"/proc/{process.pid}/stat").read_text().split(")")[1].split()[0] != "T":
        assert time.monotonic() < until
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("stage", [pytest.param("train", marks=pytest.mark.faults), "autoattack"])
def test_a_process_that_stands_still_is_seen_at_work_and_is_not_begun_twice(stage, whole, tmp_path):
    folder = before(stage, whole, tmp_path / "a")
    process = stands_still(folder, stage)
    status = run(folder, ["status", "--configfile", "config.json"])
    second = run(folder, STAGES[stage])
    process.send(signal.SIGCONT)
    assert process.wait().code == 0
    TRIED["stands still", stage] += 1
    assert status.code == 0 and "1 running" in status.said and harness.NAME in status.said
    assert second.code == 2 and "another process is working on" in second.said
    assert content(folder) == content(whole)


# Three processes of one training

SHARED = "digits/preact_tiny/eps51/atas/paper/seed0"


def shared(folder: Path) -> subprocess.Popen:
    """Three processes of one training."""
    every = {"epochs": 8, "n_train": 210, "batch_size": 30, "monitor_images": 20, "shards": 3, "drop_last": True}
    config = overlay(load_config(), {"recipes": {"digits": {"every": {**every, "pad": 1, "numerics": "native"}}}})
    recipe = resolve(RunSpec.parse(SHARED), config).to_json()
    start = launcher("digits", {"processes": {"digits": 3}}).split()[1:]
    command = [sys.executable, *start, "train", "--run", SHARED, "--recipe", recipe, "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with open(folder / "said", "w") as said:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.faults
def test_of_three_processes_of_one_training_one_is_killed(whole, tmp_path):
    folders = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in folders:
        (folder / "results").mkdir(parents=True)
        (folder / "results/data").symlink_to(whole / "results/data")
    assert shared(folders[0]).wait(300) == 0, (folders[0] / "said").read_text()
    state = folders[1] / f"results/runs/{SHARED}/state/state.safetensors"
    for rank in range(3):
        process, stood = shared(folders[1]), state.stat().st_mtime_ns if state.exists() else 0
        until = time.monotonic() + 240
        while not state.exists() or state.stat().st_mtime_ns == stood:
            assert time.monotonic() < until and process.poll() is None, (folders[1] / "said").read_text()
            time.sleep(0.01)
        started = children(process.pid)
        assert len(started) == 3
        os.kill(started[rank], signal.SIGKILL)
        assert process.wait(120) != 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in started)
        TRIED["kill -9", "one of three processes"] += 1
    assert shared(folders[1]).wait(300) == 0, (folders[1] / "said").read_text()
    assert content(folders[1], "results/runs") == content(folders[0], "results/runs")


# The workflow

SNAKEMAKE = ["snakemake", "--cores", "1", "--configfile"]
PROFILE = ["--workflow-profile", str(ROOT / "profiles/default")]


def workflow(folder: Path, *more: str) -> subprocess.Popen:
    """The smoke workflow up to its evaluations, in a session of its own."""
    command = [*SNAKEMAKE, str(ROOT / "config/smoke.yaml"), *PROFILE, "--directory", str(folder), *more]
    with open(folder / "said", "a") as said:
        return subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said, start_new_session=True)


def ends(folder: Path, *more: str) -> tuple[int, str]:
    (folder / "said").write_text("")
    return workflow(folder, *more).wait(600), (folder / "said").read_text()


def training_of(group: int) -> int:
    """The process of a session that trains; it has begun to."""
    until = time.monotonic() + 240
    while time.monotonic() < until:
        for path in Path("/proc").glob("[0-9]*"):
            try:
                command, pid = (path / "cmdline").read_bytes(), int(path.name)
                if os.getsid(pid) == group and b"fastat\0train\0" in command and b"-c\0" not in command:
                    return pid
            except OSError:
                continue
        time.sleep(0.05)
    raise AssertionError("no training began")


def waits_for(pid: int) -> None:
    """Until a process that is not ours has ended."""
    until = time.monotonic() + 240
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.1)


RUNS = [
    f"results/runs/digits/preact_tiny/eps102/{name}/paper/seed0/weights.safetensors" for name in ("atas", "fgsm_rs")
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Where the two trainings were made undisturbed."""
    folder = tmp_path_factory.mktemp("finished")
    code, said = ends(folder, *RUNS)
    assert code == 0, said
    return folder


@pytest.mark.faults
@pytest.mark.parametrize("sign", (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
@pytest.mark.parametrize("whom", ("all", "snakemake"))
def test_a_workflow_that_is_ended_goes_on_to_the_same_weights(whom, sign, finished, tmp_path):
    """All of it, as a terminal that is closed, or Snakemake alone, whose training goes on."""
    process = workflow(tmp_path, *RUNS)
    training = training_of(process.pid)
    time.sleep(random.Random(int(sign)).uniform(1, 4))
    os.killpg(process.pid, sign) if whom == "all" else process.send_signal(sign)
    process.wait(300)
    TRIED[signal.Signals(sign).name, f"workflow: {whom}"] += 1
    waits_for(training)
    code, said = ends(tmp_path, *RUNS)
    if code:
        assert "--unlock" in said, said
        assert ends(tmp_path, "--unlock")[0] == 0
        code, said = ends(tmp_path, *RUNS)
    assert code == 0, said
    for name in RUNS:
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.faults
def test_an_input_from_the_future_is_said_to_be_one(finished, tmp_path):
    """A clock that was set back between data and training: Snakemake goes by the times of files."""
    data = tmp_path / "results/data/digits.safetensors"
    assert ends(tmp_path, "results/data/digits.safetensors")[0] == 0
    ahead = time.time() + 7200
    os.utime(data, (ahead, ahead))
    TRIED["input of the future", "workflow"] += 1
    code, said = ends(tmp_path, *RUNS)
    assert code == 1 and "clock skew" in said
    os.utime(data)
    assert ends(tmp_path, *RUNS)[0] == 0
    for name in RUNS:
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


def test_the_commit_is_told_and_the_clone_is_not_written(tmp_path, monkeypatch):
    """A process that is killed while git writes its index leaves index.lock: no commit was possible then."""

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@a"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    monkeypatch.setattr(training, "ROOT", tmp_path)
    monkeypatch.setattr(training, "IN_CLONE", True)
    code = tmp_path / "code"
    code.write_text("1")
    git("init")
    git("add", "code")
    git("commit", "-m", "code")
    os.utime(code, (0, 0))  # the index is stale: git would write what it sees
    (tmp_path / "results").touch()
    index = (tmp_path / ".git/index").read_bytes()
    commit = git("rev-parse", "HEAD").strip()
    assert len(commit) == 40 and training.git_commit() == commit
    assert (tmp_path / ".git/index").read_bytes() == index
    code.write_text("2")
    assert training.git_commit() == f"{commit}-dirty"
