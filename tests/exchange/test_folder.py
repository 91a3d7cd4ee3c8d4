"""A run as a folder: it works without fastat, says what it is, and comes back as the same run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fastat import ROOT
from fastat.cli import main
from fastat.config import catalog
from fastat.config.grid import load_config, protocol_for
from fastat.config.spec import RunSpec
from fastat.exchange import card
from fastat.machine import seals
from fastat.networks import models
from fastat.report import verify
from tests import fabricate
from tests.exchange.conftest import RUN, diverge, with_network


def export(results: Path, out: Path, *more: str, run: str = RUN) -> int:
    return main(["export", run, "--results", str(results), "--out", str(out), *more])


def take_in(folder: Path, results: Path) -> int:
    return main(["import", str(folder), "--results", str(results)])


def contents(folder: Path) -> dict[str, bytes]:
    """Path -> content of every file, but locks."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def exported(results, tmp_path, capsys) -> Path:
    """The run, exported."""
    assert export(results, tmp_path / "out") == 0
    capsys.readouterr()
    return tmp_path / "out"


# What is in it


def test_the_same_run_gives_the_same_bytes_and_sha256sum_accepts_them(results, exported, tmp_path, capsys):
    assert export(results, tmp_path / "again") == 0
    assert "load.py gives the logits of fastat to the last bit" in capsys.readouterr().out
    assert contents(exported) == contents(tmp_path / "again")
    assert {path.split("/")[0] for path in contents(exported)} == {
        "README.md", "load.py", "network.py", "robustbench.json", "CITATION.bib", "LICENSE", "SHA256SUMS", "evidence",
        "weights.safetensors", "weights.pt",
    }  # fmt: skip
    subprocess.run(["sha256sum", "-c", "--quiet", "--strict", "SHA256SUMS"], cwd=exported, check=True)
    listed = {line.split("  ")[1] for line in (exported / "SHA256SUMS").read_text().splitlines()}
    assert listed == contents(exported).keys() - {"SHA256SUMS"}
    assert (
        contents(exported / "evidence").items()
        >= {
            path: content for path, content in contents(results / "runs" / RUN).items() if path != "weights.safetensors"
        }.items()
    )
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


ALONE = """
import sys
sys.modules["fastat"] = sys.modules["methods"] = sys.modules["pandas"] = None  # an import of them fails
import torch
import runpy
load = runpy.run_path(sys.argv[1] + "/load.py")["load"]
x = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(3))
with torch.no_grad():
    torch.save([load(name)(x) for name in sys.argv[3:]], sys.argv[2])
"""


def alone(folder: Path, empty: Path, *names: str) -> list[torch.Tensor]:
    """The logits that load.py gives in a process of its own, in an empty folder, without fastat."""
    empty.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [sys.executable, "-I", "-W", "error", "-c", ALONE, str(folder), str(empty / "logits.pt"), *names]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return torch.load(empty / "logits.pt", weights_only=True)


def test_without_fastat_it_gives_the_logits_to_the_last_bit(results, exported, tmp_path):
    found = alone(exported, tmp_path / "empty", "weights.pt", "weights.safetensors")
    ours = models.build("preact_tiny", 1, 10)
    ours.load_state_dict(load_file(results / "runs" / RUN / "weights.safetensors"))
    x = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = ours.to(memory_format=torch.channels_last).eval()(x.contiguous(memory_format=torch.channels_last))
    assert all(torch.equal(logits, wanted) for logits in found) and len(wanted.unique()) > 100
    state = torch.load(exported / "weights.pt", weights_only=True)
    assert type(state) is dict and state.keys() == load_file(exported / "weights.safetensors").keys()


def test_load_py_prints_what_the_card_says(exported, tmp_path):
    command = [sys.executable, "-I", str(exported / "load.py")]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert len(said.split()) == 10 and f"```text\n{said}```" in (exported / "README.md").read_text()


