"""`sweep` of a config: which runs it makes, what they are called and trained with, and what is refused."""

import re

import pytest

from fastat.cli import main
from fastat.config import sweep
from fastat.config.grid import MOST_RUNS, check_config, expand, load_config, overlay, warnings
from fastat.config.origins import values
from fastat.config.recipe import method_names, resolve
from fastat.config.spec import RunSpec
from fastat.errors import BadInput

CELL = {"dataset": "digits", "model": "preact_tiny", "eps": ["77/255", "102/255"], "method": "fgsm_rs", "seed": [0, 1]}


def config(swept, method="fgsm_rs", **more):
    """The default with this sweep, and a grid of two eps and two seeds."""
    return overlay(load_config(), {"grid": [{**CELL, "method": method}], "sweep": swept, **more})


def variants(found, method="fgsm_rs"):
    """The variants of a method, each once."""
    return sorted({spec.variant for spec in expand(found) if spec.method == method})


def test_every_run_of_the_grid_that_it_is_over_has_one_beside_it_per_value():
    found = config({"fgsm_rs": {"alpha": ["0.5 eps", "1 eps", "2 eps"]}}, ["fgsm_rs", "fgsm_rs/released", "atas"])
    check_config(found)
    specs = expand(found)
    assert len(specs) == 2 * 2 * (3 + 3) and specs == sorted(set(specs))
    names = {spec.name for spec in specs if spec.variant.startswith("alpha")}
    assert names == {
        f"digits/preact_tiny/eps{eps}/fgsm_rs/alpha_{value}/seed{seed}"
        for eps in (77, 102) for value in ("0p5eps", "1eps", "2eps") for seed in (0, 1)
    }  # fmt: skip


@pytest.mark.parametrize(
    "key,value,name",
    [
        ("alpha", "0.5 eps", "alpha_0p5eps"),
        ("alpha", "0.50*eps", "alpha_0p5eps"),
        ("alpha", "4/255", "alpha_4over255"),
        ("alpha", "3.825/255", "alpha_3p825over255"),
        ("schedule.lr", 0.1, "schedule_lr_0p1"),
        ("c", 0.01, "c_0p01"),
        ("c", 1e-05, "c_1em05"),
        ("c", 2.0, "c_2"),
        ("c", -0.5, "c_m0p5"),
        ("average", 0, "average_0"),
        ("random_start", False, "random_start_false"),
        ("store", "float16", "store_float16"),
        ("n_train", None, "n_train_none"),
    ],
)
def test_names_are_key_and_value(key, value, name):
    assert sweep.name("paper", {key: value}) == name
    assert sweep.name("released", {key: value}) == f"released_{name}"


def test_several_keys_are_every_combination_and_a_list_is_separate_sweeps():
    one = config({"fgsm_rs": {"alpha": ["1 eps", "2 eps"], "average": [0, 0.9]}})
    assert variants(one) == [
        "alpha_1eps_average_0", "alpha_1eps_average_0p9", "alpha_2eps_average_0", "alpha_2eps_average_0p9", "paper",
    ]  # fmt: skip
    two = config({"fgsm_rs": [{"alpha": ["1 eps", "2 eps"]}, {"average": [0, 0.9]}]})
    assert variants(two) == ["alpha_1eps", "alpha_2eps", "average_0", "average_0p9", "paper"]
    for found in (one, two):
        check_config(found)


def test_the_swept_value_lies_over_every_recipe_and_the_rest_is_that_of_the_variant_it_is_over():
    own = {"digits": {"every": {"epochs": 4}, "fgsm_rs/released": {"params": {"alpha": "0.1 eps"}, "batch_size": 16}}}
    found = config({"fgsm_rs/released": {"alpha": ["1 eps"], "schedule.lr": [0.3]}}, "fgsm_rs/released", recipes=own)
    check_config(found)
    released, swept = (
        resolve(RunSpec("digits", "preact_tiny", 77, "fgsm_rs", name, 0), found)
        for name in ("released", "released_alpha_1eps_schedule_lr_0p3")
    )
    assert (swept.params["alpha"], swept.schedule.lr) == ("1 eps", 0.3)
    assert (swept.epochs, swept.batch_size) == (released.epochs, released.batch_size) == (4, 16)
    assert swept.schedule.kind == released.schedule.kind == "triangular" and released.params["alpha"] == "0.1 eps"


