"""Config to runs, and what is refused."""

import pytest

from fastat.cli import main
from fastat.config.grid import check_config, expand, load_config, overlay
from fastat.config.recipe import resolve
from fastat.errors import BadInput


def config(**grid):
    block = {"dataset": "digits", "model": "preact_tiny", "eps": "77/255", "method": "atas", "seed": 0} | grid
    return overlay(load_config(), {"grid": [block]})


@pytest.mark.parametrize(
    "grid,message",
    [
        ({"eps": 8}, r"Did you mean 8/255\?"),
        ({"eps": "0.3"}, "eps is written N/255"),
        ({"method": "atass"}, "unknown method 'atass'. Did you mean 'atas'"),
        ({"method": "atas/relased"}, "no variant 'relased'. Did you mean 'released'"),
        ({"dataset": "digit"}, "unknown value 'digit'. Did you mean 'digits'"),
        ({"sed": 1}, "unknown key 'sed'. Did you mean 'seed'"),
        ({"seed": -1}, "seed must be a whole number, 0 or more, or a list of them, got -1"),
    ],
)
def test_a_bad_grid_is_refused_with_the_way_out(grid, message):
    with pytest.raises(BadInput, match=message):
        check_config(config(**grid))


@pytest.mark.parametrize(
    "change,message",
    [
        ({"epochs": 0}, "epochs must be a whole number above 0, got 0"),
        ({"epochs": float("nan")}, "epochs must be"),
        ({"batch_size": -4}, "batch_size must be"),
        ({"weight_decay": float("nan")}, "weight_decay must be"),
        ({"epcohs": 3}, "unknown key 'epcohs'. Did you mean 'epochs'"),
        ({"schedule": {"lr": float("nan")}}, "lr must be above 0"),
        ({"schedule": {"kind": "piecewise", "milestones": [40]}}, "milestones must be rising"),
    ],
)
def test_a_bad_recipe_is_refused_with_the_rule_and_the_value(change, message):
    changed = overlay(config(), {"recipes": {"digits": {"every": change}}})
    with pytest.raises(BadInput, match=message):
        check_config(changed)


def test_more_autoattack_images_than_exist_are_refused():
    with pytest.raises(BadInput, match="n_images is 361, but digits has 360"):
        check_config(overlay(config(), {"evaluation": {"autoattack": {"n_images": 361}}}))