def test_the_best_epoch_s_weights_come_too(tmp_path):
    name = RUN.replace("atas", "fgsm_rs")
    with_network(tmp_path / "results", name, hold_out=0.1, arch="ssat")
    assert export(tmp_path / "results", tmp_path / "out", run=name) == 0
    last, best = alone(tmp_path / "out", tmp_path / "empty", "weights.pt", "best.pt")
    assert not torch.equal(last, best)
    text = (tmp_path / "out/README.md").read_text()
    assert "| best | PGD50 | 50.00 | 31.4 to 68.6 | 24 |" in text and "`best.safetensors, best.pt`" in text
    assert take_in(tmp_path / "out", tmp_path / "there") == 0
    assert (tmp_path / "there/runs" / name / "best.safetensors").exists()


def test_the_card_has_numbers_intervals_recipe_data_and_hashes(results, exported):
    text, about = (exported / "README.md").read_text(), seals.read(results / "runs" / RUN / "run.json")
    for said in (
        "# ATAS on digits at eps 77/255, seed 0",
        "Accuracy on test images.\n\n| epoch",
        "| last | PGD50 | 50.00 | 31.4 to 68.6 | 24 |",
        "| last | AutoAttack | 45.00 | 25.8 to 65.8 | 20 |",
        "Sanity: **ok**",
        '"epochs": 2',
        about["files"]["weights.safetensors"],
        about["data_sha256"],
        about["seal"],
        '- whitebox: `{"batch_size": 500, "pgd_step": "0.2 eps", "pgd_restarts": 1, "seed": 0}`, numerics native',
        "python -m fastat data --dataset digits",
    ):
        assert said in text, said
    assert "evidence of no" not in text and str(results) not in text and os.uname().nodename not in text


def test_the_card_says_that_a_network_collapsed_and_what_part_it_was_trained_on(results):
    run = verify.Checker(results).check(RUN)
    run.about |= {"epochs_done": 6, "train_seconds": 3.0}
    run.log = {"fgsm_acc": np.full(6, 0.9), "pgd10_acc": np.array([0.5, 0.5, 0.5, 0.0, 0.0, 0.0])}
    spec = RunSpec.parse(RUN)
    assert "; catastrophic overfitting from epoch 4, at the end" in card.trained(spec, run)
    run.log["pgd10_acc"][:] = 0.8
    assert "overfitting" not in card.trained(spec, run)
    part = RunSpec.parse(RUN.replace("paper", "paper_d9_10"))
    assert "Of the training images it saw D_9^10 alone." in card.data(part, run.about, "0" * 64)
    assert "it saw" not in card.data(spec, run.about, "0" * 64)


def test_on_the_card_what_others_wrote_is_no_markup(results, tmp_path):
    path = results / "runs" / RUN / "run.json"
    evil = "<script>alert(1)</script> | `x` $y$ [a](javascript:b)\n\x1b[2J"
    versions = {"fastat": evil, "torch": evil}
    seals.write(path, seals.read(path) | {"device": evil, "git_commit": evil, "versions": versions})
    assert export(results, tmp_path / "out") == 0
    text = (tmp_path / "out/README.md").read_text()
    assert "alert(1)" in text and not re.search(r"<[a-z/!]|\]\(java|\x1b", text)
    (row,) = [line for line in text.splitlines() if line.startswith("| device ")]
    assert row.count("|") == 3 and "`" not in row and "$" not in row


def test_the_card_says_of_attacks_by_name_what_they_are_and_are_not(results):
    rows = [f"square,{i},{i % 10},{int(i < 9)},{'' if i < 9 else 'square'}" for i in range(20)]
    protocol = {"attacks": {"square": {"n_images": 20, "batch_size": 50, "seed": 0}}}
    header = "attack,index,label,correct,step"
    fabricate.evaluation(results / "runs" / RUN, "attacks", [header, *rows], protocol)
    text = card.numbers(verify.Checker(results).check(RUN), "ok", [])
    assert "| last | square | 45.00 |" in text
    assert "`square`: parts of AutoAttack, not the standard, the run's eps." in text and "apgd-t" not in text


