"""Results of two machines in one folder: content decides, nothing is written over, and a killed merge is finished."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fastat.cli import main
from fastat.evaluation import autoattack
from fastat.exchange import merge
from fastat.machine import files, seals
from tests import fabricate
from tests.exchange.test_folder import contents

RUN = "digits/preact_tiny/eps77/atas/paper/seed0"
OTHER = RUN.replace("atas", "atta")
THIRD = RUN.replace("seed0", "seed1")


@pytest.fixture
def two(tmp_path, monkeypatch) -> tuple[Path, Path, Path]:
    """Results of two machines that share a run, each with one of its own; and a path for both."""
    monkeypatch.chdir(tmp_path)
    one, other = tmp_path / "one", tmp_path / "other"
    fabricate.finished(one, RUN)
    shutil.copytree(one, other)
    fabricate.finished(one, OTHER)
    fabricate.finished(other, THIRD)
    return one, other, tmp_path / "both"


BEGUN = f"runs/{RUN}/state/autoattack-0123abcd.csv"


def begun(folder: Path, n: int) -> None:
    """An unfinished AutoAttack's rows, of n images."""
    (folder / BEGUN).parent.mkdir(exist_ok=True)
    rows = [{"attack": "clean", "index": i, "label": 1, "correct": 1, "step": -1} for i in range(n)]
    autoattack.write_partial(folder / BEGUN, rows)


def run(*words: object) -> int:
    return main(["merge", *map(str, words)])


def results_of(folder: Path) -> dict[str, bytes]:
    """What lies in it, less locks."""
    return {path: content for path, content in contents(folder).items() if not path.endswith("/lock")}