@pytest.mark.parametrize(
    "text,message",
    [
        ("grid: [{dataset: digits, model: preact_tiny, eps: 8, method: atas, seed: 0}]", "Did you mean 8/255"),
        (
            "grid: [{dataset: digits, model: preact_tny, eps: 8/255, method: atas, seed: 0}]",
            "unknown model 'preact_tny'",
        ),
        ("recipes: {digits: {atas: {params: {beta: 2}}}}", "beta must be in [0, 1), got 2"),
        ("recipes: {digits: {atas: {params: {gama: 2 eps}}}}", "no parameter 'gama'"),
        ("evaluation: {pgd_step: 0.2}", "evaluation: pgd_step must be a length as 4/255 or 0.2 eps, got 0.2"),
        ("evaluation: {batch_size: 50.0}", "evaluation: batch_size must be a whole number of images above 0, got 50.0"),
        (
            "evaluation: {autoattack: {n_images: some}}",
            "n_images must be a whole number of images above 0, or all, got",
        ),
        ("evaluation: {pgd_step: '8'}", "a step or radius is written"),
        ("recipes: {digits: {freeat: {params: {m: 2.5}}}}", "m must be of type int, got 2.5"),
        ("recipes: {digits: {freeat: {params: {m: true}}}}", "m must be of type int, got True"),
        ("recipes: {digits: {fgms_ga: {epochs: 3}}}", "no method or variant 'fgms_ga'. Did you mean 'fgsm_ga'"),
        ("recipes: {digit: {every: {epochs: 3}}}", "unknown dataset 'digit'. Did you mean 'digits'"),
        ("recipes: {digits: {every: 3}}", "every must be a mapping of recipe fields, as {epochs: 3}, got 3"),
        (
            "recipes: {digits: {every: {schedule: 3}}}",
            "schedule must be a mapping as {kind: triangular, lr: 0.1}, got 3",
        ),
        ("recipes: {digits: {every: {schedule: {milestones: 4}}}}", "milestones must be numbers, as [24, 28], got 4"),
        (
            "recipes: {digits: {every: {schedule: {kind: linear, points: [1, 2]}}}}",
            "points must be pairs [epoch, value] of numbers",
        ),
        ("recipes: {digits: {every: {schedule: {kind: linear, points: [[0, 1], [9, 0]]}}}}", "from epoch 0 to 30"),
        ("recipes: {digits: {every: {schedule: {milestones: [9]}}}}", "milestones belongs to kind: piecewise"),
        ("recipes: {digits: {every: {schedule: {points: [[0, 1], [30, 0]]}}}}", "points belongs to kind: linear"),
        ("recipes: {digits: {every: {n_train: 1438}}}", "n_train must be at most 1437"),
        ("recipes: {digits: {every: {n_test: 361}}}", "n_test must be at most 360"),
        ("recipes: {digits: {every: {n_train: 63, drop_last: true}}}", "no batch would be left"),
        ("recipes: {digits: {every: {epochs: true}}}", "epochs must be a whole number above 0, got True"),
        ("recipes: {digits: {every: {compile: on}}}", "compile must be one of off, default, cudagraphs, got True"),
        ("recipes: {digits: {every: {precision: fp16}}}", "precision must be one of float32, tf32, bf16, got 'fp16'"),
        ("recipes: {digits: {every: {shards: 2}}}", "with drop_last: true, got 2"),
        (
            "recipes: {digits: {atas: {params: {c: {by_model: {wrn28_10: 3}}}}}}",
            "is given for wrn28_10, not for preact",
        ),
        ("recipes: {digits: {atas: {params: {c: {by_model: 3}}}}}", "by_model must be a mapping"),
        ("recipes: {digits: {atas: {params: {c: {by_eps: {'77': 3}}}}}}", "is given for eps '77', not for 51/255"),
        ("processes: {imagnet: 2}", "Did you mean 'imagenet'"),
        ("table1_eps: {digits: '77'}", "eps is written N/255"),
        ("recipes: {digits: {every: {weight_decay_epochs: -3}}}", "weight_decay_epochs must be between 0 and epochs"),
        ("recipes: {digits: {every: {flip: 1}}}", "flip must be true or false, got 1"),
        (
            "recipes: {digits: {every: {epochs: {by_epsilon: {77: 3}}}}}",
            "epochs must be a whole number above 0, got {'by_e",
        ),
        ("grid: 3", "config: grid must be a list of one or more blocks, each with dataset, model, eps"),
        ("extra_grid: 2.5", "config: extra_grid must be a list of blocks, each with dataset, model, eps"),
        (
            "{recipes: {digits: {atas: {n_test: 20}}}, evaluation: {autoattack: {n_images: 50}}}",
            "n_images is 50, but digits has 20 test images",
        ),
        ("gird: []", "unknown key 'gird'. Did you mean 'grid'"),
        ("recipes: {}\ngrid: []\nrecipes: {}\n", "'recipes' stands twice in one mapping"),
        ("recipes: {digits: {atas: {epochs: 2}, atas: {epochs: 3}}}", "'atas' stands twice in one mapping"),
        (
            "recipes: {digits: {every: {weight_decay: 5e-4}}}",
            "weight_decay must be in [0, 1), got '5e-4'. YAML reads it as text; write 0.0005",
        ),
        ("recipes: {digits: {every: {epochs: '3'}}}", "got '3'. YAML reads it as text; write 3"),
        ("- a list", "must hold `key: value` lines"),
    ],
)
def test_check_refuses_with_exit_code_2(tmp_path, capsys, text, message):
    config = tmp_path / "config.yaml"
    config.write_text(text)
    assert main(["check", "--configfile", str(config)]) == 2
    assert message in capsys.readouterr().err


def test_what_yaml_reads_as_false_is_compile_off():
    switched = overlay(config(), {"recipes": {"digits": {"every": {"compile": False}}}})
    assert resolve(expand(switched)[0], switched).compile == "off"
