"""What may lie in a run's folder and not be its own: each is left out, said with rule and way out, and nothing else."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from fastat.cli import main
from fastat.config.grid import load_config
from fastat.data import prepared
from fastat.machine import seals
from fastat.report import results, tidy, verify
from tests import fabricate

ONE, TWO = (f"digits/preact_tiny/eps77/atas/paper/seed{seed}" for seed in (0, 1))
EVALUATED = {"clean", "fgsm", "pgd10", "pgd50", "inside", "noise", "gradient", "far"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Results of two seeds of one cell."""
    fabricate.finished(tmp_path, ONE)
    fabricate.finished(tmp_path, TWO, right=14)
    return tmp_path


def gathered(folder: Path, config=None) -> tuple[dict[str, set[str]], pd.DataFrame]:
    """Name of a run -> the metrics that were believed, and the problems."""
    tidy.write_all(folder, folder, config)
    found = results.read(folder, needs=("measured.csv", "correct.csv"))
    rows = found.measured[~found.measured["metric"].isin(["left_out", "unverified"])]
    names = found.runs["name"].to_dict()
    metrics = {name: set() for name in names.values()}
    for run, metric in zip(rows["run"], rows["metric"].astype(str), strict=True):
        metrics[names[run]].add(metric)
    return metrics, found.problems


def swap(a: Path, b: Path) -> None:
    """Give two files each other's place."""
    one, other = a.read_bytes(), b.read_bytes()
    a.write_bytes(other), b.write_bytes(one)


def edited(path: Path, old: str, new: str) -> None:
    """Replace a text that is there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def scaled(path: Path) -> None:
    """Weights x 1.01."""
    save_file({name: tensor * 1.01 for name, tensor in load_file(path).items()}, path)


def flipped(path: Path) -> None:
    """One bit of the last byte."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