def test_runs_of_two_machines_are_one_folder_that_verify_and_tidy_take(two, capsys):
    one, other, both = two
    assert run(one, other, "--out", both) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("one: 2 trainings, 8 evaluations, 1 data set")
    assert said[1].endswith("other: 1 training, 4 evaluations")
    assert results_of(both) == {**results_of(other), **results_of(one)}
    assert main(["verify", "--all", "--results", str(both)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: ok" for name in sorted((RUN, OTHER, THIRD))]
    assert main(["tidy", "--results", str(both), "--out", str(both)]) == 0
    assert len((both / "evidence.jsonl").read_text().splitlines()) == 3


def test_the_same_again_copies_nothing_and_a_third_folder_may_come_later(two, capsys):
    one, other, both = two
    assert run(one, "--out", both) == 0 and run(other, "--out", both) == 0
    before = results_of(both)
    capsys.readouterr()
    assert run(one, other, "--out", both) == 0
    assert "0 files, 0 B copied" in capsys.readouterr().out
    assert results_of(both) == before == {**results_of(other), **results_of(one)}


def test_a_dry_run_says_it_and_writes_nothing(two, capsys):
    one, other, both = two
    assert run(one, other, "--out", both, "--dry-run") == 0
    assert "3 trainings, 12 evaluations, 1 data set; 37 files" in capsys.readouterr().out and not both.exists()


def test_evaluations_of_the_same_training_come_together(two):
    one, other, both = two
    for folder, lost in ((one, "autoattack"), (other, "whitebox")):
        for ending in ("csv", "json"):
            (folder / f"runs/{RUN}/eval/{lost}.{ending}").unlink()
    assert run(one, other, "--out", both) == 0
    assert main(["verify", RUN, "--results", str(both)]) == 0


def trained_again(results: Path, name: str, **how) -> None:
    shutil.rmtree(results / "runs" / name)
    fabricate.finished(results, name, **how)
    about = seals.read(results / f"runs/{name}/run.json")
    seals.write(results / f"runs/{name}/run.json", {**about, "device": "an H100"})


def hash_of(results: Path, name: str) -> str:
    return seals.sha256(results / f"runs/{name}/weights.safetensors")[:16]


def test_two_trainings_of_one_name_are_listed_with_both_hashes_and_machines_and_nothing_is_written(two, capsys):
    one, other, both = two
    trained_again(other, RUN, seed=7)
    assert hash_of(one, RUN) != hash_of(other, RUN)
    assert run(one, other, "--out", both) == 1
    said = capsys.readouterr().out
    assert f"conflict: {RUN}: {one} has weights {hash_of(one, RUN)}" in said and "a V100" in said
    assert f"{other} has weights {hash_of(other, RUN)}" in said and "an H100" in said
    assert "Nothing was written. 1 conflict. Say whose count where two differ, as --keep FOLDER" in said
    assert not both.exists()


@pytest.mark.parametrize("kept", [0, 1])
def test_keep_says_whose_training_counts_and_no_evaluation_of_the_other_comes_along(two, kept, capsys):
    one, other, both = two
    trained_again(other, RUN, seed=7, right=15)
    assert run(one, other, "--out", both, "--keep", two[kept]) == 0
    assert hash_of(both, RUN) == hash_of(two[kept], RUN)
    assert f"left behind: {RUN} of {two[1 - kept]}" in capsys.readouterr().out
    assert main(["verify", "--all", "--results", str(both)]) == 0


def test_another_recipe_with_the_same_weights_is_another_run(two, capsys):
    one, other, both = two
    trained_again(other, RUN, batch_size=77)
    assert hash_of(one, RUN) == hash_of(other, RUN)
    assert run(one, other, "--out", both) == 1
    assert f"conflict: {RUN}" in capsys.readouterr().out


def test_what_lies_in_the_folder_that_is_merged_into_is_not_written_over_even_if_asked(two, capsys):
    one, other, _ = two
    trained_again(other, RUN, seed=7)
    before = results_of(one)
    assert run(other, "--out", one, "--keep", other) == 1
    assert results_of(one) == before
    assert run(other, "--out", one, "--keep", one) == 0
    assert results_of(one) == {**before, **{k: v for k, v in results_of(other).items() if THIRD in k}}
    assert run(other, "--out", one, "--keep", "elsewhere") == 2
    assert "--keep elsewhere is none of the folders that are merged" in capsys.readouterr().err


def test_other_rows_of_the_same_evaluation_are_a_conflict(two, capsys):
    one, other, both = two
    rows = fabricate.evaluations(15)["whitebox"]
    fabricate.evaluation(other / "runs" / RUN, "whitebox", rows)
    assert run(one, other, "--out", both) == 1
    assert f"conflict: {RUN}/eval/whitebox: {one} has rows " in capsys.readouterr().out
    assert run(one, other, "--out", both, "--keep", other) == 0
    path = f"runs/{RUN}/eval/whitebox.csv"
    assert (both / path).read_bytes() == (other / path).read_bytes() != (one / path).read_bytes()


def test_other_data_are_a_conflict_and_runs_of_those_that_are_not_kept_stay_behind(two, capsys):
    one, other, both = two
    shutil.rmtree(other)
    fabricate.finished(other, THIRD)
    sha = fabricate.data(other, seed=3)
    about = seals.read(other / f"runs/{THIRD}/run.json")
    made = fabricate.fingerprint(THIRD, json.dumps(about["recipe"], sort_keys=True, separators=(",", ":")), sha)
    seals.write(other / f"runs/{THIRD}/run.json", {**about, "data_sha256": sha, "made_from": made})
    assert run(one, other, "--out", both) == 1
    assert f"conflict: data/digits: {one} has sha256 " in capsys.readouterr().out
    assert run(one, other, "--out", both, "--keep", one) == 0
    assert f"left behind: {other}/runs/{THIRD} is of other data than are taken" in capsys.readouterr().out
    assert results_of(both) == results_of(one)


def state(results: Path, name: str, epoch: int) -> Path:
    """An unfinished training's."""
    folder = results / "runs" / name / "state"
    folder.mkdir(parents=True, exist_ok=True)
    about = {"format": 1, "made_from": "0123", "standing": {"epoch": epoch}}
    save_file({"x": np.full(2, epoch)}, folder / "state.safetensors", {"fastat": json.dumps(about)})
    return folder / "state.safetensors"


def test_an_unfinished_training_comes_along_and_one_that_is_finished_elsewhere_does_not(two, capsys):
    one, other, both = two
    begun = THIRD.replace("seed1", "seed2")
    there = state(other, begun, 2)
    state(one, THIRD, 1)
    assert run(one, other, "--out", both) == 0
    said = capsys.readouterr().out
    assert "1 unfinished training" in said
    assert f"left behind: {one}/runs/{THIRD}/state: the training is finished in {other}" in said
    assert (both / f"runs/{begun}/state/state.safetensors").read_bytes() == there.read_bytes()
    assert not (both / f"runs/{THIRD}/state/state.safetensors").exists()
    state(one, begun, 3)
    assert run(one, other, "--out", both / "new") == 1
    said = capsys.readouterr().out
    assert f"{one} has epoch 3, fingerprint 0123" in said and f"{other} has epoch 2, fingerprint 0123" in said


def test_of_rows_that_an_evaluation_goes_on_from_the_longer_come(two):
    one, other, both = two
    for folder, n in ((one, 1), (other, 2)):
        begun(folder, n)
    assert run(one, other, "--out", both) == 0
    assert (both / BEGUN).read_bytes() == (other / BEGUN).read_bytes()


@pytest.mark.parametrize("place", ["one", "both"])
def test_rows_that_are_not_those_that_were_written_are_left(two, place, capsys):
    """However long: an evaluation would refuse to go on from them."""
    one, other, both = two
    if place == "both":
        assert run(one, "--out", both) == 0
    bad = {"one": one, "both": both}[place]
    begun(other, 1)
    for damage in (
        lambda path: path.write_text(path.read_text().replace("1,1,-1", "1,0,-1")),
        lambda path: path.write_text(path.read_text().rsplit("\n", 2)[0] + "\n"),  # no checksum
        lambda path: path.write_text(path.read_text().replace("autoattack-0123abcd", "autoattack-4567abcd")),
        lambda path: path.write_bytes(b"\xff" * 1000),
    ):
        begun(bad, 5)
        damage(bad / BEGUN)
        assert run(one, other, "--out", both) == 0
        assert f"left behind: {bad / BEGUN} is damaged" in capsys.readouterr().out
        assert (both / BEGUN).read_bytes() == (other / BEGUN).read_bytes()


def test_what_verify_does_not_believe_stays_behind(two, capsys):
    one, other, both = two
    path = other / f"runs/{THIRD}/weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    rows = one / f"runs/{OTHER}/eval/whitebox.csv"
    rows.write_text(rows.read_text().replace(",1\n", ",0\n", 1) + "x")
    assert run(one, other, "--out", both) == 0
    said = capsys.readouterr().out
    assert f"left behind: {other}/runs/{THIRD}/weights.safetensors is not what this run wrote" in said
    assert f"left behind: {one}/runs/{OTHER}/eval/whitebox.csv" in said
    assert not (both / "runs" / THIRD).exists() and not (both / f"runs/{OTHER}/eval/whitebox.csv").exists()
    assert (both / f"runs/{OTHER}/eval/autoattack.csv").exists()


def test_a_link_is_refused(two, capsys):
    one, other, both = two
    path = other / f"runs/{THIRD}/log.csv"
    path.rename(other / "log.csv")
    path.symlink_to(other / "log.csv")
    assert run(one, other, "--out", both) == 2
    assert f"{path} is a link, and is not followed. Nothing was written." in capsys.readouterr().err
    assert not both.exists()


def test_no_file_that_a_run_json_names_outside_its_folder_is_copied(two):
    one, other, both = two
    about = seals.read(other / f"runs/{THIRD}/run.json")
    (other / "secret.csv").write_text("of nobody\n")
    names = {"../" * 7 + "secret.csv": seals.sha256(other / "secret.csv"), str(other / "secret.csv"): "0"}
    seals.write(other / f"runs/{THIRD}/run.json", {**about, "files": {**about["files"], **names}})
    assert run(one, other, "--out", both) == 0
    assert (both / f"runs/{THIRD}/run.json").exists() and not list(both.rglob("secret*"))


def test_a_run_at_work_is_waited_for(two, capsys):
    one, other, both = two
    with files.exclusive(other / f"runs/{THIRD}/state"):
        assert run(one, other, "--out", both) == 2
    assert f"a process is at work on {other}/runs/{THIRD}/state" in capsys.readouterr().err


def test_a_damaged_file_in_the_way_is_not_written_over(two, capsys):
    one, other, both = two
    path = both / f"runs/{THIRD}/log.csv"
    path.parent.mkdir(parents=True)
    path.write_text("mine\n")
    assert run(one, other, "--out", both) == 2
    assert f"{path} is there" in capsys.readouterr().err
    assert path.read_text() == "mine\n" and not (both / "data").exists()


def test_a_full_disk_is_said_before_anything_is_written(two, capsys, monkeypatch):
    one, other, both = two
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2, 1, 1))
    assert run(one, other, "--out", both) == 2
    assert "where 1 B are free. Name another --out." in capsys.readouterr().err and not both.exists()


