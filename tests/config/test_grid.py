"""Config to runs, and what is refused."""

import json
import os
import re

import pytest
import yaml

from fastat.cli import main
from fastat.config.grid import (
    check_config,
    expand,
    is_under_autoattack,
    keeps_snapshots,
    last_evaluation,
    load_config,
    overlay,
    result_files,
)
from fastat.config.origins import describe
from fastat.config.recipe import resolve
from fastat.config.schema import as_number, typed
from fastat.config.spec import RunSpec
from fastat.errors import BadInput

THOUSAND = f"[{', '.join(map(str, range(1000)))}]"
BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{k}: &a{k} [{', '.join(9 * [f'*a{k - 1}'])}]" for k in range(1, 10))])


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


def test_a_run_is_under_autoattack_unless_every_block_that_names_it_says_no():
    block = {"dataset": "digits", "model": "preact_tiny", "eps": "77/255", "method": "atas", "seed": [0, 1]}
    found = overlay(config(seed=[0]), {"extra_grid": [block | {"autoattack": False}], "sweep": {"atas": {"beta": [0]}}})
    check_config(found)
    asked = {(spec.variant, spec.seed): is_under_autoattack(spec, found) for spec in expand(found)}
    assert asked == {("paper", 0): True, ("beta_0", 0): True, ("paper", 1): False, ("beta_0", 1): False}
    (first, second) = (spec for spec in expand(found) if spec.variant == "paper")
    without = [name for name in result_files(first, found) if "autoattack" not in name]
    assert result_files(second, found) == without and "eval/steps.csv" in without
    assert last_evaluation(second, found).endswith("seed1/eval/steps.json")
    held = overlay(found, {"recipes": {"digits": {"atas": {"hold_out": 0.1}}}})
    assert last_evaluation(second, held).endswith("seed1/eval/best_whitebox.json")
    assert not [name for name in result_files(second, held) if "autoattack" in name]
    assert {spec.name for spec in expand(found)} == {
        spec.name for spec in expand(overlay(config(seed=[0, 1]), {"sweep": found["sweep"]}))
    }
    with pytest.raises(BadInput, match="autoattack must be true or false, got 'no'"):
        check_config(config(autoattack="no"))


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
        ("evaluation: {pgd_step: 0 eps}", "evaluation/pgd_step: a step must be above 0, got '0 eps'. Write 0.2 eps"),
        ("evaluation: {pgd_step: 0/255}", "evaluation/pgd_step: a step must be above 0"),
        (
            "evaluation: {pgd_step: 5/255}",
            "PGD10's ten steps of 5/255 lead 50/255 far: the ball's edge is out of reach at eps 102/255. Write",
        ),
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
        ("grid: [1,\n  2", "config.yaml is not YAML: line 2: expected ',' or ']', but got '<stream end>'"),
        ("grid: 1\n\tgrid: 2", "line 2: found character '\\t' that cannot start any token"),
        ("--- {}\n--- {}\n", "is not YAML: line 2: but found another document"),
        ("grid: !!python/object:os.system {}", "line 1: could not determine a constructor for the tag"),
        (BOMB, " values, aliases written out. At most 100,000 values and 50 levels"),
        ("a: &a [*a]", "line 1: it holds itself, by an alias"),
        ("a: &a {b: *a}", "line 1: it holds itself, by an alias"),
        ("[" * 60 + "]" * 60, "line 1: 51 levels, aliases written out"),
        ("a: " + "[" * 100_000, "it nests too deep"),
        ("{a: " * 5000 + "1" + "}" * 5000, "it nests too deep"),
        (
            f"grid: [{{dataset: digits, model: [{', '.join(['m'] * 1000)}], eps: [{', '.join(['8/255'] * 1000)}], "
            f"method: atas, seed: {THOUSAND}}}]",
            "the grid names 1,000,000,000 runs, at most 1,000,000. Split it",
        ),
        (f"recipes: {{digits: {{every: {{epochs: {'9' * 5000}}}}}}}", "99999999999999999999... (5000 digits) is no"),
        (f"recipes: {{digits: {{every: {{epochs: 0x{'f' * 5000}}}}}}}", "(5002 digits) is no number"),
        ("recipes: {digits: {every: {epochs: 99999999999}}}", "got 99999999999; at most 1,000,000,000"),
        ("recipes: {digits: {every: {epochs: 1:30}}}", "line 1: 1:30 is no number that YAML and people read alike"),
        ("recipes: {digits: {every: {epochs: 010}}}", "010 is no number that YAML and people read alike"),
        ("recipes: {digits: {every: {weight_decay: .nan}}}", ".nan is no number"),
        ("recipes: {digits: {every: {weight_decay: -.inf}}}", "-.inf is no number"),
        ("recipes: {digits: {every: {weight_decay: 1.0e+999}}}", "1.0e+999 is no number"),
        ("data_dir: 2020-01-01", "line 1: 2020-01-01 is a timestamp for YAML. Write it in quotes"),
        ("data_dir: !!binary aGVsbG8=", "is a binary for YAML"),
        ("external: !!set {theirs.pt}", "line 1: here is a set for YAML"),
        ("recipes: {digits: {every: {epochs: 3.0}}}", "epochs must be a whole number above 0, got 3.0; write 3"),
        ("recipes: {digits: {every: {pad: 10000000}}}", "pad must be a whole number from 0 to 1,000,000, got 10000000"),
        ("recipes: {digits: {atsa: {epochs: 3}}}", "no method or variant 'atsa'. Did you mean 'atas'"),
        ("recipes: {digits: {3: {epochs: 3}}}", "no method or variant 3"),
        ("extra_grid: [{dataset: digits, model: preact_tiny, eps: 8/255, method: atsa, seed: 0}]", "mean 'atas'"),
        (
            "recipes: {digits: {every: {schedule: {kind: piecewise, milestones: [10, '20']}}}}",
            "milestones must be numbers, as [24, 28], got [10, '20']",
        ),
        ("recipes: {digits: {every: {schedule: {kind: piecewise, milestones: [true]}}}}", "milestones must be numbers"),
        ("evaluation: {pgd_step: 5000000000000000000000000000000000000 eps}", "a step or radius is written"),
        ("grid: [{dataset: digits, model: preact_tiny, eps: 8/255, method: atas}]", "grid/0: there is no 'seed'"),
        ("{? [a, b] : 1}", "found unhashable key"),
        ('data_dir: "\\ud800\nx: [', "is not YAML"),
    ],
)
def test_check_refuses_with_exit_code_2(tmp_path, capsys, text, message):
    config = tmp_path / "config.yaml"
    config.write_text(text)
    assert main(["check", "--configfile", str(config)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "content,message",
    [
        ("grid: []".encode("utf-16"), "is not YAML: it is no text in UTF-8"),
        (bytes(range(256)), "is not YAML: it is no text in UTF-8"),
        (b"grid: \x00", "is not YAML: special characters are not allowed"),
        (b" " * 10_000_001, "10,000,001 bytes are no config"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path, capsys, content, message):
    (tmp_path / "config.yaml").write_bytes(content)
    assert main(["check", "--configfile", str(tmp_path / "config.yaml")]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_a_pipe_and_a_device_are_no_config(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path, "a folder"), (tmp_path / "pipe", "a pipe"), ("/dev/zero", "a pipe or device")):
        assert main(["check", "--configfile", str(path)]) == 2
        assert f"{path}, cannot read it: it is {what}" in capsys.readouterr().err


def test_a_byte_order_mark_and_an_empty_file_harm_nothing(tmp_path):
    for content in (b"\xef\xbb\xbfdevice: cpu\n", b"", b"# nothing\n"):
        (tmp_path / "config.yaml").write_bytes(content)
        load_config([tmp_path / "config.yaml"])


def test_what_snakemake_passes_as_text_becomes_what_yaml_reads():
    text = {"a": {"n": "5", "x": "5e-4", "y": "-.5", "on": "True", "no": "null", "eps": "77/255"}, "b": ["1", "1:30"]}
    assert typed(text) == {
        "a": {"n": 5, "x": 5e-4, "y": -0.5, "on": True, "no": None, "eps": "77/255"},
        "b": [1, "1:30"],
    }
    assert typed({"by_eps": {"77": "3"}}) == {"by_eps": {77: 3}} and typed("9" * 50) == "9" * 50


def test_a_config_that_is_kept_as_json_names_the_same_runs_with_the_same_recipes(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "grid: [{dataset: digits, model: preact_tiny, eps: [51/255, 102/255], method: atas, seed: 0}]\n"
        "sweep: {atas: {c: [1.0e-5, 0.02]}}\n"
        "recipes: {digits: {atas: {weight_decay: 0.00005, params: {gamma_over_c: {by_eps: {51: 1 eps, 102: 3 eps}}}}}}"
    )
    asked = load_config([tmp_path / "mine.yaml"])
    (tmp_path / "config.json").write_text(json.dumps(asked, indent="\t"))
    kept = load_config([tmp_path / "config.json"])
    assert kept == asked and {spec.variant for spec in expand(kept)} == {"paper", "c_1em05", "c_0p02"}
    assert [resolve(spec, kept) for spec in expand(kept)] == [resolve(spec, asked) for spec in expand(asked)]
    said = describe(RunSpec("digits", "preact_tiny", 102, "atas", "c_1em05", 0), [tmp_path / "config.json"])
    assert re.search(r"^params.gamma_over_c +3 eps .*by_eps: 102", said, re.MULTILINE)


@pytest.mark.parametrize("text,message", [
    ('{"grid": [], "grid": []}', "'grid' stands twice in one object"),
    ('{"grid": [}', "is not JSON: Expecting value: line 1"), ('{"max_runs": NaN}', "NaN is no number"),
    ('{"max_runs": 1e400}', "inf is too large a number"), ("[1]", "must hold `key: value` lines"),
    ('{"a": ' * 60 + "1" + "}" * 60, "it nests deeper than 50 levels"), ("[" * 100_000, "it nests too deep"),
])  # fmt: skip
def test_json_that_is_no_config_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=f"config.json.*{re.escape(message)}"):
        load_config([tmp_path / "config.json"])


def test_an_absolute_step_of_pgd_must_reach_the_edge_of_the_ball_in_ten():
    at = config(eps="77/255")
    check_config(overlay(at, {"evaluation": {"pgd_step": "7.7/255"}}))
    with pytest.raises(BadInput, match="7.6/255 lead 76/255 far.*at eps 77/255"):
        check_config(overlay(at, {"evaluation": {"pgd_step": "7.6/255"}}))


@pytest.mark.parametrize("text,written", [("5e-5", "0.00005"), ("2.5e-07", "0.00000025"), ("1e3", "1000")])
def test_the_way_out_of_a_number_that_yaml_reads_as_text_is_none_itself(text, written):
    assert as_number(text) == f". YAML reads it as text; write {written}"
    assert yaml.safe_load(written) == float(text)


def test_what_yaml_reads_as_false_is_compile_off():
    switched = overlay(config(), {"recipes": {"digits": {"every": {"compile": False}}}})
    assert resolve(expand(switched)[0], switched).compile == "off"


def test_a_block_that_names_what_a_sweep_would_make_says_what_is_done_with_it():
    asked = config(method="fgsm_rs/alpha_0p5eps", autoattack=False, snapshots=True)
    asked["sweep"] = {"fgsm_rs": {"alpha": ["0.5 eps"]}}
    (spec,) = expand(asked)
    assert not is_under_autoattack(spec, asked) and keeps_snapshots(spec, asked)