def test_the_robustbench_entry_has_facts_alone(exported):
    entry = json.loads((exported / "robustbench.json").read_text())
    assert entry == {
        "link": "https://arxiv.org/abs/2206.02417", "name": "Fast adversarial training with adaptive step size",
        "authors": "Huang, Fan, Liu, Zhang, Zhang, Salzmann, Suesstrunk, Wang", "additional_data": False,
        "number_forward_passes": 1, "dataset": "digits", "venue": "IEEE TIP 2023", "architecture": "preact_tiny",
        "eps": "77/255", "clean_acc": "100.00", "autoattack_acc": "45.00",
        "footnote": "One network, trained by fastat 0.1.0, method ATAS, seed 0. AutoAttack on 20 of 24 test images.",
    }  # fmt: skip


@pytest.mark.parametrize(
    "said,words",
    [
        ({"part": "train"}, "training images"),
        ({"protocol": "released"}, "test images with a black border (`--protocol released`)"),
    ],
)
def test_accuracies_on_other_images_are_said_to_be_and_are_none_of_robustbench_s(results, said, words):
    run = verify.Checker(results, None).check(RUN)
    run.about["recipe"] |= said
    entry = json.loads(card.robustbench_json(RunSpec.parse(RUN), run, "preact_tiny"))
    assert "clean_acc" not in entry and "autoattack_acc" not in entry
    assert f"seed 0. It was attacked on {words}: its accuracy on test images as they are is not kn" in entry["footnote"]
    assert card.numbers(run, "ok", []).startswith(f"Accuracy on {words}.\n\n| epoch | attack")