@pytest.mark.parametrize("after", [0, 1, 3, 11, 20, 36])
def test_a_merge_that_is_killed_is_finished_by_the_same_command(two, after, monkeypatch):
    """And at no moment is there a run.json without the files that it names."""
    one, other, both = two
    left = [after]

    def replaced(source, target, replace=os.replace):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        replace(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    assert run(one, other, "--out", both) == 130
    whole = [path.parent for path in both.rglob("run.json")]
    assert all((folder / file).exists() for folder in whole for file in seals.read(folder / "run.json")["files"])
    monkeypatch.undo()
    assert run(one, other, "--out", both) == 0
    assert results_of(both) == {**results_of(other), **results_of(one)}


@pytest.mark.parametrize("has_data", [True, False])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_no_output_is_older_than_its_input_so_that_nothing_is_trained_again(two, order, has_data):
    """Whatever the clocks of the machines said, and where what is merged into has no data yet."""
    one, other, both = two
    now = (one / "data/digits.safetensors").stat().st_mtime
    for folder, late in ((one, 5000), (other, -5000)):
        os.utime(folder / "data/digits.safetensors", (now + late, now + late))
    if not has_data:
        shutil.rmtree(two[order[0]] / "data")
    assert run(two[order[0]], "--out", both) == 0 and run(two[order[1]], "--out", both) == 0
    data = (both / "data/digits.safetensors").stat().st_mtime_ns
    for name in (RUN, OTHER, THIRD):
        folder = both / "runs" / name
        made = [(folder / file).stat().st_mtime_ns for file in ("run.json", "weights.safetensors", "log.csv")]
        assert data <= min(made)
        assert max(made) <= min(path.stat().st_mtime_ns for path in folder.glob("eval/*"))


def test_weights_come_to_a_run_that_was_imported_without(two):
    one, other, both = two
    shutil.copytree(one, both)
    (both / f"runs/{OTHER}/weights.safetensors").unlink()
    assert run(one, "--out", both) == 0
    assert results_of(both) == results_of(one)


def test_what_is_no_results_folder_is_refused(tmp_path, capsys):
    assert run(tmp_path / "nowhere", "--out", tmp_path / "out") == 2
    assert "is no results folder: it has neither runs nor data in it" in capsys.readouterr().err


def test_the_choice_is_the_same_whatever_the_order_of_units(two):
    one, other, _ = two
    units = [unit for folder in (one, other) for unit in merge.survey(folder, [])]
    first, none = merge.choose(units, [], None, [])
    second, _ = merge.choose(sorted(units, key=lambda unit: unit.home != one)[::-1], [], None, [])
    assert {unit.key for unit in first} == {unit.key for unit in second} and not none