TRAINING = {
    "weights x 1.01": (lambda run, other: scaled(run / "weights.safetensors"), "is not what this run wrote"),
    "a flipped bit": (lambda run, other: flipped(run / "weights.safetensors"), "is not what this run wrote"),
    "another's weights": (
        lambda run, other: shutil.copy(other / "weights.safetensors", run), "is not what this run wrote",
    ),
    "a flipped bit of the norms": (
        lambda run, other: flipped(run / "instances.safetensors"), "is not what this run wrote",
    ),
    "another log": (lambda run, other: edited(run / "log.csv", "0.25,2.5", "0.35,2.5"), "is not what this run wrote"),
    "a lost log": (lambda run, other: (run / "log.csv").unlink(), "is not there"),
    "another's run.json": (lambda run, other: shutil.copy(other / "run.json", run), "is of another run"),
    "an empty run.json": (lambda run, other: (run / "run.json").write_text(""), "is damaged"),
    "a run.json cut in half": (
        lambda run, other: (run / "run.json").write_text((run / "run.json").read_text()[:200]), "is damaged",
    ),
    "seconds edited": (lambda run, other: edited(run / "run.json", '"train_seconds": 3.5', '"train_seconds": 1.5'),
                       "is damaged"),
    "a list for run.json": (lambda run, other: (run / "run.json").write_text("[1]"), "is damaged"),
    "a folder for run.json": (
        lambda run, other: ((run / "run.json").unlink(), (run / "run.json").mkdir()), "is damaged",
    ),
    "binary for run.json": (lambda run, other: (run / "run.json").write_bytes(b"\xff\xfe\x00"), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("what", TRAINING)
def test_a_training_that_is_not_its_own_is_left_out_whole(folder, what):
    damage, rule = TRAINING[what]
    damage(folder / "runs" / ONE, folder / "runs" / TWO)
    metrics, problems = gathered(folder)
    assert metrics[ONE] == set() and metrics[TWO] >= EVALUATED | {"aa", "ratio", "train_pgd10_acc"}
    assert problems["run"].tolist() == [ONE] and rule in problems["rule"][0]
    assert f"python -m fastat train --run {ONE}" in problems["way_out"][0]


EVALUATIONS = {
    "rows of another run": ("whitebox", lambda a, b: swap(a, b), "was not made from this run's rows"),
    "rows and origin of another run": (
        "whitebox", lambda a, b: (swap(a, b), swap(a.with_suffix(".json"), b.with_suffix(".json"))),
        "was not made from this run's run",
    ),
    "cut to clean": (
        "autoattack", lambda a, b: cut(a, lambda r: r[r["attack"] == "clean"]), "under apgd-ce",
    ),
    "cut in half": ("autoattack", lambda a, b: cut(a, lambda r: r[: len(r) // 2]), "account for"),
    "one image lost": ("autoattack", lambda a, b: cut(a, lambda r: r.drop(index=0)), "its protocol names"),
    "an image twice": ("autoattack", lambda a, b: cut(a, lambda r: pd.concat([r, r[20:21]])), "under apgd-ce"),
    "a foreign image": (
        "autoattack", lambda a, b: cut(a, lambda r: r.replace({"index": {19: 23}, "label": {9: 3}})),
        "other labels",
    ),
    "an attack of nobody": (
        "autoattack", lambda a, b: cut(a, lambda r: r.replace("square", "cube")), "no part of AutoAttack",
    ),
    "header only": ("whitebox", lambda a, b: cut(a, lambda r: r[:0]), "every image once under clean"),
    "ten images": ("whitebox", lambda a, b: cut(a, lambda r: r[r["index"] < 10]), "every image once"),
    "correct is 9": ("whitebox", lambda a, b: cut(a, lambda r: r.replace({"correct": {1: 9}})), "0 nor 1"),
    "correct is half": (
        "whitebox", lambda a, b: cut(a, lambda r: r.replace({"correct": {1: 0.5}})), "0 nor 1",
    ),
    "nan": ("whitebox", lambda a, b: cut(a, lambda r: r.replace({"correct": {0: None}})), "no numbers"),
    "labels rolled": ("whitebox", lambda a, b: cut(a, lambda r: r.assign(label=np.roll(r["label"], 1))), "labels"),
    "an image beyond": (
        "whitebox", lambda a, b: cut(a, lambda r: r.replace({"index": {23: 24}, "label": {3: 4}})), "beyond",
    ),
    "no image": ("whitebox", lambda a, b: cut(a, lambda r: r.replace({"index": {3: 3.5}})), "is none"),
    "negative": ("whitebox", lambda a, b: cut(a, lambda r: r.replace({"index": {23: -1}})), "beyond"),
    "no label": ("whitebox", lambda a, b: cut(a, lambda r: r.drop(columns="label")), "lacks columns"),
    "rubbish": ("whitebox", lambda a, b: a.write_bytes(os.urandom(400)), "rows"),
    "empty": ("whitebox", lambda a, b: a.write_text(""), "rows"),
    "lost": ("whitebox", lambda a, b: a.unlink(), "is not there"),
    "steps of nothing": ("steps", lambda a, b: cut(a, lambda r: r[:0]), "has no rows"),
    "a loss that is none": ("steps", lambda a, b: cut(a, lambda r: r.replace(1.75, np.nan)), "no numbers"),
    "an endless loss": ("surfaces", lambda a, b: cut(a, lambda r: r.replace(1.5, np.inf)), "no numbers"),
}  # fmt: skip


def cut(path: Path, change) -> None:
    """Change the rows, and name the new ones as if they had been written so: their completeness must tell."""
    change(pd.read_csv(path)).to_csv(path, index=False)
    about = seals.read(path.with_suffix(".json"))
    seals.write(path.with_suffix(".json"), {**about, "rows": seals.sha256(path)})


@pytest.mark.parametrize("what", EVALUATIONS)
def test_an_evaluation_that_is_not_whole_or_of_this_run_is_left_out_alone(folder, what):
    name, damage, rule = EVALUATIONS[what]
    damage(*(folder / f"runs/{run}/eval/{name}.csv" for run in (ONE, TWO)))
    metrics, problems = gathered(folder)
    gone = {"whitebox": EVALUATED, "autoattack": {"aa"}, "steps": {"robust_train_loss"}, "surfaces": set()}[name]
    assert not metrics[ONE] & gone and metrics[ONE] >= (EVALUATED | {"aa", "robust_train_loss", "ratio"}) - gone
    mine = problems[problems["run"] == ONE]
    assert mine["file"].tolist() == [f"eval/{name}.csv"] and rule in mine["rule"].iloc[0]
    assert f"python -m fastat evaluate --run {ONE}" in mine["way_out"].iloc[0]


def test_rows_in_the_folder_of_a_diverged_run_are_of_another_training(folder):
    """It finished and was attacked, its recipe changed, and it was trained again."""
    path = folder / f"runs/{ONE}/run.json"
    seals.write(path, seals.read(path) | {"status": "diverged", "cause": "loss nan"})
    left = {f"eval/{name}.csv" for name in ("whitebox", "autoattack", "steps", "surfaces")}
    metrics, problems = gathered(folder)
    assert set(problems["file"]) == left and "diverged" in metrics[ONE] and not metrics[ONE] & EVALUATED
    assert problems["rule"].str.contains("has rows, of another training").all()
    assert results.read(folder).left_out == {(ONE, file) for file in left}  # no figure is drawn from them
    for suite, (columns, *_) in fabricate.evaluations(12).items():
        fabricate.evaluation(path.parent, suite, [columns])  # as `evaluate` writes them
    assert gathered(folder)[1].empty and verify.Checker(folder).check(ONE).evaluations


def test_what_was_attacked_by_hand_of_a_training_on_a_subset_is_of_its_weights(folder):
    name = ONE.replace("paper", "paper_d1_2")
    run = fabricate.finished(folder, name)
    assert gathered(folder)[1].empty
    edited(run / "eval/steps.csv", "1.75", "1.5")
    metrics, problems = gathered(folder)
    assert problems["file"].tolist() == ["eval/steps.csv"] and "this run's rows" in problems["rule"][0]
    assert not metrics[name] & EVALUATED


def test_an_evaluation_is_of_these_weights_and_data(folder):
    for key, value in (("weights", "0" * 64), ("data", "0" * 64), ("run", TWO)):
        path = folder / f"runs/{ONE}/eval/autoattack.json"
        good = seals.read(path)
        seals.write(path, {**good, key: value})
        metrics, problems = gathered(folder)
        assert "aa" not in metrics[ONE] and f"this run's {key}" in problems["rule"][0]
        seals.write(path, good)
    assert gathered(folder)[1].empty


def test_a_folder_copied_to_another_place_is_no_run_of_that_place(folder):
    tiny, cifar = "digits/preact_tiny", "cifar10/preact_resnet18/eps8/atas/paper/seed0"
    for place in (cifar, *(f"{tiny}/{one}" for one in ("eps102/atas/paper/seed0", "eps77/atta/paper/seed7"))):
        shutil.copytree(folder / "runs" / ONE, folder / "runs" / place)
        metrics, problems = gathered(folder)
        assert metrics[place] == set() and problems["rule"].tolist() == ["is of another run"], place
        shutil.rmtree(folder / "runs" / place)
    shutil.copytree(folder / "runs" / ONE, folder / "runs" / f"{ONE}_old")
    _, problems = gathered(folder)
    assert problems["rule"].tolist() == ["lies where no run is"] and problems["run"].tolist() == [f"{ONE}_old"]


def test_a_renamed_run_json_does_not_fit_its_fingerprint(folder):
    for key, value in (("run", TWO), ("data_sha256", "f" * 64), ("recipe", {"epochs": 2, "n_train": 30, "n_test": 24})):
        path = folder / f"runs/{TWO}/run.json"
        shutil.copytree(folder / f"runs/{ONE}", folder / f"runs/{TWO}", dirs_exist_ok=True)
        seals.write(path, {**seals.read(path), "run": TWO, key: value})
        metrics, problems = gathered(folder)
        assert metrics[TWO] == set() and len(problems) == 1, key


def test_two_seeds_do_not_have_the_same_weights(folder):
    path = folder / f"runs/{TWO}/run.json"
    shutil.copy(folder / f"runs/{ONE}/weights.safetensors", folder / f"runs/{TWO}")
    about = seals.read(path)
    about["files"]["weights.safetensors"] = seals.sha256(path.parent / "weights.safetensors")
    seals.write(path, about)
    with pytest.raises(Exception, match="has the weights of another seed"):
        gathered(folder)


def test_data_that_changed_since_are_not_the_runs_data(folder):
    fabricate.data(folder, seed=1)
    with pytest.raises(Exception, match="is of other data than results/data holds"):
        gathered(folder)
    (folder / "data/digits.safetensors").unlink()
    other = fabricate.finished(folder / "elsewhere", ONE.replace("seed0", "seed2"))
    shutil.copytree(other, folder / "runs" / ONE.replace("seed0", "seed2"))
    assert gathered(folder)[1].empty  # nobody can compare, and all agree
    path = folder / "runs" / TWO / "run.json"
    about = seals.read(path) | {"data_sha256": "f" * 64}
    seals.write(path, {key: value for key, value in about.items() if key != "made_from"})
    metrics, problems = gathered(folder)
    rules = problems.set_index("file")["rule"]
    assert metrics[TWO] == set() and rules["run.json"] == "is of other data than its neighbours"


def test_labels_are_read_where_the_data_are_and_what_is_damaged_there_is_a_problem_of_the_evaluation(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(fabricate, "N_TEST", 30)  # as many as there are training images
    folder = fabricate.finished(tmp_path / "results", ONE.replace("atas/paper", "external/theirs_train"), part="train")
    fabricate.as_checkpoint(folder)
    name = str(folder.relative_to(tmp_path / "results/runs"))
    (tmp_path / "results/data").rename(tmp_path / "elsewhere")
    checker = verify.Checker(tmp_path / "results", prepared_in=tmp_path / "elsewhere")
    run = checker.check(name)
    assert set(run.rows) == {"whitebox", "surfaces", "steps", "autoattack"} and not run.problems + run.unverified
    (tmp_path / "elsewhere/digits.safetensors").write_bytes(b"damaged since")
    run = checker.check(name)
    assert {problem.rule for problem in run.problems} == {"is of data that are damaged"}
    assert [problem.file for problem in run.problems] == ["eval/whitebox.csv", "eval/autoattack.csv"]


def test_the_folder_of_a_checkpoint_goes_only_if_its_run_json_or_weights_are_wrong(tmp_path):
    folder = fabricate.finished(tmp_path, ONE.replace("atas/paper", "external/theirs"))
    fabricate.as_checkpoint(folder)
    name = str(folder.relative_to(tmp_path / "runs"))
    (folder / "eval/steps.csv").unlink()
    (problem,) = verify.Checker(tmp_path).check(name).problems
    again = "its `python -m fastat evaluate --weights FILE ...` again (docs/checkpoints.md)"
    assert problem.way_out == f"Run {again}"
    flipped(folder / "weights.safetensors")
    (problem,) = verify.Checker(tmp_path).check(name).problems
    assert problem.file == "weights.safetensors"
    assert problem.way_out == f"Remove the folder, and run {again}"


def asked_for(results: Path) -> dict:
    """A config of ONE and TWO, which are there as it asks."""
    config = load_config()
    config = config | {"grid": [config["grid"][0] | {"eps": "77/255", "method": "atas", "seed": [0, 1]}]}
    wanted = json.loads(json.dumps(verify.Checker(results, config).recipe(verify.RunSpec.parse(ONE))))
    wanted.pop("numerics")
    recipe = wanted | {"n_train": 30, "n_test": fabricate.N_TEST, "epochs": 2}
    config["recipes"] = {"digits": {"every": {"n_train": 30, "n_test": fabricate.N_TEST, "epochs": 2}}}
    config["evaluation"] = config["evaluation"] | {"autoattack": {"n_images": 20, "batch_size": 50}}
    for name in (ONE, TWO):
        fabricate.finished(results, name, **recipe)
    return config


def test_the_config_says_what_the_runs_should_be(tmp_path):
    config = asked_for(tmp_path)
    assert gathered(tmp_path, config)[1].empty
    other = config | {"recipes": {"digits": {"every": config["recipes"]["digits"]["every"] | {"epochs": 3}}}}
    with pytest.raises(Exception, match="is of another recipe than the config's .epochs is 2, the config says 3"):
        gathered(tmp_path, other)
    for change, gone in (({"autoattack": {"n_images": 10, "batch_size": 50}}, "aa"), ({"pgd_restarts": 2}, "pgd50")):
        metrics, problems = gathered(tmp_path, config | {"evaluation": config["evaluation"] | change})
        assert gone not in metrics[ONE] and set(problems["rule"]) == {"is of another protocol than the config's"}
    metrics, problems = gathered(tmp_path, config | {"numerics": "native"})
    assert problems.empty
    more = config | {"grid": [config["grid"][0] | {"seed": [0, 1, 2]}]}
    metrics, problems = gathered(tmp_path, more)
    assert metrics[ONE] and problems["found"].tolist() == ["the run has not been trained, or not to its end"]


def test_rows_of_autoattack_are_missed_only_where_a_config_asks_for_them(tmp_path):
    config = asked_for(tmp_path)
    block = config["grid"][0]
    without = config | {"grid": [block | {"seed": 0, "autoattack": False}, block | {"seed": 1}]}

    def problems(config=None):
        return list(gathered(tmp_path, config)[1][["run", "file", "rule"]].itertuples(index=False, name=None))

    assert "aa" not in gathered(tmp_path, without)[0][ONE]  # though it is there: of some other config
    for ending in ("csv", "json"):
        (tmp_path / f"runs/{ONE}/eval/autoattack.{ending}").unlink()
    missed = [(ONE, "eval/autoattack.csv", "is not there")]
    assert problems() == missed and problems(config) == missed and problems(without) == []
    (tmp_path / "config.json").write_text("damaged")
    assert problems() == missed
    (tmp_path / "config.json").write_text(json.dumps(without))
    assert problems() == []
    metrics, _ = gathered(tmp_path, without)
    assert "aa" in metrics[TWO] and metrics[TWO] > metrics[ONE] >= EVALUATED


def test_what_nothing_can_be_held_against_is_unverified(folder):
    (folder / f"runs/{ONE}/weights.safetensors").unlink()
    path = folder / f"runs/{TWO}/run.json"
    about = seals.read(path)
    path.write_text(json.dumps({key: value for key, value in about.items() if key not in ("files", "seal")}))
    for sidecar in path.parent.glob("eval/*.json"):
        sidecar.unlink()
    tidy.write_all(folder, folder)
    found = results.read(folder)
    assert found.problems.empty and found.runs["unverified"].tolist() == [1, 1]
    assert any("2 of 2 runs are unverified" in note for note in found.notes)
    assert results.cells(found.runs, ["aa"])["unverified"].tolist() == [2]


def packed(folder: Path, name: str, **changes) -> None:
    """Take weights and data away, as an archive does that says what they were."""
    run = folder / "runs" / name
    files = {"weights.safetensors": seals.sha256(run / "weights.safetensors")}
    data = prepared.header(folder / "data/digits.safetensors")["sha256"]
    seals.write(run / "packed.json", {"run": name, "files": files, "data": data, **changes})
    (run / "weights.safetensors").unlink()


def test_what_an_archive_left_out_is_said_and_the_tables_are_the_same(folder, capsys):
    tidy.write_all(folder, folder)
    before = [(folder / file).read_bytes() for file in ("measured.csv", "correct.csv", "evidence.jsonl")]
    packed(folder, ONE), packed(folder, TWO)
    (folder / "data/digits.safetensors").unlink()
    assert main(["verify", "--results", str(folder), "--all"]) == 0
    said = "ok; not here, but whole when it was packed: its data, weights.safetensors"
    assert capsys.readouterr().out.splitlines() == [f"{ONE}: {said}", f"{TWO}: {said}"]
    tidy.write_all(folder, folder)
    assert [(folder / file).read_bytes() for file in ("measured.csv", "correct.csv", "evidence.jsonl")] == before


@pytest.mark.parametrize(
    "changes,said",
    [
        ({"files": {"weights.safetensors": "f" * 64}}, "weights.safetensors is not there"),
        ({"files": {}}, "weights.safetensors is not there"),
        ({"files": [1]}, "packed.json is of another run; weights.safetensors is not there"),
        ({"run": TWO}, "packed.json is of another run; weights.safetensors is not there"),
        ({"seal": "x"}, "weights.safetensors is not there"),
    ],
)
def test_an_archive_s_word_counts_for_no_other_weights(folder, changes, said, capsys):
    packed(folder, ONE, **changes)
    if "seal" in changes:
        edited(folder / f"runs/{ONE}/packed.json", '"data": "', '"data": "0')
        said = f"packed.json is damaged; {said}"
    assert main(["verify", "--results", str(folder), ONE]) == 0
    assert capsys.readouterr().out == f"{ONE}: unverified: {said}\n"


def test_an_archive_s_word_counts_for_no_other_data(folder, capsys):
    packed(folder, ONE, data="f" * 64)
    (folder / "data/digits.safetensors").unlink()
    assert main(["verify", "--results", str(folder), ONE]) == 0
    shown = "unverified: its data are not there; not here, but whole when it was packed: weights.safetensors"
    assert capsys.readouterr().out == f"{ONE}: {shown}\n"


def test_the_verb_says_ok_or_what_is_wrong(folder, capsys):
    call = ["verify", "--results", str(folder)]
    assert main([*call, "--all"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{ONE}: ok", f"{TWO}: ok"]
    flipped(folder / f"runs/{TWO}/weights.safetensors")
    assert main([*call, ONE]) == 0
    assert main([*call, "--all"]) == 1
    shown = capsys.readouterr().out
    assert f"{TWO}/weights.safetensors is not what this run wrote" in shown and f"{ONE}: ok" in shown
    assert main(call) == 2 and main([*call, "--all", ONE]) == 2 and main([*call, "digits"]) == 2
    assert main(["verify", "--results", str(folder / "nowhere"), "--all"]) == 2


@pytest.mark.parametrize(
    "key,value",
    [("files", "x"), ("files", {"weights.safetensors": [1]}), ("versions", 1), ("collapse", []), ("n_parameters", "9")],
)
def test_what_run_json_says_is_of_the_right_kind(folder, key, value, capsys):
    path = folder / f"runs/{ONE}/run.json"
    seals.write(path, {**seals.read(path), key: value})
    assert main(["verify", "--results", str(folder), ONE]) == 1
    assert (
        f"run.json has a {'weights.safetensors' if value == {'weights.safetensors': [1]} else key} that is no"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("key,value", [("protocol", {"autoattack": 0}), ("numerics", []), ("versions", 1.5)])
def test_what_an_evaluation_says_is_of_the_right_kind(folder, key, value, capsys):
    path = folder / f"runs/{ONE}/eval/autoattack.json"
    seals.write(path, {**seals.read(path), key: value})
    assert main(["verify", "--results", str(folder), ONE]) == 1
    assert "eval/autoattack.csv has a" in capsys.readouterr().out


def test_a_large_file_is_read_once_until_it_changes(folder, monkeypatch):
    read = []
    monkeypatch.setattr(seals, "sha256", lambda path, sha256=seals.sha256: read.append(path.name) or sha256(path))
    gathered(folder)
    assert sorted(read) == ["instances.safetensors"] * 2 + ["weights.safetensors"] * 2
    read.clear()
    gathered(folder)
    assert read == []
    tidy.write_all(folder, folder, full=True)
    assert len(read) == 4
    flipped(folder / f"runs/{TWO}/weights.safetensors")
    assert gathered(folder)[1]["run"].tolist() == [TWO]
    (folder / ".hashes.json").write_text("rubbish")
    assert gathered(folder)[1]["run"].tolist() == [TWO]


@pytest.mark.parametrize(
    "old,new,rule",
    [
        ("0.25,2.5", "nan,2.5", "are no accuracies"),
        ("0.25,2.5", "1.25,2.5", "are no accuracies"),
        ("0.25,2.5", "x,2.5", "are no accuracies"),
        ("\n2,1.0", "\n3,1.0", "one row per epoch"),
        ("\n2,1.0,0.75,0.5,0.25,2.5", "", "other epochs than were trained"),
        ("pgd10_acc", "pgd_acc", "lacks columns"),
    ],
)
def test_a_log_has_a_row_per_epoch_with_accuracies(folder, old, new, rule):
    run = folder / "runs" / ONE
    edited(run / "log.csv", old, new)
    about = seals.read(run / "run.json")
    about["files"]["log.csv"] = seals.sha256(run / "log.csv")
    seals.write(run / "run.json", about)
    metrics, problems = gathered(folder)
    assert metrics[ONE] == set() and problems["file"].tolist() == ["log.csv"] and rule in problems["rule"][0]
