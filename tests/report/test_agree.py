"""Do two folders' runs agree? Made-up results, the same, rounded differently, of another recipe, damaged."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fastat import ROOT
from fastat.cli import main
from fastat.errors import BadInput
from fastat.report import agree, docs, kept, statistics
from tests import fabricate

WHO = fabricate.runs(12, 3)
ATAS = "digits/preact_tiny/eps8/atas/paper/seed0"
ATAS_RUN = ("digits", "preact_tiny", "8/255", "atas", "paper", "0")
Change = Callable[[dict[str, Any]], None]


def told(about: dict[str, Any], weights: str = "") -> dict[str, Any]:
    """A run.json as it is written now: numerics, machine, sha256 of the weights, the evaluations' sidecars."""
    hashed = {"weights.safetensors": weights + about["run"]}
    sidecar = {"weights": weights + about["run"], "protocol": {"pgd_restarts": 1}, "numerics": "portable"}
    return {
        **about, "data_sha256": "d" * 64, "numerics": "portable", "files": hashed, "machine": {"processor": "One"},
        "evaluations": {"whitebox": dict(sidecar), "autoattack": dict(sidecar)},
    }  # fmt: skip


def write(folder: Path, who=WHO, seed: int = 0, weights: str = "", old: bool = False, change: Change | None = None):
    """A results folder. seed: of the verdicts; weights: what makes theirs other ones; old: without what `told` adds."""
    fabricate.write(folder, who, surfaces_of=0)
    fabricate.correct(who, seed=seed).to_csv(folder / "correct.csv", index=False)
    put(folder, "collapsed_at_end", {f"{run[3]}/{run[5]}": "0" for run in who})
    lines = [about if old else told(about, weights) for about in fabricate.evidence(who)]
    for about in lines:
        if change:
            change(about)
    (folder / "evidence.jsonl").write_text("".join(json.dumps(about) + "\n" for about in lines))
    return folder


def weaken(folder: Path, by: int, only: str = "") -> None:
    """Take `by` images from what every network (of the method `only`) gets right under every attack."""
    rows = pd.read_csv(folder / "correct.csv", dtype=str)
    for k, row in rows.iterrows():
        if only in ("", row["method"]):
            right = statistics.unpacked(row["bits"], int(row["n"]))
            right[np.flatnonzero(right)[:by]] = False
            rows.loc[k, "bits"] = fabricate.bits(right)
    rows.to_csv(folder / "correct.csv", index=False)


def put(folder: Path, metric: str, values: dict[str, Any]) -> None:
    """Set a metric of the runs called `method/seed`."""
    rows = pd.read_csv(folder / "measured.csv", dtype=str)
    for name, value in values.items():
        method, seed = name.split("/")
        rows.loc[(rows["method"] == method) & (rows["seed"] == seed) & (rows["metric"] == metric), "value"] = value
    rows.to_csv(folder / "measured.csv", index=False)


def answer(tmp_path: Path, alike: bool = False) -> tuple[int, list[str]]:
    """Exit code and lines for the folders `here` and `there`."""
    found = agree.compare(tmp_path / "here", tmp_path / "there", alike)
    return found.exit_code, agree.described(found)


def test_the_same_runs_agree_bit_for_bit_in_four_lines(tmp_path):
    write(tmp_path / "here")
    write(tmp_path / "there", change=lambda about: about.update(train_seconds=1e9, peak_memory_mb=1.0))
    code, lines = answer(tmp_path)
    assert code == 0 and lines[-1] == "bit for bit: all 36 runs." and len(lines) == 4
    assert lines[0] == f"here: {tmp_path / 'here'} (portable, One, torch made-up)"


def test_what_docs_keeps_says_the_same_as_the_folder_that_it_was_taken_from(tmp_path):
    write(tmp_path / "here", seed=1, weights="x")
    write(tmp_path / "results")
    kept.write(kept.load(tmp_path / "results"), tmp_path / "there")
    assert sum(path.stat().st_size for path in (tmp_path / "there").iterdir()) < 1000 * len(WHO)
    of_kept = answer(tmp_path)
    (tmp_path / "there").rename(tmp_path / "kept")
    (tmp_path / "results").rename(tmp_path / "there")
    assert of_kept == answer(tmp_path)
    both = (kept.load(tmp_path / name) for name in ("kept", "there"))
    one, other = ({"facts": side.facts, "recipes": side.recipes, "runs": set(side.verdicts)} for side in both)
    assert one == other