def test_over_a_variant_that_the_config_makes():
    own = {"digits": {"fgsm_rs/mine": {"epochs": 7}}}
    found = config({"fgsm_rs/mine": {"alpha": ["1 eps"]}}, "fgsm_rs/mine", recipes=own)
    check_config(found)
    assert variants(found) == ["mine", "mine_alpha_1eps"]
    swept = resolve(RunSpec("digits", "preact_tiny", 77, "fgsm_rs", "mine_alpha_1eps", 0), found)
    assert (swept.epochs, swept.params["alpha"]) == (7, "1 eps")


def test_a_value_that_the_run_has_anyway_is_a_run_of_its_own_and_no_warning():
    found = config({"fgsm_rs": {"alpha": ["1 eps", "1.25 eps"]}}, recipes={"digits": {"fgsm_rs": {"epochs": 3}}})
    check_config(found)
    assert variants(found) == ["alpha_1eps", "alpha_1p25eps", "paper"] and warnings(found) == []
    own, swept = (resolve(RunSpec("digits", "m", 77, "fgsm_rs", v, 0), found) for v in ("paper", "alpha_1p25eps"))
    assert own == swept


def test_a_run_of_a_sweep_may_train_on_a_subset():
    found = config({"fgsm_rs": {"alpha": ["1 eps"]}}, ["fgsm_rs", "fgsm_rs/alpha_1eps_d9_10"])
    check_config(found)
    spec = next(spec for spec in expand(found) if spec.subset)
    assert (resolve(spec, found).params["alpha"], resolve(spec, found).epochs) == ("1 eps", 150)


def test_two_sweeps_of_a_cell_that_meet_make_the_run_once():
    found = config({"fgsm_rs": {"alpha": ["1 eps", "2 eps"]}, "fgsm_rs/paper": {"alpha": ["2 eps", "3 eps"]}})
    check_config(found)
    assert variants(found) == ["alpha_1eps", "alpha_2eps", "alpha_3eps", "paper"]


