"""The workflow through a real one-node Slurm (tests/local-slurm.sh), and what happens to trainings there.

Each training is stopped in mid-epoch (SIGSTOP) before something is done to its job, so that it cannot end before.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fastat import ROOT
from tests import test_own_pages

SCRIPT = ROOT / "tests/local-slurm.sh"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
RUN = "digits/preact_tiny/eps102/{}/paper/seed0"
METHODS = ("fgsm_rs", "atas")
OVERLAY = "recipes: {digits: {every: {epochs: 12}}}\n"  # over config/smoke.yaml: time enough to be hit
QUICK = "--slurm-init-seconds-before-status-checks 1"  # where a cluster is asked every 40 s
PATIENCE = 300  # seconds

ENVIRONMENT = {**os.environ, "PATH": f"/usr/local/sbin:/usr/sbin:{os.environ['PATH']}"}


class Slurm:
    """The one of this module."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {**ENVIRONMENT, "LOCAL_SLURM_DIR": str(folder)}

    def script(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([SCRIPT, *words], env=self.environment, capture_output=True, text=True)

    def daemon(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[Slurm]:
    if missing := [name for name in PROGRAMS if not shutil.which(name, path=ENVIRONMENT["PATH"])]:
        pytest.skip(f"no {', '.join(missing)}: install Debian's munge, slurm-client, slurmctld and slurmd")
    if os.geteuid():
        pytest.skip("only root may start tests/local-slurm.sh: it makes device nodes")
    one = Slurm(tmp_path_factory.mktemp("slurm"))
    started = one.script("start")
    if started.returncode == 3:
        pytest.skip(started.stderr)
    assert started.returncode == 0, started.stderr
    yield one
    one.script("stop", "--purge")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    """Method -> weights, of a bare local run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = snakemake(folder, "--workflow-profile", str(ROOT / "profiles/default"), "--cores", "2", "--until", "train")
    assert done.wait() == 0, said(folder)
    return weights(folder)


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(slurm, tmp_path) -> Iterator[Start]:
    """Start the workflow: the profile as it is shipped, but for QUICK."""
    (tmp_path / "results").mkdir()
    cell = {"train_seconds": 600, "evaluate_seconds": None, "gpu_bytes": 0, "host_bytes": 0}
    cells = {RUN.format(method).removesuffix("/seed0"): cell for method in METHODS}
    (tmp_path / "results/plan.json").write_text(json.dumps({"device": "made up", "cells": cells}))
    started = []

    def start(*more: str) -> subprocess.Popen[bytes]:
        started.append(snakemake(tmp_path, *more, "--profile", str(ROOT / "profiles/slurm"), *QUICK.split()))
        return started[-1]

    yield start
    for one in started:
        if one.poll() is None:
            one.kill()
            one.wait()
    if "down" in slurm.script("status").stdout:  # a test failed half way: the next one needs the node
        slurm.script("start-node")
    tell("scancel", "--full", "--me")
    until(lambda: not jobs(), tmp_path)


def snakemake(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    (folder / "overlay.yaml").write_text(OVERLAY)
    command = [sys.executable, "-m", "snakemake", *more, "--directory", str(folder)]
    command += ["--configfile", str(ROOT / "config/smoke.yaml"), str(folder / "overlay.yaml")]
    with (folder / "said").open("ab") as out:
        return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=out, stderr=subprocess.STDOUT)


def said(folder: Path) -> str:
    logs = [f"--- {path}\n{path.read_text()[-1500:]}" for path in folder.glob("results/logs/train/**/*.log")]
    return (folder / "said").read_text() + "\n".join(logs)


def weights(folder: Path) -> dict[str, bytes]:
    runs = folder / "results/runs"
    return {method: (runs / RUN.format(method) / "weights.safetensors").read_bytes() for method in METHODS}


def resumed(folder: Path) -> set[str]:
    """Methods whose training, in its last job, went on from a state; Snakemake removes the logs of the others."""
    logs = {method: folder / "results/logs/train" / f"{RUN.format(method)}.log" for method in METHODS}
    return {method for method, log in logs.items() if log.exists() and ": resumed at epoch " in log.read_text()}


def until(true: Callable[[], object], folder: Path) -> object:
    end = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < end, said(folder)
        time.sleep(0.05)
    return found


def processes(folder: Path) -> dict[int, list[str]]:
    """Pid -> words of the command, of what works in a folder."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_text().rstrip("\0").split("\0")
            if (place / "cwd").readlink() == folder:
                found[int(place.name)] = words
        except (OSError, UnicodeDecodeError):  # it ended
            pass
    return found


def training(folder: Path, method: str) -> int | None:
    """The pid of a method's training that has a state to go on from."""
    run = RUN.format(method)
    if not (folder / "results/runs" / run / "state/state.safetensors").exists():
        return None
    pids = [pid for pid, words in processes(folder).items() if words[1:6] == ["-m", "fastat", "train", "--run", run]]
    return pids[0] if pids else None


def stop(folder: Path, method: str) -> int:
    """Wait until the training is on its way, and stop it there."""
    pid = until(lambda: training(folder, method), folder)
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGSTOP)
    assert not (folder / "results/runs" / RUN.format(method) / "weights.safetensors").exists()
    return pid


def jobs(*options: str) -> list[list[str]]:
    """Id, partition, state and comment of the jobs in the queue."""
    command = ["squeue", "--noheader", "--format", "%i %P %T %k", *options]
    lines = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split() for line in lines]