def test_of_several_kept_tiers_the_smallest_that_has_most_of_the_runs_is_compared_with(tmp_path):
    for name, who in (("all", WHO), ("some", WHO[:9]), ("few", WHO[:3])):
        write(tmp_path / name, who=who)
        kept.write(kept.load(tmp_path / name), tmp_path / "kept" / name)
    for name in ("all", "some", "few"):
        found = agree.compare(tmp_path / name, tmp_path / "kept")
        assert found.there.folder == tmp_path / "kept" / name and agree.described(found)[-1].startswith("bit for bit")
    (tmp_path / "kept/few/runs.csv").write_text("damaged\n")
    with pytest.raises(BadInput, match="kept/few: runs.csv lacks the column run. Take it again: python -m fastat docs"):
        agree.compare(tmp_path / "some", tmp_path / "kept")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="empty has neither measured.csv"):
        agree.compare(tmp_path / "some", tmp_path / "empty")


def test_other_rounding_is_within_noise(tmp_path):
    write(tmp_path / "here")
    write(tmp_path / "there", seed=1, weights="x", change=lambda about: about.update(numerics="native"))
    code, lines = answer(tmp_path)
    assert code == 0 and lines[-1].startswith("within noise: 36 of 36 runs; 0 bit for bit, 0 with every verdict equal")
    assert any(line.split()[:2] == ["digits/preact_tiny", "atas"] for line in lines)
    assert any(line.startswith("seeds of a cell lie so many points apart") for line in lines)
    assert not any("promise" in line for line in lines)


def test_another_learning_rate_differs_and_is_named(tmp_path):
    def faster(about):
        if "/atas/" in about["run"]:
            about["recipe"]["schedule"]["lr"] = 0.2

    write(tmp_path / "here", change=faster)
    write(tmp_path / "there")
    code, lines = answer(tmp_path)
    assert code == 1 and lines[-1] == "differs: 3 of 36 runs."
    assert f"differs: recipe (schedule/lr 0.2 here, 0.04 there): {ATAS} and 2 more runs" in lines
    assert len([line for line in lines if line.startswith("digits/preact_tiny ")]) == 1  # the others are bit for bit
    code, lines = answer(tmp_path, alike=True)
    assert code == 0 and lines[-1] == "bit for bit: all 33 runs."
    assert lines[2:4] == [
        "runs in both: 33, only here: 0, only there: 0", "left out, as their recipes or data are others: 3",
    ]  # fmt: skip
    write(tmp_path / "here", [run for run in WHO if run[3] == "atas"], change=faster)
    code, lines = answer(tmp_path, alike=True)
    assert code == 0
    assert lines == [f"nothing to compare: recipes or data of the 3 runs in both are others in {tmp_path / 'there'}."]


def test_numerics_is_no_part_of_the_recipe(tmp_path):
    write(tmp_path / "here", change=lambda about: about["recipe"].update(numerics="portable"))
    write(tmp_path / "there")
    assert answer(tmp_path)[0] == 0


def test_other_data_and_another_end_differ(tmp_path):
    def other(about):
        if about["run"] == ATAS:
            about["data_sha256"] = "e" * 64
        if about["run"] == ATAS.replace("seed0", "seed1"):
            about["status"] = "diverged"

    write(tmp_path / "here", change=other)
    write(tmp_path / "there")
    code, lines = answer(tmp_path)
    assert code == 1 and lines[-1] == "differs: 2 of 36 runs."
    assert any("data (eeeeeeeeeeeeeeee here, dddddddddddddddd there)" in line for line in lines)
    assert any("diverged here, finished there" in line for line in lines)


def test_a_method_that_lost_its_robustness_differs_in_its_cell(tmp_path):
    write(tmp_path / "here")
    weaken(write(tmp_path / "there", seed=1, weights="x"), by=120, only="atas")
    code, lines = answer(tmp_path)
    assert code == 1 and lines[-1] == "differs: 3 of 36 runs."
    found = [line for line in lines if line.startswith("differs: digits/preact_tiny atas at 8/255: PGD50 ")]
    assert len(found) == 1 and "(3 runs, p = " in found[0]


def test_a_small_loss_in_every_run_differs_when_they_are_taken_together(tmp_path):
    write(tmp_path / "here")
    weaken(write(tmp_path / "there", seed=1, weights="x"), by=8)
    code, lines = answer(tmp_path)
    assert code == 1 and lines[-1] == "differs: 36 runs taken together, none of them alone."
    assert any(line.startswith("differs: all runs: ") for line in lines)


