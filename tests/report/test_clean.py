"""What lies in a results folder is said; what is asked for by name goes, and nothing else."""

import os
import time

import pytest
import yaml

from fastat.cli import main
from fastat.machine import files
from fastat.report import clean

MINE = "digits/preact_tiny/eps77/atas/paper/seed0"
FRESH = "digits/preact_tiny/eps77/atas/paper/seed1"
OTHER = "digits/preact_tiny/eps102/atta/paper/seed0"
HELD = f"runs/{MINE}/state"
PATHS = {  # kind -> files below results
    "states": [f"runs/{FRESH}/state/{name}" for name in ("state.safetensors", "autoattack-1f.csv", "attack-2c.csv")]
    + [f"runs/{FRESH}/state/shard1of2/lock", f"runs/{MINE}/state/best_shard1of2.json"],
    "attacks": [f"runs/{MINE}/state/{name}" for name in ("autoattack-0a.csv", "attack-3e.csv")]
    + [f"runs/{MINE}/state/{name}" for name in ("shard1of2.json", "shard1of2/lock", "shard2of2/lock")],
    "snapshots": [f"runs/{MINE}/snapshots/epoch001.safetensors"],
    "parts": [f"runs/{MINE}/.weights.safetensors.123.part", "tables/.table1.md.host-7.45.part"],
    "logs": [f"logs/train/{MINE}.log", f"logs/evaluate/{MINE}-probe.log", "logs/tidy.log"]
    + [f"logs/evaluate/{MINE}-{what}.log" for what in ("attacks", "best", "autoattack", "shard1of2", "best_shard1of2")],
    "weights": [f"runs/{MINE}/weights.safetensors"],
    "data": ["data/digits.safetensors", "data/imagenet/train.npy"],
    "others": [f"runs/{OTHER}/{name}" for name in ("run.json", "weights.safetensors", "eval/steps.csv", "state/lock")],
    "kept": [f"runs/{MINE}/{name}" for name in ("run.json", "eval/autoattack.csv", "eval/attacks.csv", "state/lock")]
    + ["measured.csv", "data/mine.safetensors", "runs/notes.txt", f"runs/{MINE}_old/run.json", "logs/train/plan.txt"],
}


@pytest.fixture
def results(tmp_path):
    """Ten bytes in each of PATHS, an hour old."""
    for path in [tmp_path / "results" / name for names in PATHS.values() for name in names]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if path.name == "lock" else b"ten bytes.")
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    return tmp_path / "results"


@pytest.fixture
def call(results, tmp_path):
    """Clean `results`; the grid is MINE and FRESH."""
    block = {"dataset": "digits", "model": "preact_tiny", "eps": "77/255", "method": "atas", "seed": [0, 1]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"grid": [block]}))
    return lambda *what: main(
        ["clean", *what, "--results", str(results), "--configfile", str(tmp_path / "config.yaml")]
    )


def left(results):
    """The files below `results`."""
    return {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}


def test_without_a_name_it_says_what_is_there_and_removes_nothing(results, call, capsys):
    before = left(results)
    assert call() == 0
    said = {line.split()[0]: line.split()[1:4] for line in capsys.readouterr().out.splitlines() if line}
    assert left(results) == before
    for kind, names in PATHS.items():
        assert said[kind] == [str(len(names)), str(10 * len([n for n in names if "lock" not in n])), "B"], kind


@pytest.mark.parametrize("kind", clean.KINDS)
def test_a_kind_that_is_asked_for_goes_and_nothing_else(results, call, kind, capsys):
    before = left(results)
    assert call(kind) == 0
    assert before - left(results) == set(PATHS[kind])
    assert f"{kind}: {len(PATHS[kind])} files removed" in capsys.readouterr().out