@pytest.mark.parametrize(
    "swept,message",
    [
        (
            {"fgsm_rs": {"alhpa": ["1 eps"]}},
            "sweep: fgsm_rs: no parameter or recipe field 'alhpa'. Did you mean 'alpha",
        ),
        ({"fgsm_rs": {"schedule.rl": [0.1]}}, "no parameter or recipe field 'schedule.rl'. Did you mean 'schedule.lr'"),
        ({"fgsm_rs": {3: [0.1]}}, "no parameter or recipe field 3"),
        ({"fgsm_rs": {"c": [0.1]}}, "no parameter or recipe field 'c'"),
        ({"fgsm_rs": {"schedule.kind": ["linear"]}}, "no parameter or recipe field 'schedule.kind'"),
        ({"fgsm_r": {"alpha": ["1 eps"]}}, "no run of the grid is 'fgsm_r'. Name it there. Did you mean 'fgsm_rs'?"),
        ({"atas": {"c": [1]}}, "no run of the grid is 'atas'. Name it there"),
        ({"fgsm_rs/released": {"alpha": ["1 eps"]}}, "no run of the grid is 'fgsm_rs/released'"),
        ({"fgsm_rs/paper_d1_2": {"alpha": ["1 eps"]}}, "a sweep is over trainings on all images. Write fgsm_rs/paper"),
        ({"fgsm_rs": {"alpha": "1 eps"}}, "alpha must be a list of one or more values, as [1 eps, 2 eps], got '1 eps'"),
        ({"fgsm_rs": {"alpha": []}}, "alpha must be a list of one or more values"),
        ({"fgsm_rs": {}}, "fgsm_rs must be a mapping from parameters or recipe fields to lists of values, as {alpha"),
        ({"fgsm_rs": 3}, "fgsm_rs must be a mapping from parameters or recipe fields to lists of values"),
        ({"fgsm_rs": []}, "fgsm_rs must be a mapping from parameters or recipe fields to lists of values"),
        ({"fgsm_rs": [3]}, "sweep/fgsm_rs: 0 must be a mapping from parameters or recipe fields to lists of values"),
        ([], "sweep must be a mapping from METHOD or METHOD/VARIANT to what is swept, got []"),
        ({"fgsm_rs": {"alpha": [{"by_eps": {77: 1}}]}}, "a swept value is a number, a word, a length, true, false or"),
        ({"fgsm_rs": {"alpha": ["1 eps", "1.0*eps"]}}, "'1 eps' and '1.0*eps' would both be alpha_1eps. Leave one of"),
        ({"fgsm_rs": {"average": [0.5, "0p5"]}}, "0.5 and '0p5' would both be average_0p5"),
        ({"fgsm_rs": {"epochs": [3, 0]}}, "recipe of digits/fgsm_rs/epochs_0: epochs must be a whole number above 0"),
        ({"fgsm_rs": {"schedule.lr": [-1]}}, "lr must be above 0, got -1"),
        ({"fgsm_rs": {"average": ["high"]}}, "average must be in [0, 1), got 'high'"),
        ({"fgsm_rs": {"arch": ["x" * 200]}}, "can name no run (at most 200 of a-z, 0-9 and _"),
        (
            {"fgsm_rs": {key: list(range(1, 101)) for key in ("epochs", "batch_size", "n_test", "n_train")}},
            f"sweep: 100,000,000 combinations, at most {MOST_RUNS:,}. Sweep over fewer values at once",
        ),
    ],
)
def test_a_sweep_that_is_none_is_refused_with_the_way_out(swept, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        check_config(config(swept))


def test_more_runs_than_can_be_named_are_counted_and_not_made():
    found = config({"fgsm_rs": {"epochs": list(range(1, 1001))}})
    with pytest.raises(BadInput, match="these are 20,020 runs, at most max_runs = 500"):
        check_config(overlay(found, {"grid": [{**CELL, "seed": list(range(10))}]}))
    with pytest.raises(BadInput, match=f"the grid names 2,002,000 runs, at most {MOST_RUNS:,}. Split it"):
        check_config(overlay(found, {"grid": [{**CELL, "seed": list(range(1000))}]}))


def test_a_name_that_another_variant_has_is_refused():
    own = {"digits": {"fgsm_rs/alpha_1eps": {"epochs": 3}}}
    found = config({"fgsm_rs": {"alpha": ["1 eps"]}}, ["fgsm_rs", "fgsm_rs/alpha_1eps"], recipes=own)
    with pytest.raises(BadInput, match="alpha: 1 eps would be fgsm_rs/alpha_1eps, which is another variant. Give that"):
        check_config(found)


def test_two_different_sweeps_under_one_name_are_refused():
    own = {"digits": {"fgsm_rs/average_0": {"epochs": 3}}}
    swept = {"fgsm_rs": {"average": [0], "alpha": ["1 eps"]}, "fgsm_rs/average_0": {"alpha": ["1 eps"]}}
    message = (
        "would be fgsm_rs/average_0_alpha_1eps, and so would average: 0, alpha: 1 eps over paper. Sweep them in two"
    )
    with pytest.raises(BadInput, match=re.escape(message)):
        check_config(config(swept, ["fgsm_rs", "fgsm_rs/average_0"], recipes=own))


def test_a_parameter_s_type_is_checked_as_that_of_a_recipe(tmp_path, capsys):
    path = tmp_path / "swept.yaml"
    path.write_text("sweep: {atta: {reset_every: [5, 2.5]}}\n")
    assert main(["check", "--configfile", str(path)]) == 2
    assert "method atta: reset_every must be of type int, got 2.5" in capsys.readouterr().err


def test_a_grid_above_max_runs_is_refused_and_its_own_number_lets_it_pass():
    swept = {"fgsm_rs": {"average": [k / 100 for k in range(50)]}}
    message = "these are 204 runs, at most max_runs = 203. If you mean it, write `max_runs: 204`"
    with pytest.raises(BadInput, match=re.escape(message)):
        check_config(config(swept, max_runs=203))
    check_config(config(swept, max_runs=204))
    with pytest.raises(BadInput, match=re.escape("at most max_runs = 500")):
        check_config(overlay(load_config(), {"grid": [{**CELL, "seed": list(range(251))}]}))
    with pytest.raises(BadInput, match="max_runs must be a whole number of runs from 1 to 1000000, got 0"):
        check_config(config(swept, max_runs=0))


def test_recipe_says_file_and_line_of_the_swept_value(tmp_path):
    path = tmp_path / "swept.yaml"
    path.write_text(
        "sweep:\n  fgsm_rs:\n    - alpha: [1 eps]\n    - average:\n        - 0\n        - 0.9  # slow\n"
        "recipes: {digits: {fgsm_rs: {average: 0.5}}}\n"
    )
    spec = RunSpec.parse("digits/preact_tiny/eps77/fgsm_rs/average_0p9/seed0")
    found = {key: (value, origin) for key, value, origin, _ in values(spec, [path])}
    value, origin = found["average"]
    assert (value, origin.file, origin.line, origin.source) == (0.9, str(path), 6, "slow")
    assert found["params.alpha"][1].file == "config/recipes.yaml"


def test_every_method_can_be_swept_over_its_own_parameters_and_the_recipe_s_fields():
    for method in method_names():
        assert {"epochs", "average", "schedule.lr"} <= sweep.keys(method).keys()
    assert sweep.keys("atas")["gamma_over_c"] == "params.gamma_over_c" and "alpha" in sweep.keys("atta")


@pytest.mark.parametrize(
    "method,variant,words",
    [
        ("fgsm_rs", "alpha_0p5eps", "alpha 0.5 eps"),
        ("fgsm_rs", "alpha_4over255", "alpha 4/255"),
        ("fgsm_rs", "released_alpha_1eps_random_start_false", "released, alpha 1 eps, random_start false"),
        ("atas", "schedule_lr_1em05_c_m0p5", "schedule.lr 1e-05, c -0.5"),
        ("atta", "store_float16", "store float16"),
        ("fgsm_rs", "step175", "step175"),
        ("atas", "c005", "c005"),
        ("fgsm_rs", "paper_d9_10", "paper_d9_10"),
        ("fgsm_rs", "alpha_1eps_d9_10", "alpha 1 eps, d9_10"),
        ("fgsm_rs", "alpha", "alpha"),
    ],
)
def test_people_read_key_and_value(method, variant, words):
    assert sweep.words(method, variant) == words


@pytest.mark.parametrize(
    "variant,said",
    [
        ("alpha_0p5eps", ("paper", {"alpha": "0.5*eps"})),
        ("released_alpha_0p5eps_average_0", ("released", {"alpha": "0.5*eps", "average": 0.0})),
        ("my_own_average_0", ("my_own", {"average": 0.0})),
        ("alpha_1eps", None),
        ("alpha_0p5eps_average_1", None),
        ("step175", None),
        ("paper", None),
    ],
)
def test_a_variant_is_a_sweep_s_if_its_name_says_values_that_its_recipe_has(variant, said):
    assert sweep.said(variant, {"alpha": "0.5*eps", "average": 0.0, "milestones": [1, 2]}) == said
