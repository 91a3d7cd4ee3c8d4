"""Figures from fabricated runs: their data, their pictures, and what they say where there is nothing to draw."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from fastat.errors import BadInput
from fastat.report import figure_data, figures, theory
from fastat.report.contents import FIGURE_SIDES, FIGURES
from fastat.report.figures import numbers, style
from fastat.report.figures.comparisons import ends
from fastat.report.figures.curves import along, collapsed
from fastat.report.tidy import MEASURED
from tests import fabricate

EPS = {"digits": "8/255"}


def results(folder, who, instances=True):
    """measured.csv and evidence.jsonl of these runs, and the small files of each."""
    folder.mkdir(exist_ok=True)
    seen = fabricate.measured(who) if who else pd.DataFrame(columns=MEASURED)
    seen.to_csv(folder / "measured.csv", index=False)
    (folder / "evidence.jsonl").write_text("".join(json.dumps(line) + "\n" for line in fabricate.evidence(who)))
    rng = np.random.default_rng(0)
    for k, about in enumerate(fabricate.evidence(who) if instances else ()):
        run = folder / "runs" / about["run"]
        (run / "eval").mkdir(parents=True)
        norms = (np.arange(1.0, 31)[:, None] * rng.uniform(0.9, 1.1, (30, 6))).astype(np.float16)
        lengths = {"delta_l2": np.full(30, 0.1, np.float32), "delta_linf": np.full(30, 8 / 255, np.float32)}
        save_file(
            {"grad_norm": norms, "alpha_255": (300 / norms).astype(np.float16), **lengths},
            run / "instances.safetensors",
        )
        points = fabricate.surfaces([who[k]]).drop(columns=fabricate.RUN)
        points.to_csv(run / "eval/surfaces.csv", index=False)
        if who[k][4] == "step175":
            parts = [points.assign(epoch=epoch, group=group) for epoch in (2, 3) for group in ("D1", "D10")]
            pd.concat(parts).to_csv(run / "eval/surfaces_by_epoch.csv", index=False)
        steps = [(start, a, a, 2.0, 500) for start in ("uniform", "carried") for a in (0.5, 1.0, 2.0)]
        columns = ["start", "alpha", "loss", "pgd10_loss", "n"]
        pd.DataFrame(steps, columns=columns).to_csv(run / "eval/steps.csv", index=False)
    return folder


def drawn(folder):
    """The folder, with data and pictures of all figures; of the theory few steps, its tests are in test_theory.py."""
    figure_data.write_all(folder, None, EPS, folder / "figures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theory, "HORIZONS", (20, 40))
        theory.write_csv(folder / "figures/theory.csv")
    figures.write_all(folder / "figures", folder / "drawn")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data and pictures of twelve methods at one eps, two seeds."""
    return drawn(results(tmp_path_factory.mktemp("made") / "results", fabricate.runs(12, 2)))


STEPS = [
    "pgd10/paper", "fgsm_rs/paper", "fgsm_rs/fgsm", "fgsm_rs/step100", "fgsm_rs/step175", "fgsm_rs/step175_d1_2",
    "fgsm_rs/step175_d9_10", "fgsm_adaptive/paper", "atta/paper", "atta/step100", "atta/step175", "atas/paper",
]  # fmt: skip


def named(names, seeds=2):
    """Runs of METHOD/VARIANT on digits at 8/255. Every fifth one collapses (fabricate.measured)."""
    return [("digits", "preact_tiny", "8/255", *name.split("/"), str(seed)) for name in names for seed in range(seeds)]


@pytest.fixture(scope="module")
def stepped(tmp_path_factory):
    """What Figures 1-5 need: step sizes, subsets, networks of every epoch."""
    return drawn(results(tmp_path_factory.mktemp("stepped") / "results", named(STEPS)))


def words(folder, name):
    return (folder / f"drawn/{name}.txt").read_text()


def test_a_grid_with_steps_subsets_and_snapshots_leaves_no_figure_empty_but_that_of_sweeps(stepped):
    assert [name for name in FIGURES if words(stepped, name).startswith("Nothing")] == ["sweeps"]