def test_a_collapse_in_another_seed_is_within_noise(tmp_path):
    write(tmp_path / "here")
    weaken(write(tmp_path / "there", seed=1, weights="x"), by=120, only="atas")
    put(tmp_path / "there", "collapsed_at_end", {"atas/1": "1", "atas/2": "1"})
    code, lines = answer(tmp_path)
    assert code == 0 and lines[-1].startswith("within noise: 36 of 36 runs")


def test_the_only_seed_of_a_cell_is_not_judged_alone(tmp_path):
    who = [run for run in WHO if run[3] != "atas" or run[5] == "0"]
    write(tmp_path / "here", who)
    weaken(write(tmp_path / "there", who, seed=1, weights="x"), by=120, only="atas")
    assert answer(tmp_path)[0] == 0


def test_noise_that_nobody_knows_is_no_agreement(tmp_path):
    who = fabricate.runs(5, 1)
    write(tmp_path / "here", who)
    write(tmp_path / "there", who, seed=1, weights="x")
    code, lines = answer(tmp_path)
    assert code == 0 and lines[-1] == "not compared: none of 5 runs."
    assert any("how far seeds lie apart is not known" in line for line in lines)


def test_equal_weights_with_other_verdicts_differ_unless_they_were_evaluated_otherwise(tmp_path):
    write(tmp_path / "here")
    weaken(write(tmp_path / "there"), by=1, only="atas")
    code, lines = answer(tmp_path)
    assert code == 1 and lines[-1] == "differs: 3 of 36 runs."
    assert any(line.startswith("differs: the same weights, other verdicts: 1 images under clean") for line in lines)

    def native(about):
        for sidecar in about["evaluations"].values():
            sidecar["numerics"] = "native"

    weaken(write(tmp_path / "there", change=native), by=1, only="atas")
    code, lines = answer(tmp_path)
    assert code == 0 and lines[-1].startswith("within noise: 36 of 36 runs; 33 bit for bit")


@pytest.mark.parametrize(
    "said, code",
    [
        ({"versions": {"torch": "2.14"}, "device": "One"}, 1),
        ({"versions": {"torch": "2.15"}, "device": "One"}, 0),
        ({"versions": {"torch": "2.14"}, "device": "Two"}, 0),
        ({}, 1),
    ],
)
def test_a_native_evaluation_says_itself_with_which_torch_and_on_what_it_was_made(tmp_path, said, code):
    """The trainings' torch and processor are the same; those of an evaluation made again need not be."""

    def made_with(said):
        def change(about):
            for sidecar in about["evaluations"].values():
                sidecar |= {"numerics": "native", **said}

        return change

    write(tmp_path / "here", change=made_with({"versions": {"torch": "2.14"}, "device": "One"}))
    weaken(write(tmp_path / "there", change=made_with(said)), by=1, only="atas")
    assert answer(tmp_path)[0] == code


def test_evaluations_under_another_protocol_are_not_compared(tmp_path):
    def harder(about):
        about["evaluations"]["whitebox"]["protocol"] = {"pgd_restarts": 10}

    write(tmp_path / "here")
    weaken(write(tmp_path / "there", change=harder), by=20)
    mine, theirs = (pd.read_csv(tmp_path / name / "correct.csv") for name in ("here", "there"))
    autoattack = mine[mine["attack"] == "aa"]  # of one protocol and equal
    pd.concat([autoattack, theirs[theirs["attack"] != "aa"]]).to_csv(tmp_path / "there/correct.csv", index=False)
    code, lines = answer(tmp_path)
    assert code == 0 and lines[-1] == "bit for bit: all 36 runs; verdicts of 36 not compared."
    assert any(line.startswith("not compared: another protocol of whitebox: ") for line in lines)


def test_verdicts_that_one_side_lacks_are_said(tmp_path):
    write(tmp_path / "here")
    rows = pd.read_csv(write(tmp_path / "there") / "correct.csv")
    rows[(rows["attack"] != "aa") | (rows["method"] != "atas")].to_csv(tmp_path / "there/correct.csv", index=False)
    code, lines = answer(tmp_path)
    assert code == 0 and lines[-1] == "bit for bit: all 36 runs; verdicts of 3 not compared."
    assert lines[-2] == f"not compared: no verdicts under aa there: {ATAS} and 2 more runs"
    rows[(rows["attack"] != "aa") & (rows["attack"] != "pgd50")].to_csv(tmp_path / "here/correct.csv", index=False)
    assert f"no verdicts under pgd50 here, no verdicts under aa there: {ATAS}" not in answer(tmp_path)[1]