def test_all_kinds_at_once_leave_what_is_kept_and_no_empty_folder(results, call):
    assert call(*clean.KINDS) == 0
    assert left(results) == set(PATHS["kept"])
    assert not (results / "runs/digits/preact_tiny/eps102").exists() and not (results / f"runs/{FRESH}").exists()
    assert all(any(path.rglob("*")) or path.parent == results for path in results.rglob("*") if path.is_dir())


def test_what_belongs_to_a_run_at_work_stays_and_the_rest_goes(results, call, capsys):
    with files.exclusive(results / HELD):
        assert call("weights", "logs") == 1
    assert set(PATHS["weights"] + PATHS["logs"][:2]) <= left(results) and PATHS["logs"][2] not in left(results)
    said = capsys.readouterr().out
    assert f"8 files of {MINE} stay: another process is working on" in said and "logs: 1 files removed, 10 B" in said


def test_what_belongs_to_a_run_stays_while_one_of_its_shards_is_at_work(results, call):
    with files.exclusive(results / f"{HELD}/shard2of2"):
        assert call("attacks", "data") == 1
    assert set(PATHS["attacks"]) <= left(results) and PATHS["data"][0] in left(results)


def test_data_stay_while_any_run_on_them_is_at_work(results, call):
    with files.exclusive(results / HELD):
        assert call("data") == 1
    assert PATHS["data"][0] in left(results) and PATHS["data"][1] not in left(results)


def test_a_part_that_may_still_be_written_is_no_leftover(results, call):
    os.utime(results / PATHS["parts"][0])
    assert call("parts") == 0
    assert left(results) & set(PATHS["parts"]) == {PATHS["parts"][0]}


def test_links_are_neither_followed_nor_removed(results, call, tmp_path, capsys):
    outside = tmp_path / "outside"
    (outside / "seed2").mkdir(parents=True)
    for name in ("weights.safetensors", "seed2/run.json"):
        (outside / name).write_text("mine")
    (results / PATHS["weights"][0]).unlink()
    (results / PATHS["weights"][0]).symlink_to(outside / "weights.safetensors")
    (results / f"runs/{OTHER}").with_name("seed2").symlink_to(outside / "seed2")
    (results / "runs/loop").symlink_to(results / "runs")
    assert call(*clean.KINDS) == 0
    assert left(outside) == {"weights.safetensors", "seed2/run.json"} and (results / PATHS["weights"][0]).is_symlink()
    call()
    assert capsys.readouterr().out.count("is a link: neither followed nor removed") == 3


def test_stray_folders_are_named_and_kept(results, call, capsys):
    call()
    said = capsys.readouterr().out
    assert f"runs/{MINE}_old is no run's folder, and is kept. Remove it by hand." in said


def test_a_file_that_cannot_be_removed_stays_and_is_said(results, call, monkeypatch, capsys):
    real = os.unlink

    def refuse(path, *args, **kwargs):
        if str(path).endswith("tidy.log"):
            raise PermissionError(13, "Permission denied", str(path))
        real(path, *args, **kwargs)

    monkeypatch.setattr(os, "unlink", refuse)
    assert call("logs") == 1
    assert left(results) & set(PATHS["logs"]) == {"logs/tidy.log"}
    assert "tidy.log stays: Permission denied" in capsys.readouterr().out


def test_unknown_names_missing_folders_and_others_of_no_named_grid_are_refused(results, call, capsys):
    before = left(results)
    assert call("states", "part") == 2
    assert "nothing here is called 'part'. Did you mean 'parts'?" in capsys.readouterr().err
    assert main(["clean", "others", "--results", str(results)]) == 2
    assert "--configfile config/config.yaml" in capsys.readouterr().err
    assert main(["clean", "--results", str(results / "none")]) == 2
    assert left(results) == before


@pytest.mark.parametrize(
    "n,text", [(0, "0 B"), (1500, "1.5 kB"), (316_144, "316 kB"), (1.2e9, "1.2 GB"), (3e12, "3.0 TB")]
)
def test_sizes_are_rounded_for_people(n, text):
    assert clean.size(n) == text
