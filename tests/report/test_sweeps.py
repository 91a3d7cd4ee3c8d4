"""Sweeps in the report: found by what their runs were trained with, set apart, drawn on axes of their own."""

import json
import math
from dataclasses import asdict

import pandas as pd
import pytest

import methods
from fastat.config.grid import expand, load_config, overlay
from fastat.config.recipe import resolve
from fastat.report import claims, figure_data, figures, results, tables
from fastat.report.figures.sweeps import SHADES
from fastat.report.methods import called
from tests import fabricate

CELL = {"dataset": "digits", "model": "preact_tiny", "eps": "77/255", "seed": [0, 1]}
STEPS = {"fgsm_rs": {"alpha": ["0.5 eps", "1 eps", "77/255", "2 eps"]}}


def made(folder, swept, names, **grid):
    """Made-up results of all runs of a config with this sweep, whose run.json say what they would be trained with."""
    config = overlay(load_config(), {"grid": [{**CELL, "method": names, **grid}], "sweep": swept})
    specs = expand(config)
    who = [(s.dataset, s.model, f"{s.eps_255}/255", s.method, s.variant, str(s.seed)) for s in specs]
    fabricate.write(folder, who, surfaces_of=0)
    lines = []
    for spec, about in zip(specs, fabricate.evidence(who), strict=True):
        recipe = json.loads(resolve(spec, config).to_json())
        values = asdict(methods.config_class(spec.method)()) | recipe["params"]
        lines.append({**about, "recipe": recipe, "config": values})
    (folder / "evidence.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def runs_of(folder):
    return results.read(folder).runs


def data_of(folder, name="sweeps"):
    """A figure's data, made anew."""
    figure_data.write_all(folder, None, {"digits": "77/255"}, folder / "figures")
    return figure_data.read_data(folder / f"figures/{name}.csv", figure_data.DATA[name][0])


def test_a_sweep_s_runs_are_ablations_and_their_keys_and_values_are_those_of_their_recipes(tmp_path):
    swept = {
        "fgsm_rs": {"alpha": ["0.5 eps"], "average": [0, 0.9]}, "atta/released": {"reset_every": [5]},
        "pgd10": {"schedule.lr": [0.05]},
    }  # fmt: skip
    runs = runs_of(made(tmp_path, swept, ["fgsm_rs", "atta", "atta/released", "pgd10"], seed=0)).set_index("variant")
    assert runs[runs["over"] != ""][["method", "over", "varied"]].to_dict("index") == {
        "alpha_0p5eps_average_0": {
            "method": "fgsm_rs", "over": "paper", "varied": (("alpha", "0.5 eps"), ("average", 0)),
        },
        "alpha_0p5eps_average_0p9": {
            "method": "fgsm_rs", "over": "paper", "varied": (("alpha", "0.5 eps"), ("average", 0.9)),
        },
        "released_reset_every_5": {"method": "atta", "over": "released", "varied": (("reset_every", 5),)},
        "schedule_lr_0p05": {"method": "pgd10", "over": "paper", "varied": (("schedule.lr", 0.05),)},
    }  # fmt: skip
    assert set(runs[runs["ablation"]].index) == set(runs[runs["over"] != ""].index)


def test_a_name_that_says_what_was_not_trained_is_no_sweep_s(tmp_path):
    folder = made(tmp_path, {"fgsm_rs": {"average": [0.9]}}, "fgsm_rs", seed=0)
    lines = [json.loads(line) for line in (folder / "evidence.jsonl").read_text().splitlines()]
    for line in lines:
        line["recipe"]["average"] = 0.5
    (folder / "evidence.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    runs = runs_of(folder)
    assert set(runs["over"]) == {""} and not runs["ablation"].any()


def test_tables_1_and_2_are_without_them_and_the_supplement_has_them(tmp_path):
    found = results.read(made(tmp_path, {"atas": {"beta": [0.1, 0.9]}}, ["atas", "fgsm_rs"]))
    tables.write_all(found, {"digits": "77/255"}, tmp_path / "tables")
    variants = {
        name: set(pd.read_csv(tmp_path / f"tables/{name}.csv")["variant"])
        for name in ("table1", "table2", "supplement")
    }
    assert variants["table1"] == variants["table2"] == {"paper"}
    assert variants["supplement"] == {"paper", "beta_0p1", "beta_0p9"}
    assert set(data_of(tmp_path, "accuracy_by_eps")["variant"]) == {"paper"}


def test_a_sweep_of_the_step_size_is_in_figure_4_the_collapse_map_and_the_claims(tmp_path):
    """`paper` has 1.25 eps; 77/255 is 1 eps at this eps, and counts once."""
    folder = made(tmp_path, STEPS, "fgsm_rs")
    steps = data_of(folder, "collapse_map").query("panel == 'step'")
    expected = {("alpha_0p5eps", 0.5), ("alpha_1eps", 1), ("paper", 1.25), ("alpha_2eps", 2)}
    assert set(zip(steps["variant"], steps["alpha"], strict=True)) == expected
    assert set(data_of(folder, "collapse_map").query("panel == 'eps'")["variant"]) == {"paper"}
    trained = data_of(folder, "fig04").query("panel == 'accuracy'")
    assert set(zip(trained["variant"], trained["alpha"], strict=True)) == expected and len(trained) == 8
    evidence = claims.Evidence("digits", results.read(folder).runs, pd.DataFrame(), folder / "figures")
    assert sorted(set(evidence.swept("fgsm_rs")["alpha"])) == [0.5, 1, 1.25, 2]


def test_a_variant_of_config_recipes_yaml_stays_where_it_was_when_a_sweep_makes_the_same(tmp_path):
    runs = runs_of(made(tmp_path, {"fgsm_rs": {"alpha": ["1 eps"]}}, ["fgsm_rs", "fgsm_rs/step100"], seed=0))
    runs = runs.set_index("variant")
    assert runs["swept"].to_dict() == {"alpha_1eps": False, "paper": True, "step100": True}
    assert runs["ablation"].to_dict() == {"alpha_1eps": True, "paper": False, "step100": True}


def test_a_step_of_eps_from_a_sweep_is_in_figure_5_and_gamma_and_c_are_in_table_4(tmp_path):
    folder = made(tmp_path, {"fgsm_rs": {"alpha": ["1 eps"]}}, ["fgsm_rs", "fgsm_adaptive"])
    assert set(data_of(folder, "fig05")["variant"]) == {"alpha_1eps", "paper"}
    config = overlay(load_config(), {"grid": [{**CELL, "method": "atas"}]})
    own = resolve(expand(config)[0], config).params
    swept = {"atas": [{"c": [own.get("c", 1.28) / 2]}, {"gamma_over_c": ["1 eps"]}]}
    table = tables.table4(runs_of(made(tmp_path / "atas", swept, "atas")))
    shown = {name for name, value in table.iloc[0].items() if value} - {"dataset", "model", "eps", "whose", "seeds"}
    assert shown == {"c 0.005", "16, 0.01", "gamma 8"}


def test_the_data_have_each_run_on_its_axis_lengths_in_eps_and_what_was_swept_over(tmp_path):
    rows = data_of(made(tmp_path, STEPS, ["fgsm_rs", "atas"], seed=0))
    assert set(rows["keys"]) == set(rows["key"]) == {"alpha"} and set(rows["unit"]) == {"eps"}
    swept = rows[rows["own"] == 0].set_index("variant")
    assert swept["number"].to_dict() == {
        "alpha_0p5eps": 0.5, "alpha_1eps": 1, "alpha_2eps": 2, "alpha_77over255": 1,
    }  # fmt: skip
    assert swept["setting"]["alpha_77over255"] == "77/255"
    assert rows[rows["own"] == 1][["method", "variant"]].to_numpy().tolist() == [["fgsm_rs", "paper"]]


def test_of_several_keys_the_axis_is_the_one_with_most_numbers_and_the_rest_is_said(tmp_path):
    swept = {"atta": {"store": ["float32", "int8"], "alpha": ["0.5 eps", "1 eps", "2 eps"]}}
    rows = data_of(made(tmp_path, swept, "atta", seed=0)).query("own == 0")
    assert set(rows["keys"]) == {"store, alpha"} and set(rows["key"]) == {"alpha"}
    assert set(rows["rest"]) == {"store float32", "store int8"} and set(rows["number"]) == {0.5, 1, 2}
    switches = data_of(made(tmp_path / "s", {"fgsm_rs": {"random_start": [True, False]}}, "fgsm_rs")).query("own == 0")
    assert set(switches["setting"]) == {"true", "false"} and switches["number"].isna().all()


def axes_of(rows):
    """Title -> panel, of the figure of these rows, and its caption."""
    figure, caption = figures.FIGURES["sweeps"][0](rows)
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}, caption, figure


def test_the_figure_has_a_panel_a_sweep_with_seeds_as_points_and_their_means_as_a_line(tmp_path):
    swept = {**STEPS, "atta/released": {"reset_every": [2, 5]}, "atas": {"c": [0.01, 1.0]}}
    rows = data_of(made(tmp_path, swept, ["fgsm_rs", "atta/released", "atas"]))
    panels, caption, _ = axes_of(rows)
    place = "digits, preact_tiny, eps 77/255"
    assert list(panels) == [f"FGSM-RS\n{place}", f"ATTA (released)\n{place}", f"ATAS\n{place}"]
    steps, resets, c = panels.values()
    assert (steps.get_xlabel(), resets.get_xlabel(), c.get_xscale()) == ("alpha (eps)", "reset_every", "log")
    assert [label.get_text() for label in steps.get_xticklabels()] == ["0.5", "1", "2"]
    pgd50 = rows.query("method == 'fgsm_rs' and own == 0").groupby("number")["pgd50"].mean()
    assert steps.get_lines()[1].get_xdata().tolist() == [0.5, 1, 2]
    assert steps.get_lines()[1].get_ydata().tolist() == pytest.approx(pgd50.tolist())
    n = int((rows.query("own == 0")["collapsed_at_end"] == 1).sum())
    assert "; 2 seeds a value, a point each" in caption and f"Of 16 trainings {n} are collapsed at the end" in caption


def test_categories_stand_side_by_side_and_other_keys_are_lines_of_their_own(tmp_path):
    swept = {"fgsm_rs": {"random_start": [True, False]}, "atta": {"store": ["float32", "int8"], "reset_every": [2, 5]}}
    panels, _, _ = axes_of(data_of(made(tmp_path, swept, ["fgsm_rs", "atta"])))
    switch, pairs = panels.values()
    assert [label.get_text() for label in switch.get_xticklabels()] == ["false", "true"]
    assert [text.get_text() for text in pairs.get_legend().get_texts()] == ["store float32", "store int8"]
    assert [line.get_color() for line in pairs.get_legend().get_lines()] == list(SHADES[:2])


def test_a_diverged_run_is_marked_and_one_that_nobody_attacked_is_said(tmp_path):
    rows = data_of(made(tmp_path, STEPS, "fgsm_rs"))
    rows[["clean", "pgd50", "aa"]] = math.nan
    panels, _, _ = axes_of(rows)
    (panel,) = panels.values()
    assert [text.get_text() for text in panel.texts] == ["no run of this sweep was attacked"]
    rows.loc[rows["variant"] == "alpha_2eps", ["diverged", "collapsed_at_end"]] = 1
    rows.loc[rows["variant"] != "alpha_2eps", "collapsed_at_end"] = 0
    panels, caption, _ = axes_of(rows)
    assert "Of 6 trainings 0 are collapsed at the end, 0 were for a while; 2 more diverged." in caption
    (panel,) = panels.values()
    assert [2, 0] in [list(map(float, point)) for dots in panel.collections for point in dots.get_offsets()]


def test_more_sweeps_than_a_page_holds_are_left_out_aloud(tmp_path):
    swept = {
        "fgsm_rs": [{key: [0.1]} for key in ("average", "momentum", "weight_decay", "schedule.lr", "schedule.factor")]
    }
    rows = data_of(made(tmp_path, swept, "fgsm_rs", eps=["51/255", "77/255", "102/255", "8/255"], seed=0))
    panels, _, figure = axes_of(rows)
    assert len(panels) <= 16 and len([axes for axes in figure.axes if axes.axison]) == 16
    assert "16 of 20 sweeps are drawn" in figure.get_supxlabel()


@pytest.mark.filterwarnings("ignore::UserWarning")  # matplotlib's, of axes without a number
@pytest.mark.parametrize("content", ["{best}", "-1", "", "1e308"])
def test_data_that_hold_anything_do_not_stop_it(tmp_path, content):
    swept = {**STEPS, "atta": {"store": ["float32", "int8"], "reset_every": [2, 5]}}
    data_of(made(tmp_path, swept, ["fgsm_rs", "atta"]))
    path = tmp_path / "figures/sweeps.csv"
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    for k, name in enumerate(rows):
        rows.loc[(rows.index + k) % 3 == 0, name] = content
    rows.to_csv(path, index=False)
    figures.write_all(tmp_path / "figures", tmp_path / "drawn", ["sweeps"])
    assert (tmp_path / "drawn/sweeps.txt").read_text().strip()


def test_names_for_people_say_key_and_value():
    assert called("fgsm_rs", "alpha_0p5eps") == "FGSM-RS (alpha 0.5 eps)"
    assert called("fgsm_rs", "released_alpha_1eps") == "FGSM-RS (released, alpha 1 eps)"
    assert called("atas", "c_0p01_beta_0p9") == "ATAS (c 0.01, beta 0.9)"
    assert called("fgsm_rs", "step175") == "FGSM-RS (step175)" and called("fgsm_rs", "fgsm") == "FGSM"
    assert called("made_elsewhere", "alpha_1eps") == "made_elsewhere (alpha_1eps)"