def test_broken_portable_numerics_are_found_with_both_hashes_and_no_difference_alone(tmp_path):
    write(tmp_path / "here")
    write(tmp_path / "there", seed=1, weights="x", change=lambda about: about["machine"].update(processor="Two"))
    code, lines = answer(tmp_path)
    assert code == 0 and "Portable numerics did not keep their promise here, the same bits everywhere:" in lines
    assert f"{ATAS}: weights {ATAS[:16]} on One here, {('x' + ATAS)[:16]} on Two there" in lines
    write(tmp_path / "there", seed=1, weights="x", change=lambda about: about["versions"].update(torch="another"))
    assert not any("promise" in line for line in answer(tmp_path)[1])


def test_evidence_without_hashes_is_compared_from_the_verdicts_on(tmp_path):
    write(tmp_path / "here", old=True)
    write(tmp_path / "there")
    code, lines = answer(tmp_path)
    assert code == 0 and lines[-1].startswith("within noise: 36 of 36 runs; 0 bit for bit, 36 with every verdict equal")
    assert len(lines) == 4
    write(tmp_path / "there", seed=1)
    assert answer(tmp_path)[1][-1].startswith("within noise: 36 of 36 runs; 0 bit for bit, 0 with every verdict equal")


def test_nothing_in_common_is_said(tmp_path):
    write(tmp_path / "here", WHO[:9])
    write(tmp_path / "there", WHO[9:])
    code, lines = answer(tmp_path)
    assert code == 0 and len(lines) == 1 and lines[0].startswith("nothing to compare: no run is in both. ")


def test_a_part_is_compared_and_the_rest_counted(tmp_path):
    write(tmp_path / "here", WHO[:9])
    write(tmp_path / "there")
    code, lines = answer(tmp_path)
    assert (
        code == 0
        and lines[2] == "runs in both: 9, only here: 0, only there: 27"
        and lines[-1] == "bit for bit: all 9 runs."
    )