def test_figure_1_shows_the_landscape_of_a_run_that_ended_collapsed_and_its_curve(stepped):
    rows = pd.read_csv(stepped / "figures/fig01.csv", dtype={"seed": str})
    surface, curves = rows[rows["panel"] == "surface"], rows[rows["panel"] == "curve"]
    (who,) = set(zip(surface["variant"], surface["seed"], strict=True))
    assert who == ("fgsm", "0")  # the fifth run
    ended = curves[(curves["variant"] == who[0]) & (curves["seed"] == who[1])].sort_values("epoch")
    assert ended["value"].iloc[-1] < 2 and ended["at_end"].tolist() == [0, 0, 0, 1, 0, 0]
    assert set(zip(curves["method"], curves["variant"], strict=True)) == {
        ("pgd10", "paper"), ("fgsm_rs", "paper"), ("fgsm_rs", "fgsm"),
    }  # fmt: skip


def test_figure_1_goes_to_another_eps_only_if_nothing_collapsed_at_the_first(tmp_path):
    who = [("digits", "preact_tiny", eps, "fgsm_rs", "paper", "0") for eps in ("4/255", "8/255", "9/255", "16/255")]
    folder = results(tmp_path / "results", [*who, ("digits", "preact_tiny", "12/255", "fgsm_rs", "paper", "0")])
    figure_data.write_all(folder, None, EPS, folder / "figures")
    assert set(pd.read_csv(folder / "figures/fig01.csv")["eps"]) == {"12/255"}  # the fifth run


def test_a_checkpoint_trained_elsewhere_is_in_no_figure(tmp_path):
    who = [("digits", "preact_tiny", "8/255", "external", name, "0") for name in ("theirs", "theirs_train")]
    folder = results(tmp_path / "results", [*named(["atas/paper"]), *who])
    figure_data.write_all(folder, None, EPS, folder / "figures")
    for name in ("accuracy_by_eps", "collapse_map", "cost_robustness", "curves", "fig06", "fig07"):
        assert set(pd.read_csv(folder / f"figures/{name}.csv")["method"].dropna()) == {"atas"}, name


def test_figure_3_counts_the_collapses_on_small_and_on_large_norms(stepped):
    rows = pd.read_csv(stepped / "figures/fig03.csv")
    assert set(rows["subset"]) == {"1-2", "9-10"} and set(rows["alpha"]) == {1.75} and (rows["n_seeds"] == 2).all()
    assert rows["progress"].max() == 1 and rows.groupby("subset")["at_end"].sum().to_dict() == {"1-2": 0, "9-10": 0}
    fallen = rows.assign(for_a_while=((rows["subset"] == "9-10") & (rows["progress"] == 0.5)).astype(int))
    fallen["at_end"] = fallen["for_a_while"]
    words = "Collapsed at the end: FGSM-RS, small norms: 0 of 2, large norms: 1 of 2 (1 for a while)."
    assert words in figures.FIGURES["fig03"][0](fallen)[1]
    fallen.loc[fallen["subset"] == "9-10", "subset"] = "4-6"
    assert "small norms: 0 of 2, middle norms: 1 of 2 (1 for a while)." in figures.FIGURES["fig03"][0](fallen)[1]


def test_figures_4_and_5_find_step_sizes_in_the_recipes(stepped):
    rows = pd.read_csv(stepped / "figures/fig04.csv")
    trained = rows[(rows["panel"] == "accuracy") & (rows["method"] == "fgsm_rs")]
    assert set(zip(trained["variant"], trained["alpha"], strict=True)) == {
        ("paper", 1.25), ("step100", 1), ("step175", 1.75),
    }  # fmt: skip
    rows = pd.read_csv(stepped / "figures/fig05.csv")
    constant = rows[rows["method"].isin(["fgsm_rs", "atta"])]
    assert set(constant["variant"]) == {"step100"} and set(constant["mean_alpha_255"]) == {8}


