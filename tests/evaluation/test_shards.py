"""AutoAttack in shards: whatever their order, whoever is killed, the rows are those of one process."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from fastat import ROOT
from fastat.cli import main
from fastat.config.grid import check_config, load_config, overlay, protocol_for, protocol_from, shard_files
from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.machine import numerics, seals

NAME = "digits/preact_tiny/eps4/clean/paper/seed0"
PROTOCOL = {"batch_size": 20, "pgd_step": "0.2 eps", "pgd_restarts": 1, "seed": 0, "numerics": "native"}
AUTOATTACK = {"n_images": 10, "batch_size": 2, "shards": 3}
KILLS = 10


@pytest.fixture
def state(trained):
    """The run's state/, empty, and nothing attacked."""
    folder = trained / "runs" / NAME
    for path in [*(folder / "eval").glob("*"), *(folder / "state").glob("*.csv"), *(folder / "state").glob("*.json")]:
        path.unlink()
    return folder / "state"


def words(trained, *options, autoattack=AUTOATTACK):
    protocol = json.dumps({**PROTOCOL, "autoattack": autoattack})
    return [
        "evaluate", "--run", NAME, "--results", str(trained), "--device", "cpu", "--protocol", protocol,
        "--suite", "autoattack", *options,
    ]  # fmt: skip


@pytest.fixture
def whole(trained, state):
    """The rows of one process, which are removed again."""
    assert main(words(trained)) == 0
    rows = (state.parent / "eval/autoattack.csv").read_bytes()
    for path in [*state.glob("*.csv"), *(state.parent / "eval").glob("*")]:
        path.unlink()
    return rows


def times(state):
    """When each shard's finished images were last written."""
    return {path: path.stat().st_mtime_ns for path in state.glob("autoattack-*.csv")}


def test_shards_in_any_order_killed_ten_times_give_the_rows_of_one_process(trained, state, whole, tmp_path):
    draw, killed = random.Random(0), 0
    wanted = [2, 3, 1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for shard in wanted:
        command = [sys.executable, "-m", "fastat", *words(trained, "--shard", str(shard))]
        while True:
            with open(tmp_path / "said", "w") as said:
                process = subprocess.Popen(command, env=environment, stderr=said)
            before = times(state)
            if killed % 2:  # at whatever it does, or when it has finished a batch
                time.sleep(draw.uniform(0, 2))
            while killed < KILLS and killed % 2 == 0 and process.poll() is None and times(state) == before:
                time.sleep(0.005)
            if killed < KILLS and process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed += 1
            if process.wait(timeout=300) == 0:
                break
            assert process.returncode == -signal.SIGKILL, (tmp_path / "said").read_text()
    assert killed == KILLS
    done = sorted(path.name for path in state.glob("shard*.json"))
    assert done == ["shard1of3.json", "shard2of3.json", "shard3of3.json"]
    run = json.loads((state.parent / "run.json").read_text())
    for shard in done:
        about = json.loads((state / shard).read_text())
        assert (about["weights"], about["data"]) == (run["files"]["weights.safetensors"], run["data_sha256"])
        assert about["protocol"] == {"autoattack": AUTOATTACK, "seed": 0} and about["numerics"] == "native"
        assert about["device"] == numerics.processor_name()
        assert about["rows"] == seals.sha256(state / about["kept"])
    written = times(state)
    assert len(written) == 3
    assert main(words(trained)) == 0
    assert (state.parent / "eval/autoattack.csv").read_bytes() == whole
    assert written == times(state)  # nothing was attacked again
    sidecar = json.loads((state.parent / "eval/autoattack.json").read_text())
    assert sidecar["protocol"] == {"autoattack": AUTOATTACK, "seed": 0}


def test_a_shard_that_is_missing_is_attacked_and_one_of_another_evaluation_refused(trained, state, whole, capsys):
    assert main(words(trained, "--shard", "1")) == 0
    (first,) = state.glob("autoattack-*.csv")
    assert main(words(trained)) == 0
    assert (state.parent / "eval/autoattack.csv").read_bytes() == whole
    other = max(state.glob("autoattack-*.csv"), key=lambda path: path != first)
    other.write_bytes(first.read_bytes())
    capsys.readouterr()
    assert main(words(trained)) == 2
    error = capsys.readouterr().err
    assert f"is of another evaluation: it was written as {first.name}" in error and f"rm {other}" in error
    other.write_bytes(b"")
    assert main(words(trained)) == 2
    assert "is empty. Delete it to attack afresh" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options,autoattack,message",
    [
        (["--shard", "4"], AUTOATTACK, "--shard must be from 1 to 3, as many as the protocol has, got 4"),
        (["--shard", "0"], AUTOATTACK, "argument --shard: must be a whole number from 1"),
        (["--shard", "1"], {"n_images": 10, "batch_size": 2}, "the protocol has no shards"),
        (["--shard", "1"], {**AUTOATTACK, "shards": 1}, "the protocol has no shards"),
        ([], {**AUTOATTACK, "shards": 11}, "shards is 11, but 10 images of digits are attacked"),
        ([], {**AUTOATTACK, "shards": 0}, "a whole number of shares above 0"),
        (["--shard", "1", "--suite", "all"], AUTOATTACK, "write --suite autoattack with it"),
        (["--shard", "1", "--epoch", "best"], AUTOATTACK, "has no best epoch: its recipe holds no image out"),
    ],
)
def test_what_is_no_shard_is_refused(trained, state, options, autoattack, message, capsys):
    try:
        assert main(words(trained, *options, autoattack=autoattack)) == 2
    except SystemExit as error:
        assert error.code == 2
    assert message in capsys.readouterr().err
    assert not [*state.glob("autoattack-*")]


def test_one_shard_says_nothing_and_the_workflow_has_a_job_for_each_of_several():
    spec = RunSpec.parse("digits/preact_tiny/eps77/atas/paper/seed0")
    config = load_config()
    one = overlay(config, {"evaluation": {"autoattack": {"shards": 1}}})
    assert protocol_for(one, "digits") == protocol_for(config, "digits") and shard_files(spec, one) == []
    assert protocol_from(json.dumps({**PROTOCOL, "autoattack": {**AUTOATTACK, "shards": 1}}))["autoattack"] == {
        "n_images": 10, "batch_size": 2,
    }  # fmt: skip
    two = overlay(config, {"evaluation": {"autoattack": {"shards": 2}}})
    check_config(two)
    for prefix in ("", "best_"):
        wanted = [f"results/runs/{spec.name}/state/{prefix}shard{k}of2.json" for k in (1, 2)]
        assert shard_files(spec, two, prefix) == wanted
    with pytest.raises(BadInput, match="shards is 51, but 50 images of digits"):
        check_config(overlay(config, {"evaluation": {"autoattack": {"shards": 51}}}))