def test_a_run_that_was_left_out_is_not_compared(tmp_path):
    write(tmp_path / "here")
    write(tmp_path / "there")
    rows = {name: pd.read_csv(tmp_path / f"there/{name}.csv", dtype=str) for name in ("measured", "correct")}
    for name, table in rows.items():
        rows[name] = table[(table["method"] != "atas") | (table["seed"] != "0")]
    said = pd.DataFrame(
        [[*ATAS_RUN, "left_out", "run.json is another run's"]], columns=[*fabricate.RUN, "metric", "value"]
    )
    pd.concat([rows["measured"], said]).to_csv(tmp_path / "there/measured.csv", index=False)
    rows["correct"].to_csv(tmp_path / "there/correct.csv", index=False)
    lines = (tmp_path / "there/evidence.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "there/evidence.jsonl").write_text("".join(line for line in lines if ATAS not in line))
    code, told = answer(tmp_path)
    assert (
        code == 0
        and told[-1] == "bit for bit: all 35 runs."
        and told[2] == "runs in both: 35, only here: 1, only there: 0"
    )


@pytest.mark.parametrize("file", ["measured.csv", "correct.csv", "evidence.jsonl"])
@pytest.mark.parametrize("side", ["here", "there"])
def test_a_missing_or_damaged_file_of_a_results_folder_is_refused(tmp_path, file, side):
    for name in ("here", "there"):
        write(tmp_path / name, WHO[:6])
    path = tmp_path / side / file
    for content in (path.read_text()[: path.stat().st_size // 2], "\0\1", "", None):
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(BadInput, match=side):
            agree.compare(tmp_path / "here", tmp_path / "there")


DAMAGES = [
    ("runs.csv", "seed1", "seed01x", "a run is named"),
    ("runs.csv", "seed1", "seed0", "twice"),
    ("runs.csv", ",aa", ",bb", "lacks the columns aa"),
    ("runs.csv", "seed2,", "seed2,,,", "cannot be read"),
    ("recipes.csv", ",0.04", ",0.05", "is not the fingerprint of its row"),
    ("recipes.csv", "recipe", "recept", "lacks the column recipe"),
    ("correct.csv", ",200,", ",100,", "damaged or there twice"),
    ("correct.csv", "bits", "bytes", "lacks the columns bits"),
    ("correct.csv", "seed", "sead", "lacks the columns seed"),
    ("correct.csv", ",paper,2,", ",paper,7,", "which runs.csv lacks"),
]


@pytest.mark.parametrize(("file", "old", "new", "reason"), DAMAGES)
def test_a_damaged_file_of_what_was_kept_is_refused(tmp_path, file, old, new, reason):
    write(tmp_path / "here", WHO[:6])
    kept.write(kept.load(tmp_path / "here"), tmp_path / "there")
    path = tmp_path / "there" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(BadInput, match=reason) as refused:
        agree.compare(tmp_path / "here", tmp_path / "there")
    assert "there: " in str(refused.value) and "docs --results" in str(refused.value)


@pytest.mark.parametrize("file", ["runs.csv", "recipes.csv", "correct.csv"])
def test_a_missing_or_cut_file_of_what_was_kept_is_refused(tmp_path, file):
    write(tmp_path / "here", WHO[:6])
    kept.write(kept.load(tmp_path / "here"), tmp_path / "there")
    path = tmp_path / "there" / file
    for content in (path.read_text()[: path.stat().st_size // 2], "", None):
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(BadInput):
            agree.compare(tmp_path / "here", tmp_path / "there")


def test_an_accuracy_that_is_not_its_verdicts_is_refused(tmp_path):
    write(tmp_path / "here", WHO[:6])
    kept.write(kept.load(tmp_path / "here"), tmp_path / "there")
    table = pd.read_csv(tmp_path / "there/runs.csv", dtype=str, keep_default_na=False)
    table.loc[0, "pgd50"] = f"{float(table.loc[0, 'pgd50']) + 1:.2f}"
    table.to_csv(tmp_path / "there/runs.csv", index=False)
    with pytest.raises(BadInput, match="under pgd50 of"):
        kept.load(tmp_path / "there")
    table.loc[0, "pgd50"] = "many"
    table.to_csv(tmp_path / "there/runs.csv", index=False)
    with pytest.raises(BadInput, match="is no number: 'many'"):
        kept.load(tmp_path / "there")


@pytest.mark.parametrize("value", [None, 3, "x", [1], {}, {"weights.safetensors": [1]}])
def test_evidence_of_another_shape_is_unknown_and_no_traceback(tmp_path, value):
    def odd(about):
        about.update(files=value, machine=value, versions=value, evaluations=value, recipe=value, numerics=value)

    write(tmp_path / "here", WHO[:6], change=odd)
    write(tmp_path / "there", WHO[:6])
    assert agree.described(agree.compare(tmp_path / "here", tmp_path / "there"))


def test_the_verb_exits_with_one_for_a_difference_alone_and_two_for_bad_input(tmp_path, capsys):
    write(tmp_path / "here")
    write(tmp_path / "there")
    call = ["agree", "--results", str(tmp_path / "here"), "--with", str(tmp_path / "there")]
    assert main(call) == 0 and capsys.readouterr().out.endswith("bit for bit: all 36 runs.\n")
    write(tmp_path / "there", change=lambda about: about["recipe"].update(epochs=7))
    assert main(call) == 1 and capsys.readouterr().out.endswith("differs: 36 of 36 runs.\n")
    assert main([*call[:-1], str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_agree_leaves_torch_unloaded(tmp_path):
    write(tmp_path / "here", WHO[:3])
    code = "import sys; from fastat.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    call = ["agree", "--results", str(tmp_path / "here"), "--with", str(tmp_path / "here")]
    assert subprocess.run([sys.executable, "-c", code, *call], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in docs.RESULTS.glob("*/tier.json")), ids=lambda path: path.name
)
def test_the_documentations_runs_can_be_compared_with_and_are_those_of_its_tables(folder):
    found = kept.load(folder)
    assert agree.judge(found, found).exit_code == 0
    table = pd.read_csv(folder / "supplement.csv").set_index(["dataset", "model", "eps", "method", "variant"])
    parts = [name.split("/")[:5] for name in found.runs.index]
    keys = [(dataset, model, f"{eps[3:]}/255", *rest) for dataset, model, eps, *rest in parts]
    means = found.runs[["clean", "pgd50", "aa"]].groupby(pd.MultiIndex.from_tuples(keys)).mean()
    assert all("_d" in variant for *_, variant in means.index.difference(table.index))
    attacked, shown = means.dropna(how="all"), table[["clean", "pgd50", "aa"]].dropna(how="all")
    assert set(attacked.index) == set(shown.index)  # of a tier that is not whole some cells are trained alone
    assert np.allclose(attacked, table.loc[attacked.index, ["clean", "pgd50", "aa"]], atol=0.0051, equal_nan=True)