def test_a_sweep_is_found_whatever_its_variants_are_called_and_nothing_else_is(tmp_path):
    """`step175` starts elsewhere too; `again` is `paper` under another name; `lost` has no run.json."""
    configs = {
        "paper": {"alpha": "1.25 eps"}, "unit": {"alpha": "8/255"}, "slow": {"alpha": "2 eps"},
        "step175": {"alpha": "1.75 eps", "random_start": False}, "again": {"alpha": "1.25 eps"}, "lost": {},
    }  # fmt: skip
    who = named([f"fgsm_rs/{name}" for name in configs])
    folder = results(tmp_path / "results", who)
    lines = [{**about, "config": configs[about["run"].split("/")[4]]} for about in fabricate.evidence(who)]
    kept = [line for line in lines if "/lost/" not in line["run"]]
    (folder / "evidence.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    figure_data.write_all(folder, None, EPS, folder / "figures")
    rows = pd.read_csv(folder / "figures/fig04.csv").query("panel == 'accuracy'")
    sweep = {("paper", 1.25), ("unit", 1), ("slow", 2)}
    assert set(zip(rows["variant"], rows["alpha"], strict=True)) == sweep
    rows = pd.read_csv(folder / "figures/collapse_map.csv")
    steps = rows[rows["panel"] == "step"]
    assert set(zip(steps["variant"], steps["alpha"], strict=True)) == sweep
    assert set(rows[rows["panel"] == "eps"]["variant"]) == {"paper", "step175", "again", "lost"}
    assert set(pd.read_csv(folder / "figures/fig05.csv")["variant"]) == {"unit"}


def test_a_sweep_without_paper_is_drawn_too(tmp_path):
    folder = results(tmp_path / "results", named(["atta/step100", "atta/step175", "atta/step200"], 1))
    figure_data.write_all(folder, None, EPS, folder / "figures")
    rows = pd.read_csv(folder / "figures/fig04.csv").query("panel == 'accuracy'")
    assert rows["alpha"].tolist() == [1, 1.75, 2]
    assert set(pd.read_csv(folder / "figures/accuracy_by_eps.csv")["variant"]) == {"step100", "step175", "step200"}


def test_the_collapse_map_counts_seeds_with_exact_intervals_and_leaves_diverged_runs_out(tmp_path):
    folder = results(tmp_path / "results", named(["fgsm_rs/paper", "atas/paper"], 5), instances=False)
    measured = pd.read_csv(folder / "measured.csv")
    atas = (measured["method"] == "atas") & (measured["metric"] == "diverged") & (measured["seed"] < 2)
    measured.loc[atas, "value"] = "1"
    measured.to_csv(folder / "measured.csv", index=False)
    figure_data.write_all(folder, None, EPS, folder / "figures")
    rows = pd.read_csv(folder / "figures/collapse_map.csv").query("panel == 'eps'").set_index("method")
    columns = ["k", "at_end", "for_a_while", "n", "diverged"]
    assert rows.loc["fgsm_rs", columns].tolist() == [1, 1, 0, 5, 0]
    assert rows.loc["atas", columns].tolist() == [1, 1, 0, 3, 2]
    # Clopper-Pearson of 1 of 5: 0.5 % to 71.6 %
    assert rows.loc["fgsm_rs", ["low", "high"]].tolist() == pytest.approx([0.00505, 0.71642], abs=1e-5)


@pytest.fixture
def diverged(tmp_path):
    """The last seed of FGSM-RS, collapsed before, the first of ATAS, and the only one of ATTA, after three epochs."""
    folder = results(
        tmp_path / "results", [*named(["fgsm_rs/paper"], 5), *named(["atas/paper"]), *named(["atta/paper"], 1)]
    )
    measured = pd.read_csv(folder / "measured.csv", dtype=str)
    for method, seed in (("fgsm_rs", "4"), ("atas", "0"), ("atta", "0")):
        mine = (measured["method"] == method) & (measured["seed"] == seed)
        measured.loc[mine & (measured["metric"] == "diverged"), "value"] = "1"
        evaluation = folder / f"runs/digits/preact_tiny/eps8/{method}/paper/seed{seed}/eval"
        for path in evaluation.glob("*.csv"):
            path.write_text(path.read_text().splitlines()[0] + "\n")
    late = (measured["method"] == "atta") & (measured["epoch"].astype(float) > 3)
    measured[~late].to_csv(folder / "measured.csv", index=False)
    return drawn(folder)


def test_a_diverged_seed_has_no_landscape_and_stops_no_other(diverged):
    assert set(pd.read_csv(diverged / "figures/fig01.csv")["panel"]) == {"curve"}
    assert set(pd.read_csv(diverged / "figures/fig09.csv")["seed"]) == {1}
    assert "No run of fast AT is collapsed at the end, so there is no landscape." in words(diverged, "fig01")
    assert "seed 1; one range" in words(diverged, "fig09")


def test_a_diverged_seed_is_in_no_mean(diverged, tmp_path, monkeypatch):
    accuracies = pd.read_csv(diverged / "figures/accuracy_by_eps.csv")
    assert accuracies.groupby("method")["n_seeds"].max().to_dict() == {"fgsm_rs": 4, "atas": 1}
    monkeypatch.setattr(figure_data, "MOST_RUNS", 3)
    figure_data.write_all(diverged, None, EPS, tmp_path / "means")
    assert set(pd.read_csv(tmp_path / "means/curves.csv").query("method == 'fgsm_rs'")["n_seeds"]) == {4}
    read = {name: pd.read_csv(diverged / f"figures/{name}.csv") for name in ("fig06", "fig06_ranks", "fig07")}
    n_seeds = read["fig07"].groupby("method")["n_seeds"].max().to_dict()
    assert n_seeds == {"fgsm_rs": 4, "atas": 1}
    assert set(read["fig06_ranks"]["method"]) == {"fgsm_rs"} and len(read["fig06_ranks"]) == 6  # pairs of four
    (pairs,) = read["fig06"].query("panel == 'ranks'").to_dict("records")
    assert (pairs["n_seeds"], {pairs["method"], pairs["method_b"]}) == (1, {"atas", "fgsm_rs"})
    assert set(read["fig06"].query("panel == 'histogram'")["n_seeds"]) == {1}
    for name in ("fig10", "fig11"):
        assert set(pd.read_csv(diverged / f"figures/{name}.csv")["n_seeds"]) == {1}


def test_a_diverged_seed_is_no_collapse_and_is_counted_apart(diverged, tmp_path, monkeypatch):
    rows = pd.read_csv(diverged / "figures/curves.csv")
    assert not rows[["at_end", "never", "for_a_while"]].any(axis=None)
    told = "Collapsed at the end: FGSM-RS 0 of 4 (1 more diverged), ATAS 0 of 1 (1 more diverged)."
    assert told in words(diverged, "fig08")
    monkeypatch.setattr(figure_data, "MOST_RUNS", 3)
    figure_data.write_all(diverged, None, EPS, tmp_path)
    figures.write_all(tmp_path, tmp_path, ["fig08"])
    assert told in (tmp_path / "fig08.txt").read_text()


def test_a_training_that_diverged_is_drawn_as_far_as_it_came(diverged):
    rows = pd.read_csv(diverged / "figures/curves.csv")
    assert rows[rows["method"] == "atta"]["epoch"].max() == 3 and set(rows["epochs"]) == {6}
    by_epoch, label = along(rows)
    assert label == "epoch" and by_epoch["x"].max() == 6
    longer = rows.assign(epochs=np.where(rows["method"] == "atta", 12, 6))
    assert along(longer)[0].groupby(longer["method"])["x"].max().to_dict() == {"atas": 1, "atta": 0.25, "fgsm_rs": 1}


def test_a_variant_that_is_only_called_like_a_subset_is_none(tmp_path):
    who = named(["fgsm_rs/paper", "pgd10/mine_d16_32", "pgd10/paper_d9_10"])
    folder = results(tmp_path / "results", who)
    figure_data.write_all(folder, None, EPS, folder / "figures")
    read = {name: pd.read_csv(folder / f"figures/{name}.csv") for name in ("curves", "fig03", "fig06_ranks")}
    assert set(read["curves"]["variant"]) == set(read["fig06_ranks"]["variant"]) == {"paper", "mine_d16_32"}
    assert set(zip(read["fig03"]["variant"], read["fig03"]["subset"], strict=True)) == {("paper", "9-10")}


def test_captions_say_how_many_networks_were_never_robust(tmp_path):
    folder = results(tmp_path / "results", named(["fgsm_rs/paper", "fgsm_rs/step175"], 5))
    measured = pd.read_csv(folder / "measured.csv", dtype=str)
    mine = (measured["variant"] == "paper") & (measured["seed"] == "4")
    measured.loc[mine & (measured["metric"] == "robustness_lost"), "value"] = "0"
    measured.to_csv(folder / "measured.csv", index=False)
    surfaces = folder / "runs/digits/preact_tiny/eps8/fgsm_rs/paper/seed4/eval/surfaces_by_epoch.csv"
    shutil.copy(str(surfaces).replace("paper", "step175"), surfaces)
    drawn(folder)
    assert "FGSM-RS 1 of 5 (1 not robust before)." in words(folder, "fig08")
    assert "1 of 5 collapsed at the end (1 of them not robust before), 0 for a while" in words(folder, "collapse_map")
    assert "seed 4, which, not robust before, collapsed in epoch 4, and is collapsed at the end." in words(
        folder, "fig02"
    )
    assert "not robust" not in words(folder, "fig03")


def places(*where):
    """Runs of ATAS, two seeds, on each of (data set, model)."""
    return [(*place, "8/255", "atas", "paper", str(seed)) for place in where for seed in range(2)]


CIFAR10 = ("cifar10", "preact_resnet18"), ("cifar10", "wrn28_10")


def test_captions_tell_networks_apart(tmp_path):
    folder = drawn(results(tmp_path / "results", places(*CIFAR10)))
    assert "30 images x 2 seeds of preact_resnet18, 30 images x 2 seeds of wrn28_10" in words(folder, "fig06")
    lengths = words(folder, "fig11")
    assert "(cifar10, preact_resnet18, 8/255);" in lengths and "(cifar10, wrn28_10, 8/255)." in lengths
    one = {"dataset": "cifar10", "method": "atta", "n": 500, "collapsed_at_end": 0}
    gaps = pd.DataFrame(
        [{**one, "model": model, "alpha": alpha, "gap": gap}
         for (_, model), gap in zip(CIFAR10, (0.1, 0.3), strict=True) for alpha in (0.5, 1.0)]
        + [{**one, "model": "wrn28_10", "alpha": 1.0, "gap": 5.0, "collapsed_at_end": 1}]
    )  # fmt: skip
    assert ends(gaps) == (
        ": ATTA on preact_resnet18 0.10 at 0.5 eps, 0.10 at 1 eps; ATTA on wrn28_10 0.30 at 0.5 eps, 0.30 at 1 eps; "
        "ATTA on wrn28_10, collapsed at the end, 5.00 at 1 eps, 5.00 at 1 eps"
    )


def test_the_images_of_checkpoints_and_of_other_networks_are_not_counted(tmp_path):
    who = [*places(*CIFAR10), ("cifar10", "wrn28_10", "8/255", "external", "theirs", "0")]
    folder = results(tmp_path / "results", who)
    measured = pd.read_csv(folder / "measured.csv", dtype=str)
    measured.loc[measured["method"] == "external", "n"] = "10000"
    measured.loc[(measured["model"] == "wrn28_10") & (measured["metric"] == "aa"), "n"] = "77"
    measured.to_csv(folder / "measured.csv", index=False)
    figure_data.write_all(folder, None, EPS, folder / "figures")
    about = numbers.read(folder / "figures")
    assert about[["least", "most"]].max(axis=None) == 1000
    rows = pd.read_csv(folder / "figures/accuracy_by_eps.csv")
    (line,) = numbers.told("accuracy_by_eps", rows[rows["model"] == "preact_resnet18"], about)
    assert line.endswith("; 1000 test images, 200 under AutoAttack.")


def test_operations_are_drawn_where_they_were_counted_alone(tmp_path):
    who = [(*place, "8/255", "atas", variant, "0") for place in (*CIFAR10, ("tiny_imagenet", "preact_resnet18"))
           for variant in ("paper", "released")]  # fmt: skip
    folder = results(tmp_path / "results", who)
    (folder / "tables").mkdir()
    pd.DataFrame({"method": ["atas"], "gflop_per_image": [2.0]}).to_csv(folder / "tables/cost.csv", index=False)
    figure_data.write_all(folder, None, EPS, folder / "figures")
    rows = pd.read_csv(folder / "figures/cost_robustness.csv").dropna(subset=["gflop"])
    ((*where, gflop),) = rows[["dataset", "model", "variant", "gflop"]].itertuples(index=False, name=None)
    assert where == ["cifar10", "preact_resnet18", "paper"] and gflop == 2 * 6 * 50_000
    assert "Operations are those of each method's `paper`." in figures.FIGURES["cost_robustness"][0](rows)[1]


def test_figure_10_leaves_the_first_epochs_out_of_long_trainings_alone(made):
    short = figure_data.read_data(made / "figures/fig10.csv", figure_data.DATA["fig10"][0])
    long = pd.concat([short, short.assign(epoch=short["epoch"] + 6)]).assign(dataset="fashion")
    draw = figures.FIGURES["fig10"][0]
    assert "ATAS by epoch, of the tenths" in draw(short)[1] and "ATAS after epoch 5, of the tenths" in draw(long)[1]
    figure, caption = draw(pd.concat([short, long]))
    assert "ATAS, of more than 6 epochs after epoch 5, of the tenths" in caption
    assert [min(line.get_xdata()[0] for line in axes.lines) for axes in figure.axes] == [1, 1, 6, 6]


def test_collapses_are_counted_where_both_methods_were_run():
    def cell(dataset, method, n, fell):
        return [{"dataset": dataset, "model": "m", "eps": "8/255", "method": method, "variant": "paper", "epoch": 1,
                 "seed": str(k), "n_seeds": 1, "diverged": 0, "at_end": int(k < fell), "never": 0, "for_a_while": 0,
                 "panel": "b"}
                for k in range(n)]  # fmt: skip

    both = [*cell("digits", "atta", 3, 1), *cell("digits", "atas", 3, 0)]
    alone = cell("fashion", "atta", 5, 5)
    assert collapsed(pd.DataFrame(both), ["panel"]) == "Collapsed at the end: ATTA 1 of 3, ATAS 0 of 3"
    told = "Collapsed at the end, where both were run: ATTA 1 of 3, ATAS 0 of 3"
    assert collapsed(pd.DataFrame([*both, *alone]), ["panel"]) == told
    assert collapsed(pd.DataFrame([*both, *alone]), []) == told
    assert collapsed(pd.DataFrame(alone), []) == "Collapsed at the end: ATTA 5 of 5"


def test_bad_rows_leave_gaps_and_no_figure_fails(tmp_path):
    folder = results(tmp_path / "results", named(STEPS, 1))
    measured = pd.read_csv(folder / "measured.csv", dtype=str)
    measured.loc[measured.index % 7 == 0, "value"] = "nan"
    measured.loc[measured.index % 11 == 0, "value"] = "not a number"
    measured.loc[measured.index % 13 == 0, "eps"] = None
    measured.loc[measured.index % 17 == 0, "eps"] = "eight"
    pd.concat([measured, measured[::3]]).to_csv(folder / "measured.csv", index=False)
    (folder / "evidence.jsonl").write_text('{"run": 1}\nnot json\n')
    for damaged in folder.glob("runs/*/*/*/atas/paper/*/*.safetensors"):
        damaged.write_bytes(b"damaged")
    for damaged in folder.glob("runs/*/*/*/fgsm_rs/*/*/eval/*.csv"):
        damaged.write_text("")
    figure_data.write_all(folder, None, EPS, folder / "figures")
    figures.write_all(folder / "figures", folder / "drawn")
    assert "Nothing to draw" in words(folder, "fig10") and "Nothing to draw" not in words(folder, "curves")


def spoiled(path, holes: dict[str, object]):
    """Every third number of a CSV file is `holes[None]`, or of the columns in `holes` what stands there."""
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    for k, name in enumerate(rows):
        if name in holes or None in holes:
            rows.loc[(rows.index + k) % 3 == 0, name] = holes.get(name, holes.get(None))
    rows.to_csv(path, index=False)


def test_a_landscape_with_gaps_is_drawn_with_them(stepped, tmp_path):
    shutil.copytree(stepped / "figures", tmp_path / "figures")
    for name in ("fig02", "fig09", "fig01"):
        spoiled(tmp_path / f"figures/{name}.csv", {"loss": "nan"})
    figures.write_all(tmp_path / "figures", tmp_path / "drawn", ["fig01", "fig02", "fig09"])
    assert not any("Nothing" in words(tmp_path, name) for name in ("fig01", "fig02", "fig09"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # matplotlib's, of axes without a number
@pytest.mark.parametrize("content", ["{best}", "-1", "9" * 400, "", "1e308"])
def test_data_that_hold_anything_stop_no_figure(stepped, tmp_path, content):
    shutil.copytree(stepped / "figures", tmp_path / "figures")
    for path in (tmp_path / "figures").glob("*.csv"):
        spoiled(path, {None: content})
    figures.write_all(tmp_path / "figures", tmp_path / "drawn")
    assert all(words(tmp_path, name) for name in FIGURES)


@pytest.mark.filterwarnings("ignore::UserWarning")  # matplotlib's, of a path too long for the panel
@pytest.mark.parametrize("damage", [b"", b"<html>", bytes(range(256)), "a,b\n1,2\n".encode("utf-16"), None])
def test_damaged_data_are_named_in_the_figure_s_place(stepped, tmp_path, damage):
    shutil.copytree(stepped / "figures", tmp_path / "figures")
    path = tmp_path / "figures/fig07.csv"
    path.unlink()
    path.mkdir() if damage is None else path.write_bytes(damage)
    figures.write_all(tmp_path / "figures", tmp_path / "drawn", ["fig07", "fig08"])
    assert words(tmp_path, "fig07").startswith("Nothing to draw: fig07.csv")
    assert "Nothing" not in words(tmp_path, "fig08")


def test_runs_that_were_not_asked_for_are_not_drawn(stepped, tmp_path):
    figure_data.write_all(stepped, ["digits/preact_tiny/eps8/atas/paper/seed1"], EPS, tmp_path)
    rows = pd.read_csv(tmp_path / "curves.csv")
    assert set(rows["method"]) == {"atas"} and set(rows["seed"]) == {1}


def test_of_very_many_runs_the_curves_are_means_with_the_range_of_seeds(stepped, tmp_path, monkeypatch):
    monkeypatch.setattr(figure_data, "MOST_RUNS", 3)
    figure_data.write_all(stepped, None, EPS, tmp_path)
    rows = pd.read_csv(tmp_path / "curves.csv")
    assert rows["seed"].isna().all() and (rows["n_seeds"] == 2).all() and (rows["low"] < rows["high"]).all()
    figures.write_all(tmp_path, tmp_path, ["curves", "fig08"])
    assert "means with the range of seeds" in (tmp_path / "curves.txt").read_text()


def test_machines_of_two_kinds_have_cost_panels_of_their_own(stepped):
    rows = pd.read_csv(stepped / "figures/cost_robustness.csv", dtype={"seed": str})
    rows.loc[rows["seed"] == "1", "device"] = "another made-up GPU"
    figure, _ = figures.FIGURES["cost_robustness"][0](rows)
    titles = {axes.get_title().split("\n")[1] for axes in figure.axes}
    assert titles == {"made-up GPU", "another made-up GPU"}


def test_more_methods_than_a_panel_holds_are_left_out_aloud_and_once(tmp_path):
    rows = [
        ("digits", "m", "8/255", f"method{k}", "paper", "aa", 40.0, 39.0, 41.0, 2) for k in range(style.MOST_LINES + 4)
    ]
    columns = ["dataset", "model", "eps", "method", "variant", "metric", "mean", "low", "high", "n_seeds"]
    table = pd.DataFrame([*rows, *(row[:5] + ("pgd50",) + row[6:] for row in rows)], columns=columns)
    figure, _ = figures.FIGURES["accuracy_by_eps"][0](table)
    assert figure.get_supxlabel().count(f"{style.MOST_LINES} methods and variants") == 1


def test_when_some_are_left_out_every_methods_own_recipe_stays():
    cells = [(method, variant) for method in ("pgd10", "atas") for variant in ("paper", "a", "b")]
    said = []
    assert style.fewer(cells, said, 3) == [("pgd10", "paper"), ("pgd10", "a"), ("atas", "paper")] and len(said) == 1
    assert style.fewer(cells, said, 6) == style.in_order(cells) and len(said) == 1


def test_there_is_a_picture_a_caption_and_small_data_for_every_figure(made):
    assert set(figures.FIGURES) == set(FIGURES)
    for name in FIGURES:
        for ending in ("svg", "png"):
            assert (made / f"drawn/{name}.{ending}").stat().st_size > 1000
        assert (made / f"drawn/{name}.txt").read_text().strip()
    for name in (*FIGURES, *FIGURE_SIDES):
        assert (made / f"figures/{name}.csv").stat().st_size < 2_000_000


def test_a_figure_is_the_same_byte_for_byte_when_drawn_again_alone(made, tmp_path):
    figures.write_all(made / "figures", tmp_path, ["fig06", "curves"])
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".svg") == ["curves.svg", "fig06.svg"]
    for name in ("fig06.svg", "fig06.png", "curves.svg"):
        assert (tmp_path / name).read_bytes() == (made / "drawn" / name).read_bytes()


def test_a_figure_that_does_not_exist_is_refused_with_those_that_do(made, tmp_path):
    with pytest.raises(BadInput, match="no figure 'fig12'.*fig11"):
        figures.write_all(made / "figures", tmp_path, ["fig12"])


@pytest.mark.parametrize("missing", [True, False])
def test_nothing_run_is_an_empty_panel_that_says_what_it_needs(tmp_path, missing):
    data = tmp_path / "figures"
    if not missing:
        figure_data.write_all(results(tmp_path / "results", []), None, EPS, data)
    figures.write_all(data, tmp_path / "drawn")
    for name in set(FIGURES) - {"theory"}:
        words = (tmp_path / f"drawn/{name}.txt").read_text()
        assert words.startswith("Nothing to draw:")
        assert (f"{name}.csv is not there" if missing else figures.FIGURES[name][1]) in words


def test_runs_without_their_small_files_leave_only_the_figures_that_need_them_empty(tmp_path):
    folder = results(tmp_path / "results", fabricate.runs(12, 2), instances=False)
    figure_data.write_all(folder, None, EPS, folder / "figures")
    figures.write_all(folder / "figures", tmp_path)
    assert "Nothing to draw" in (tmp_path / "fig10.txt").read_text()
    assert "Nothing to draw" not in (tmp_path / "curves.txt").read_text()


def test_the_largest_and_the_mean_norm_of_an_image_leave_out_epochs_that_did_not_see_it():
    mean, largest = figure_data.per_image(np.array([[1, 3], [2, np.nan]], np.float16))
    assert mean.tolist() == [2, 2] and largest.tolist() == [3, 2]


def test_seeds_whose_images_keep_their_order_are_fully_correlated(made):
    ranks = pd.read_csv(made / "figures/fig06_ranks.csv")
    assert len(ranks) == 12 and (ranks["n"] == 30).all() and (ranks["spearman"] > 0.95).all()


def test_d_1_and_d_10_are_the_tenths_with_the_smallest_and_largest_norms(made):
    rows = pd.read_csv(made / "figures/fig10.csv")
    norms = rows[(rows["quantity"] == "grad_norm") & (rows["epoch"] == 6)].set_index("group")["mean"]
    assert norms["D1"] == pytest.approx(2, rel=0.1) and norms["D10"] == pytest.approx(29, rel=0.1)
    steps = rows[(rows["quantity"] == "alpha_255") & (rows["epoch"] == 6)].set_index("group")["mean"]
    assert steps["D1"] > steps["D5"] > steps["D10"]


def test_redraws_are_marked_where_the_run_says_that_it_drew_anew(made):
    rows = pd.read_csv(made / "figures/fig10.csv")
    assert set(rows[rows["reset"] == 1]["epoch"]) == {1, 5}


def test_the_note_says_of_how_many_seeds_each_accuracy_is():
    """Ten were trained, of which five were attacked by AutoAttack."""
    cell = {"dataset": "digits", "model": "m", "eps": "8/255", "method": "atas", "variant": "paper"}
    rows = pd.DataFrame([{**cell, "metric": "pgd50", "n_seeds": 10}, {**cell, "metric": "aa", "n_seeds": 5}])
    assert numbers.runs(rows) == ["10 runs", "5 to 10 seeds a cell"]