def test_a_network_of_one_s_own_needs_its_config_and_its_module(tmp_path, monkeypatch, capsys):
    nets = tmp_path / "mynets.py"
    nets.write_text(
        "from torch import nn\n\n\ndef small(n_channels, n_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64 * n_channels, n_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    name, door = "digits/mine/eps77/atas/paper/seed0", {"factory": "mynets:small"}
    folder = fabricate.finished(tmp_path / "results", name, network=door)
    save_file({"1.weight": torch.randn(10, 64), "1.bias": torch.randn(10)}, folder / "weights.safetensors")
    about = seals.read(folder / "run.json")
    about["files"]["weights.safetensors"] = seals.sha256(folder / "weights.safetensors")
    seals.write(folder / "run.json", about)
    for suite, rows in fabricate.evaluations(12).items():
        fabricate.evaluation(folder, suite, rows)
    assert export(tmp_path / "results", tmp_path / "out", run=name) == 2
    assert "No code is imported for what a file in" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert export(tmp_path / "results", tmp_path / "out", "--network", json.dumps(door), run=name) == 0
    text = (tmp_path / "out/network.py").read_text()
    assert "import mynets" in text and "mynets.small(n_channels=1, n_classes=10)" in text
    assert "the module `mynets`" in (tmp_path / "out/README.md").read_text()


# What is refused


def without_data(results):
    (results / "data/digits.safetensors").unlink()


def unfinished(results):
    (results / "runs" / RUN / "run.json").unlink()


def unevaluated(results):
    (results / "runs" / RUN / "eval/autoattack.csv").unlink()


def flipped(results):
    path = results / "runs" / RUN / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def without_weights(results):
    (results / "runs" / RUN / "weights.safetensors").unlink()


def diverged(results):
    diverge(results / "runs" / RUN)


def never_hashed(results):
    path = results / "runs" / RUN / "run.json"
    seals.write(path, {key: value for key, value in seals.read(path).items() if key != "files"})


@pytest.mark.parametrize(
    "damage,said",
    [
        (without_data, "unverified: its data are not there. Prepare it again: python -m fastat data --dataset digits"),
        (unfinished, "run.json is not there (the run has not been trained, or not to its end)"),
        (
            unevaluated,
            "autoattack.csv is not there (it was not made, or deleted). Make it again: python -m fastat eval",
        ),
        (flipped, "weights.safetensors is not what this run wrote"),
        (without_weights, "is unverified: weights.safetensors is not there"),
        (diverged, "diverged (loss nan): it has no network"),
        (never_hashed, "run.json names no files"),
    ],
)
def test_only_what_verify_finds_whole_is_exported(results, tmp_path, damage, said, capsys):
    damage(results)
    assert export(results, tmp_path / "out") == 2
    shown = capsys.readouterr().err
    assert said in shown and "Traceback" not in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results"]


def test_nothing_is_written_over(results, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name, said in (("full", "has something in it"), ("file", "a file or a link"), ("link", "a file or a link")):
        assert export(results, tmp_path / name) == 2
        assert said in capsys.readouterr().err
    assert contents(tmp_path / "full") == {"mine.txt": b"mine"} and (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert export(results, tmp_path / "empty") == 0 and export(results, tmp_path / "new/deep/out") == 0
    assert main(["export", "--out", str(tmp_path / "x")]) == 2
    assert main(["export", RUN, "--all", "--out", str(tmp_path / "x")]) == 2
    assert export(results, tmp_path / "x", "--weights") == 2
    assert export(results, tmp_path / "x", run="../../etc") == 2


def test_a_full_disk_leaves_nothing_and_says_where(results, exported, tmp_path):
    limited = 'ulimit -f 100; exec "$0" -m fastat "$@"'  # 100 blocks: less than the weights
    for words, where in (
        (["export", RUN, "--results", str(results), "--out", str(tmp_path / "new")], tmp_path / "new"),
        (["import", str(exported), "--results", str(tmp_path / "there")], tmp_path / "there"),
    ):
        call = ["bash", "-c", limited, sys.executable, *words]
        done = subprocess.run(call, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert done.returncode == 2 and f"{where}: File too large" in done.stderr, done.stderr
        assert not where.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_config_says_what_the_run_should_be(results, tmp_path, capsys):
    assert export(results, tmp_path / "out", "--configfile") == 0  # none named: whatever it says it is
    (tmp_path / "other.yaml").write_text("recipes: {digits: {atas: {epochs: 3}}}\n")
    assert export(results, tmp_path / "other", "--configfile", str(tmp_path / "other.yaml")) == 2
    assert "is of another recipe than the config's" in capsys.readouterr().err


# The way back


def test_it_comes_back_as_the_same_run_and_verify_knows_it(results, exported, tmp_path, capsys):
    there = tmp_path / "there"
    assert take_in(exported, there) == 0
    said = capsys.readouterr().out
    assert f"{RUN}: is now in {there}" in said and f"--out {there}/data/digits.safetensors" in said
    come, gone = contents(there / "runs" / RUN), contents(results / "runs" / RUN)
    assert come.pop("packed.json") and come == gone
    assert main(["verify", RUN, "--results", str(there)]) == 0
    assert capsys.readouterr().out == f"{RUN}: ok; not here, but whole when it was packed: its data\n"
    shutil.copytree(results / "data", there / "data")
    assert main(["verify", RUN, "--results", str(there)]) == 0
    assert capsys.readouterr().out == f"{RUN}: ok\n"
    assert take_in(exported, there) == 0
    assert capsys.readouterr().out == f"{RUN}: is there already\n"
    assert take_in(exported, results) == 0  # where it came from: nothing is added
    assert contents(results / "runs" / RUN) == gone
    assert not [path.name for path in there.iterdir() if path.name.startswith(".import")]


def test_it_is_exported_again_to_the_same_bytes(results, exported, tmp_path):
    assert take_in(exported, tmp_path / "there") == 0
    shutil.copytree(results / "data", tmp_path / "there/data")
    assert export(tmp_path / "there", tmp_path / "again") == 0
    assert contents(tmp_path / "again") == contents(exported)


def test_evaluated_there_it_has_the_same_verdicts_to_the_last_bit(results, tmp_path):
    protocol = json.dumps(protocol_for(load_config(), "digits"))
    call = ["evaluate", "--run", RUN, "--suite", "whitebox", "--protocol", protocol, "--device", "cpu", "--results"]
    assert main([*call, str(results)]) == 0
    assert export(results, tmp_path / "out") == 0 and take_in(tmp_path / "out", tmp_path / "there") == 0
    path = tmp_path / "there/runs" / RUN / "eval/whitebox.csv"
    rows = path.read_bytes()
    path.write_bytes(b"")
    shutil.copytree(results / "data", tmp_path / "there/data")
    assert main([*call, str(tmp_path / "there")]) == 0
    assert path.read_bytes() == rows and len(rows.splitlines()) > 150
    assert main(["verify", RUN, "--results", str(tmp_path / "there")]) == 0


def test_another_run_of_that_name_stays(exported, tmp_path, capsys):
    there = tmp_path / "there"
    with_network(there, RUN, seed=5)
    before = contents(there)
    assert take_in(exported, there) == 2
    assert "run.json is there, with another content than in" in (said := capsys.readouterr().err)
    assert "another run has that name. Nothing was imported." in said and contents(there) == before
    shutil.rmtree(there), with_network(there, RUN)
    path = there / "runs" / RUN / "eval/whitebox.json"
    seals.write(path, seals.read(path) | {"seconds": 7})  # evaluated again, to the same verdicts
    assert take_in(exported, there) == 0 and seals.read(path)["seconds"] == 7
    path.with_suffix(".csv").write_text("attack,index,label,correct\n")
    assert take_in(exported, there) == 2
    assert "whitebox.csv is there, with another content than in" in (said := capsys.readouterr().err)
    assert "it was made otherwise, or is damaged" in said
    begun = tmp_path / "begun/runs" / RUN / "state"
    begun.mkdir(parents=True)
    (begun / "state.safetensors").write_text("half")
    assert take_in(exported, tmp_path / "begun") == 2
    assert "has a training that is not finished" in capsys.readouterr().err
    assert contents(tmp_path / "begun") == {f"runs/{RUN}/state/state.safetensors": b"half"}


def test_data_of_another_content_there_are_said_first(exported, tmp_path, capsys):
    there = tmp_path / "there"
    fabricate.data(there, seed=7)
    before = contents(there)
    assert take_in(exported, there) == 2
    shown = capsys.readouterr().err
    assert "is of other data than results/data holds" in shown and "Name another --results" in shown
    assert contents(there) == before


def test_a_damaged_file_is_named_and_nothing_is_imported(exported, tmp_path, capsys):
    for name in sorted(contents(exported)):
        folder = tmp_path / "damaged"
        shutil.copytree(exported, folder)
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(
            content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
        )
        assert take_in(folder, tmp_path / "there") == 2, name
        shown = capsys.readouterr().err
        assert name in shown or name == "SHA256SUMS", shown
        path.unlink()
        assert take_in(folder, tmp_path / "there") == 2, name
        capsys.readouterr()
        assert not (tmp_path / "there").exists()
        shutil.rmtree(folder)


def resummed(folder: Path) -> None:
    """SHA256SUMS of what is there now, as whoever changed a file on purpose writes it."""
    paths = [path for path in sorted(contents(folder)) if path != "SHA256SUMS"]
    (folder / "SHA256SUMS").write_text("".join(f"{seals.sha256(folder / path)}  {path}\n" for path in paths))


def test_what_was_changed_on_purpose_does_not_pass_for_the_run(exported, tmp_path, capsys):
    rows = exported / "evidence/eval/whitebox.csv"
    rows.write_text(rows.read_text().replace("pgd50,15,5,0", "pgd50,15,5,1"))
    resummed(exported)
    assert take_in(exported, tmp_path / "there") == 2
    assert "was not made from this run's rows" in capsys.readouterr().err
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    "name", ["../../outside", "digits/../../x/eps77/atas/paper/seed0", "/tmp/x", "", "a/b", "x" * 3000]
)
def test_a_run_cannot_name_itself_out_of_the_results(exported, tmp_path, name, capsys):
    path = exported / "evidence/run.json"
    seals.write(path, seals.read(path) | {"run": name})
    resummed(exported)
    assert take_in(exported, tmp_path / "there") == 2
    assert "a run is named" in capsys.readouterr().err
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    "line,said",
    [
        ("../secret", "leads out of its folder"),
        ("/etc/passwd", "leads out of its folder"),
        ("evidence/../../secret", "leads out of its folder"),
        ("evidence//log.csv", "leads out of its folder"),
        ("./load.py", "leads out of its folder"),
        ("evidence/eval/\x1b[2Jx.csv", "leads out of its folder"),
        ("link", "is a link"),
        ("linked/log.csv", "is a link"),
        ("pipe", "is not there, or no file"),
        ("evidence/.bashrc", "which no exported run has"),
        ("evidence/state/lock", "which no exported run has"),
        ("evidence/eval/x/y.csv", "which no exported run has"),
        ("load.py", "stands there twice"),
    ],
)
def test_a_list_of_hashes_cannot_name_what_lies_elsewhere(exported, tmp_path, line, said, capsys):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (exported / "link").symlink_to(secret)
    (exported / "linked").symlink_to(exported / "evidence")
    os.mkfifo(exported / "pipe")
    for name in ("evidence/.bashrc", "evidence/state/lock", "evidence/eval/x/y.csv"):
        (exported / name).parent.mkdir(exist_ok=True)
        (exported / name).write_text("mine")
    with open(exported / "SHA256SUMS", "a") as file:
        file.write(f"{seals.sha256(secret)}  {line}\n")
    assert take_in(exported, tmp_path / "there") == 2
    shown = capsys.readouterr().err
    assert said in shown and "\x1b" not in shown and "Traceback" not in shown
    assert not (tmp_path / "there").exists()


def test_what_is_no_exported_run_is_said(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for source, said in (("nowhere", "there is no"), ("empty", "is no exported run: it has no SHA256SUMS")):
        assert take_in(tmp_path / source, tmp_path / "there") == 2
        assert said in capsys.readouterr().err
    (tmp_path / "empty/SHA256SUMS").write_text("")
    assert take_in(tmp_path / "empty", tmp_path / "there") == 2
    assert "holds no run" in capsys.readouterr().err
    assert not (tmp_path / "there").exists()


def test_an_own_data_set_s_run_comes_back_where_nobody_knows_it(results, tmp_path, capsys):
    own, name = "my_digits", RUN.replace("digits", "my_digits", 1)
    shutil.move(results / "runs/digits", results / f"runs/{own}")
    facts = {"shape": [1, 8, 8], "n_classes": 10, "n_train": 1437, "n_test": 360}
    path = results / f"runs/{name}/run.json"
    about = seals.read(path)
    kept = load_file(results / "data/digits.safetensors")
    header = {
        "dataset": own,
        "sha256": json.loads(json.dumps(catalog.metadata(results / "data/digits.safetensors")))["sha256"],
    }
    save_file(kept, results / f"data/{own}.safetensors", {**header, "facts": json.dumps(facts)})
    from fastat.config.recipe import fingerprint

    text = json.dumps(about["recipe"], sort_keys=True, separators=(",", ":"))
    seals.write(path, about | {"run": name, "data": facts, "made_from": fingerprint(name, text, about["data_sha256"])})
    for suite, rows in fabricate.evaluations(12).items():
        fabricate.evaluation(path.parent, suite, rows)
    assert export(results, tmp_path / "out", run=name) == 0
    assert take_in(tmp_path / "out", tmp_path / "there") == 0
    assert f"Prepare them with the config that names `{own}`" in capsys.readouterr().out
    assert main(["verify", name, "--results", str(tmp_path / "there")]) == 0
    assert "whole when it was packed: its data" in capsys.readouterr().out