def job(method: str) -> str:
    (found,) = [one for one, _, _, comment in jobs() if comment.endswith(f"_{method}_paper_0")]
    return found


def tell(*command: str) -> None:
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)


def test_the_commands_of_the_page_bring_the_smoke_grid_to_its_end(slurm, tmp_path):
    """docs/cluster.md, with the profile as it is shipped."""
    for name in ("config", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    for command, shown in test_own_pages.commands("cluster.md", tmp_path):
        quick = command.replace("--profile profiles/slurm", f"--profile profiles/slurm {QUICK}")
        output = test_own_pages.run(quick, tmp_path)
        assert test_own_pages.pattern(shown).search(output), f"$ {command}\nsays\n{output[-3000:]}"
    assert (tmp_path / "results/report/index.html").exists()
    where = sorted((partition, comment.split("_")[1]) for _, partition, _, comment in jobs("--states=completed"))
    assert where == [("cpu", "cost"), ("cpu", "data"), *2 * [("gpu", "evaluate")], *2 * [("gpu", "train")]]


def test_kill_9_scancel_and_requeue_of_trainings(start, undisturbed, tmp_path):
    first = start("--until", "train")
    killed = stop(tmp_path, "fgsm_rs")
    stop(tmp_path, "atas")
    shown = subprocess.run(["scontrol", "show", "job", job("atas")], env=ENVIRONMENT, capture_output=True, text=True)
    asked = {"Partition=gpu", "Requeue=1", "TimeLimit=00:35:00", "MinMemoryNode=2000M", "TresPerJob=gres:gpu:1"}
    assert asked <= {*shown.stdout.split()}, shown.stdout
    os.kill(killed, signal.SIGKILL)
    tell("scancel", job("atas"))
    assert first.wait() == 1, said(tmp_path)  # retries: 0

    second = start("--until", "train")
    until(lambda: "atas" in resumed(tmp_path), tmp_path)
    stop(tmp_path, "atas")
    tell("scontrol", "requeue", job("atas"))
    assert second.wait() == 0, said(tmp_path)
    assert weights(tmp_path) == undisturbed and resumed(tmp_path) == {*METHODS}


def test_a_word_that_slurm_does_not_know_is_refused_before_the_first_job(start, tmp_path):
    assert start("--default-resources", "slurm_acount=lab", "slurm_partition=gpu").wait() == 1
    assert "Slurm is not asked for 'slurm_acount'. Did you mean 'slurm_account'?" in said(tmp_path)
    assert not (tmp_path / "results/data").exists()


@pytest.mark.parametrize("said_once,answer", [
    (["slurm_partition=gpuu"], "invalid partition specified: gpuu"),
    (["slurm_partition=gpu", "gpu_model=a100"], "Requested node configuration is not available"),
    (["slurm_partition=gpu", "constraint=v100"], "Invalid feature specification"),
])  # fmt: skip
def test_what_slurm_refuses_is_said_before_the_first_job(said_once, answer, start, tmp_path):
    assert start("--default-resources", *said_once, "mem_mb=2000", "runtime=60").wait() == 1
    assert "Slurm takes no job such as those of evaluate, train: " in said(tmp_path) and answer in said(tmp_path)
    assert not (tmp_path / "results/logs/slurm").exists() and not jobs()


def test_a_limit_below_what_is_asked_is_said_and_a_node_in_maintenance_is_waited_for(start, tmp_path):
    tell("scontrol", "update", "partitionname=gpu", "maxtime=30")
    tell("scontrol", "update", "nodename=gpunode", "state=drain", "reason=maintenance")
    try:
        started = start("--until", "train")
        until(jobs, tmp_path)  # the job of `data` waits
        assert "train ask for 35 minutes, and their partition gives 30 at most" in said(tmp_path)
        assert "`train: {runtime: 30}`" in said(tmp_path)
        started.send_signal(signal.SIGINT)
        assert started.wait() == 1
    finally:
        tell("scontrol", "update", "nodename=gpunode", "state=resume")
        tell("scontrol", "update", "partitionname=gpu", "maxtime=infinite")


def test_a_second_cluster_does_not_take_the_place_of_a_running_one(slurm, tmp_path):
    links = [Path("/etc/slurm", name) for name in ("slurm.conf", "gres.conf")]
    second = subprocess.run(
        [SCRIPT, "start"], env=ENVIRONMENT | {"LOCAL_SLURM_DIR": str(tmp_path)}, capture_output=True, text=True
    )
    assert (second.returncode, [link.resolve().parent for link in links]) == (3, 2 * [slurm.folder])
    assert f"a Slurm runs in {slurm.folder}: LOCAL_SLURM_DIR={slurm.folder}" in second.stderr
    assert not [*tmp_path.iterdir()]


@pytest.mark.faults
def test_a_cluster_that_does_not_start_leaves_nothing_running(slurm, tmp_path):
    """Its port is taken, and the first one's links are gone, so that it is not refused."""
    links = {link: link.readlink() for link in (Path("/etc/slurm/slurm.conf"), Path("/etc/slurm/gres.conf"))}
    for link in links:
        link.unlink()
    try:
        second = subprocess.run([SCRIPT, "start"], env=ENVIRONMENT | {"LOCAL_SLURM_DIR": str(tmp_path)})
        assert second.returncode not in (0, 3) and not [*tmp_path.glob("*.pid")]
        assert not any(link.is_symlink() for link in links)
    finally:
        for link, target in links.items():
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def in_job(folder: Path, method: str) -> dict[bool, int]:
    """The two Snakemakes in a training's job: the one that Slurm starts (True), and the one that this starts."""
    found = {pid: words for pid, words in processes(folder).items() if "snakemake" in words}
    mine = [pid for pid, words in found.items() if any(f"method={method}" in word for word in words)]
    return {"slurm-jobstep" in found[pid]: pid for pid in mine}


@pytest.mark.faults
@pytest.mark.parametrize("outer", [True, False], ids=["outer", "inner"])
def test_kill_9_of_the_snakemake_in_a_job(outer, start, undisturbed, tmp_path):
    first = start("--until", "train")
    stop(tmp_path, "atas")
    os.kill(in_job(tmp_path, "atas")[outer], signal.SIGKILL)
    assert first.wait() == 1, said(tmp_path)
    assert start("--until", "train").wait() == 0, said(tmp_path)
    assert weights(tmp_path) == undisturbed and "atas" in resumed(tmp_path)


@pytest.mark.faults
def test_preemption_by_a_higher_partition(start, undisturbed, tmp_path):
    run = start("--until", "train")
    for method in METHODS:
        stop(tmp_path, method)
    tell("sbatch", "--partition=high", "--gpus=2", "--mem=100", "--output=/dev/null", "--wrap", "sleep 2")
    assert run.wait() == 0, said(tmp_path)
    assert weights(tmp_path) == undisturbed and resumed(tmp_path) == {*METHODS}


@pytest.mark.faults
def test_the_time_limit_is_reached(start, undisturbed, tmp_path):
    first = start("--until", "train")
    stop(tmp_path, "atas")  # for a minute, the shortest limit that Slurm has
    tell("scontrol", "update", f"jobid={job('atas')}", "timelimit=1")
    assert first.wait() == 1, said(tmp_path)
    assert "SLURM status is: 'TIMEOUT'" in said(tmp_path)
    assert start("--until", "train").wait() == 0, said(tmp_path)
    assert weights(tmp_path) == undisturbed and "atas" in resumed(tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("dead", [True, False], ids=["node", "slurmd"])
def test_a_node_is_lost_and_comes_back(dead, start, slurm, undisturbed, tmp_path):
    """Its power goes, or slurmd alone, whose jobs then go on without it until it comes back."""
    run = start("--until", "train")
    for method in METHODS:
        stop(tmp_path, method)
    os.kill(slurm.daemon("slurmd"), signal.SIGKILL)
    if dead:
        for pid in [*stepds(slurm.folder), *processes(tmp_path)]:
            if pid != run.pid:
                with suppress(ProcessLookupError):  # ended with the one before
                    os.kill(pid, signal.SIGKILL)
    until(lambda: "down" in slurm.script("status").stdout, tmp_path)
    assert slurm.script("start-node").returncode == 0
    assert run.wait() == 0, said(tmp_path)
    assert weights(tmp_path) == undisturbed and resumed(tmp_path) == {*METHODS}


def stepds(folder: Path) -> list[int]:
    """Slurm's processes above the steps of the jobs."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            if (place / "comm").read_text().strip() == "slurmstepd":
                found.append(int(place.name))
    return found


@pytest.mark.faults
def test_ctrl_c_cancels_the_jobs_and_a_second_start_goes_on(start, undisturbed, tmp_path):
    first = start("--until", "train")
    stop(tmp_path, "atas")
    first.send_signal(signal.SIGINT)
    assert first.wait() == 1, said(tmp_path)
    until(lambda: not jobs(), tmp_path)
    assert start("--until", "train").wait() == 0, said(tmp_path)
    assert weights(tmp_path) == undisturbed and "atas" in resumed(tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "beside"])
def test_kill_9_of_the_main_snakemake_and_a_second_start(cancelled, start, undisturbed, tmp_path):
    """Its jobs are cancelled first, as docs/cluster.md says; or they go on beside the second start."""
    first = start("--until", "train")
    stop(tmp_path, "atas")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert start("--until", "train").wait() == 1
    assert "--unlock" in said(tmp_path)
    if cancelled:
        tell("scancel", "--me")
        until(lambda: not jobs(), tmp_path)
    assert start("--unlock").wait() == 0
    assert start("--until", "train").wait() == (0 if cancelled else 1), said(tmp_path)
    if not cancelled:
        os.kill(training(tmp_path, "atas") or 0, signal.SIGCONT)
        until(lambda: not jobs(), tmp_path)
        assert start("--until", "train").wait() == 0, said(tmp_path)
    assert weights(tmp_path) == undisturbed and ("atas" in resumed(tmp_path)) >= cancelled


TWO = (
    f"results/runs/{RUN.format('atas')}/weights.safetensors",
    *("--config", "processes={digits: 2}", "recipes={digits: {every: {epochs: 4, drop_last: true, shards: 2}}}"),
)


def workers(folder: Path) -> list[int]:
    """Pids of the processes that share ATAS's training."""
    shared = ["-u", "-m", "fastat", "train", "--run", RUN.format("atas")]
    return [pid for pid, words in processes(folder).items() if words[1:7] == shared]


@pytest.mark.faults
def test_usr1_to_the_job_of_a_training_that_two_processes_share(start, tmp_path, tmp_path_factory):
    """As `--signal=USR1@120` sends before the time limit. No state is saved on it: the last epoch's is gone on from."""
    alone = tmp_path_factory.mktemp("alone")
    profile = ("--workflow-profile", str(ROOT / "profiles/default"))
    assert snakemake(alone, *TWO, *profile, "--cores", "1").wait() == 0, said(alone)

    first = start(*TWO)
    run = tmp_path / "results/runs" / RUN.format("atas")
    until(lambda: (run / "state/state.safetensors").exists() and len(workers(tmp_path)) == 2, tmp_path)
    for pid in (pids := workers(tmp_path)):
        os.kill(pid, signal.SIGSTOP)
    assert not (run / "weights.safetensors").exists()
    tell("scancel", "--signal=USR1", job("atas"))
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert first.wait() == 1, said(tmp_path)
    assert "Run again to go on from its start." in said(tmp_path) and not workers(tmp_path)

    assert start(*TWO).wait() == 0, said(tmp_path)
    assert (tmp_path / TWO[0]).read_bytes() == (alone / TWO[0]).read_bytes() and "atas" in resumed(tmp_path)


@pytest.fixture
def accounting(slurm) -> Iterator[None]:
    """The same Slurm with a database."""
    if missing := [name for name in ("slurmdbd", "mariadbd") if not shutil.which(name, path=ENVIRONMENT["PATH"])]:
        pytest.skip(f"no {', '.join(missing)}: install Debian's slurmdbd and mariadb-server")
    slurm.script("stop", "--purge")
    slurm.environment["LOCAL_SLURM_ACCOUNTING"] = "1"
    started = slurm.script("start")
    assert started.returncode == 0, started.stderr
    yield
    slurm.script("stop", "--purge")
    del slurm.environment["LOCAL_SLURM_ACCOUNTING"]
    slurm.script("start")


@pytest.mark.faults
@pytest.mark.parametrize("command", ["squeue", "sacct"])
def test_account_qos_and_type_of_gpu_where_there_is_accounting(command, accounting, start, undisturbed, tmp_path):
    said_once = ["slurm_partition=gpu", "qos=short", "gpu_model=fake", "mem_mb=2000", "runtime=60"]
    until_train = ["--until", "train", "--slurm-status-command", command, "--default-resources", *said_once]
    assert start(*until_train, "slurm_account=nobody").wait() == 1
    assert "Invalid account or account/partition combination specified. It was asked for" in said(tmp_path)
    assert start(*until_train, "slurm_account=lab").wait() == 0, said(tmp_path)
    assert weights(tmp_path) == undisturbed
    columns = ["--allocations", "--noheader", "--parsable2", "--format=Account,QOS,Partition"]
    recorded = subprocess.run(["sacct", *columns], env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
    assert sorted(recorded.split()) == ["lab|short|cpu", "lab|short|gpu", "lab|short|gpu"]
    models = subprocess.run(["scontrol", "show", "job"], env=ENVIRONMENT, capture_output=True, text=True).stdout
    assert models.count("TresPerJob=gres:gpu:fake:1\n") == 2
