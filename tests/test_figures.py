"""Figures from fabricated runs: their data, their pictures, and what they say where there is nothing to draw."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

import methods
from fastat.errors import BadInput
from fastat.report import figure_data, figures
from fastat.report.catalog import FIGURE_SIDES, FIGURES
from fastat.report.figures import style
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
        steps = [(start, a, a, 2.0, 500) for start in ("uniform", "carried") for a in (0.5, 1.0, 2.0)]
        columns = ["start", "alpha", "loss", "pgd10_loss", "n"]
        pd.DataFrame(steps, columns=columns).to_csv(run / "eval/steps.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data and pictures of twelve methods at one eps, two seeds."""
    folder = results(tmp_path_factory.mktemp("made") / "results", fabricate.runs(12, 2))
    figure_data.write(folder, None, EPS, folder / "figures")
    figures.write_all(folder / "figures", folder / "drawn")
    return folder


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
        figure_data.write(results(tmp_path / "results", []), None, EPS, data)
    figures.write_all(data, tmp_path / "drawn")
    for name in set(FIGURES) - {"theory"}:
        words = (tmp_path / f"drawn/{name}.txt").read_text()
        assert words.startswith("Nothing to draw:")
        assert (f"{name}.csv is not there" if missing else figures.FIGURES[name][1]) in words


def test_runs_without_their_small_files_leave_only_the_figures_that_need_them_empty(tmp_path):
    folder = results(tmp_path / "results", fabricate.runs(12, 2), instances=False)
    figure_data.write(folder, None, EPS, folder / "figures")
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


def test_resets_are_marked_where_atas_draws_its_perturbations_anew(tiny_task, tiny_model):
    from dataclasses import replace

    task = replace(tiny_task, n_epochs=20)
    method = methods.build("atas", task, reset_every=5)
    drawn = []
    method.delta.redraw = lambda: drawn.append(epoch)
    for epoch in range(1, 21):
        method.begin_epoch(tiny_model, None, epoch)
    assert [e for e in range(1, 21) if figure_data.is_reset(e, 5, 20)] == drawn == [1, 5, 10, 15]


def test_every_method_has_a_look_of_its_own():
    looks = {(style.colour(name), str(style.dash(name, "paper")), style.marker(name)) for name in methods.names()}
    assert len(looks) == len(methods.names())
