"""How recipes are laid together, and what is refused."""

import json
import re
from pathlib import Path

import pytest
import torch

import methods
from fastat import ROOT
from fastat.cli import main
from fastat.config import recipe
from fastat.config.grid import check_config, expand, load_config, overlay, warnings
from fastat.config.recipe import (
    Recipe,
    check_named_recipes,
    check_recipe_names,
    chosen,
    fingerprint,
    lay,
    named_recipe,
    recipe_from,
    resolve,
    resolved,
    variants,
)
from fastat.config.schema import read_yaml
from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.training.run import build_all
from fastat.types import Task
from fastat.units import in_pixels


def test_recipe_and_json_are_inverse():
    spec = RunSpec.parse("digits/preact_tiny/eps77/atas/released/seed0")
    recipe = resolve(spec, load_config())
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.params == {"gamma_over_c": "2 eps", "warmup_epochs": 5, "clamp": ["0.5 eps", "1.75 eps"]}


def test_fields_of_now_are_left_out_of_the_json_where_they_change_nothing():
    text = resolve(RunSpec("imagenet", "resnet50", 2, "fgsm_rs", "paper", 0), load_config()).to_json()
    assert not {"crop", "cutout", "decay_batchnorm", "hold_out", "network"} & json.loads(text).keys()
    released = json.loads(
        resolve(RunSpec("imagenet", "resnet50", 2, "fgsm_rs", "released", 0), load_config()).to_json()
    )
    assert (released["crop"], released["decay_batchnorm"]) == ("resized", False)


@pytest.mark.parametrize(
    "run,said",
    [
        (
            "digits/preact_tiny/eps77/fgsm_rs",
            "crop must be window, or left out: resized is built for images that are read",
        ),
        (
            "imagenet/resnet18/eps2/atta",
            "atta: crop must be window, or left out: it keeps a perturbation of every image",
        ),
        (
            "imagenet/resnet18/eps2/atas",
            "atas: crop must be window, or left out: it keeps a perturbation of every image",
        ),
        ("imagenet/resnet18/eps2/fgsm_rs", ""),
        ("imagenet/resnet18/eps2/fgsm_pgi", ""),  # whose prior does not follow the crop
    ],
)
def test_a_resized_crop_is_refused_where_it_cannot_be(run, said):
    dataset, model, eps, method = run.split("/")
    cell = {"dataset": dataset, "model": model, "eps": f"{eps[3:]}/255", "method": method, "seed": 0}
    config = overlay(load_config(), {"grid": [cell], "recipes": {dataset: {"every": {"crop": "resized"}}}})

    def built():
        check_config(config)
        build_all(expand(config), config)

    if not said:
        return built()
    with pytest.raises(BadInput, match=re.escape(said)):
        built()


def test_every_named_recipe_is_whole_on_cifar10_and_says_where_each_value_comes_from():
    for method, names in variants().items():
        for variant in names:
            recipe = named_recipe(method, variant)
            recipe.pop("datasets", None)
            fields = {}
            for key, (value, source) in recipe.items():
                assert isinstance(source, str) and source
                param = key.removeprefix("params.")
                value = chosen(value, RunSpec("cifar10", "preact_resnet18", 8, method, variant, 0), key)
                fields = lay(fields, {key: value} if param == key else {"params": {param: value}})
            whole = recipe_from(fields, f"{method}/{variant}")
            shapes, device = ((3, 32, 32), (3, 40, 40)), torch.device("meta")
            task = Task(8 / 255, 50000, 10, *shapes, whole.epochs, 128, 391, 9, device, None, n_features=512)
            methods.build(method, task, **whole.params)


def test_a_schedule_that_says_its_kind_replaces_the_one_below_and_another_merges():
    below = {"schedule": {"kind": "triangular", "lr": 0.2, "cycle_momentum": True}, "params": {"a": 1}}
    assert lay(below, {"schedule": {"lr": 0.1}})["schedule"]["cycle_momentum"]
    assert lay(below, {"schedule": {"kind": "piecewise"}})["schedule"] == {"kind": "piecewise"}
    assert lay(below, {"params": {"b": 2}})["params"] == {"a": 1, "b": 2}


def test_config_recipes_yaml_names_only_what_exists_and_json_recipes_are_checked_too():
    check_recipe_names(read_yaml(ROOT / "config/recipes.yaml")["datasets"], "recipes.yaml: datasets")
    for text in ('{"schedule": 3}', '{"epochs": 3, "schedule": {"kind": "linear", "points": [1]}}', "[]", "3"):
        with pytest.raises(BadInput):
            Recipe.from_json(text)


@pytest.mark.parametrize(
    "name,message",
    [
        ("atas/relesed", "method atas has no variant 'relesed'. Did you mean 'released'"),
        ("atas/paper_d0_3", "has no variant 'paper_d0_3'"),
        ("atass/paper", "unknown method 'atass'. Did you mean 'atas'"),
    ],
)
def test_a_run_of_no_recipe_is_refused(name, message):
    spec = RunSpec.parse(f"digits/preact_tiny/eps77/{name}/seed0")
    with pytest.raises(BadInput, match=message):
        resolve(spec, load_config())


def test_a_choice_may_stand_in_a_choice_and_for_a_whole_schedule():
    by_model = {"by_model": {"preact_tiny": 0.3, "other": 0.1}}
    schedule = {"by_eps": {77: {"kind": "triangular", "lr": by_model}, 102: {"kind": "piecewise", "lr": 0.2}}}
    config = overlay(load_config(), {"recipes": {"digits": {"every": {"schedule": schedule}}}})
    found = [resolve(RunSpec("digits", "preact_tiny", eps, "atas", "paper", 0), config).schedule for eps in (77, 102)]
    assert [(one.kind, one.lr) for one in found] == [("triangular", 0.3), ("piecewise", 0.2)]


def test_a_value_by_eps_must_know_the_eps():
    with pytest.raises(BadInput, match="lam is given for eps 51/255, 77/255, 102/255, not for 8/255"):
        resolve(RunSpec("digits", "preact_tiny", 8, "fgsm_ga", "paper", 0), load_config())


FIXED = {  # in 255ths, at whatever eps
    "pgd10": {"alpha": 2},
    "yopo": {"sigma": 2},
    "fgsm_rs": {"alpha": 10},
    "ssat": {"alpha": 10},
    "atta": {"alpha": 3.825},
    "nuat": {"corner": 4, "clip": 8},
    "subat": {"alpha": 10, "subspace_radius": 16, "subspace_alpha": 20},
    "fgsm_sdi": {"alpha": 8},
    "fgsm_pgi": {"alpha": 8},
    "fgsm_pco": {"alpha": 8},
    "fgsm_fuap": {"size": 10},
    "fgsm_law": {"alpha": 8},
}


@pytest.mark.parametrize("dataset,model", [("cifar10", "preact_resnet18"), ("cifar100", "wrn28_10")])
@pytest.mark.parametrize("eps", [8, 12, 16])
@pytest.mark.parametrize("method", FIXED)
def test_released_keeps_what_the_code_fixes_whatever_eps_is(method, eps, dataset, model):
    recipes = (resolve(RunSpec(dataset, model, eps, method, name, 0), load_config()) for name in ("released", "paper"))
    released, paper = (methods.config_class(method)(**recipe.params) for recipe in recipes)
    of_released = {key: 255 * in_pixels(getattr(released, key), eps / 255) for key in FIXED[method]}
    assert of_released == pytest.approx(FIXED[method])
    if method != "atta":  # whose paper fixes 4/255, too
        of_paper = {key: 255 * in_pixels(getattr(paper, key), eps / 255) for key in FIXED[method]}
        assert of_paper == pytest.approx({key: length * eps / 8 for key, length in FIXED[method].items()})


@pytest.mark.parametrize("dataset", ["digits", "digits_dev", "fashion_mnist"])
@pytest.mark.parametrize("method", FIXED)
def test_on_data_of_another_scale_it_is_in_proportion(method, dataset):
    named = resolved(RunSpec(dataset, "preact_tiny", 77, method, "released", 0), load_config()).params
    assert all(named[key].endswith(" eps") for key in FIXED[method])


BEFORE = json.loads((Path(__file__).parent / "resolved_before.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("where", BEFORE["recipes"])
def test_every_recipe_is_what_it_was_when_data_sets_lay_over_variants(where):
    """Made at fba77c8, of all methods and variants and of D_9^10 of each, without the method's version.

    Made anew since: where a recipe was mended, as CHANGELOG.md says.
    """
    config = load_config()
    assert sum(map(len, BEFORE["recipes"].values())) == 954
    for name, known in BEFORE["recipes"][where].items():
        fields = json.loads(resolve(RunSpec.parse(f"{where}/{name}/seed0"), config).to_json())
        assert fingerprint({key: fields[key] for key in BEFORE["fields"]}) == known, name


@pytest.fixture
def mine(monkeypatch):
    """A variant that a user adds to config/recipes.yaml."""

    def add(method, **named):
        known, names = recipe.named_recipes(), recipe.variants()
        changed = {**known["methods"], method: {**known["methods"][method], "mine": named}}
        monkeypatch.setattr(recipe, "named_recipes", lambda: {**known, "methods": changed})
        monkeypatch.setattr(recipe, "variants", lambda: {**names, method: [*names[method], "mine"]})

    return add


MINE = {"epochs": [20, "mine"], "batch_size": [32, "mine"], "params.alpha": ["0.9 eps", "mine"]}


@pytest.mark.parametrize("dataset", ["digits", "fashion_mnist", "cifar10"])
def test_what_a_variant_names_beats_what_a_data_set_says_of_the_method_and_of_every_one(dataset, mine):
    mine("atta", schedule=[{"kind": "triangular", "lr": 0.3}, "mine"], **MINE)
    found = resolve(RunSpec(dataset, "m", 77, "atta", "mine", 0), load_config())
    assert (found.epochs, found.batch_size, found.params["alpha"]) == (20, 32, "0.9 eps")
    assert (found.schedule.kind, found.schedule.lr) == ("triangular", 0.3)


def test_what_it_does_not_name_it_takes_from_the_data_set_and_not_from_cifar10(mine):
    mine("atta", **{"params.alpha": ["0.9 eps", "mine"], "schedule": [{"lr": 0.3}, "mine"]})
    found = resolve(RunSpec("digits", "m", 77, "atta", "mine", 0), load_config())
    assert (found.epochs, found.batch_size, found.pad) == (30, 64, 0)
    assert (found.schedule.kind, found.schedule.lr) == ("triangular", 0.3)


@pytest.mark.parametrize("name,alpha", [("every", "0.1 eps"), ("atta", "0.2 eps"), ("atta/mine", "0.3 eps")])
def test_what_the_config_says_comes_last(name, alpha, mine):
    mine("atta", **MINE)
    config = overlay(load_config(), {"recipes": {"digits": {name: {"params": {"alpha": alpha}}}}})
    assert resolve(RunSpec("digits", "m", 77, "atta", "mine", 0), config).params["alpha"] == alpha


def test_paper_is_what_a_data_set_lies_over():
    found = resolve(RunSpec("digits", "preact_tiny", 77, "atta", "paper", 0), load_config())
    assert (found.epochs, found.batch_size, found.params["alpha"]) == (30, 64, "0.5 eps")


@pytest.mark.parametrize(
    "methods_,message",
    [
        ({"atta": {"mine": {"params.alpha": "1.1 eps"}}}, "params.alpha must be [value, source], as [1.1 eps, my own"),
        ({"atta": {"mine": {"params.alpha": ["1.1 eps"]}}}, "params.alpha must be [value, source]"),
        ({"atta": {"mine": {"epochs": [3, 4]}}}, "atta/mine: epochs must be [value, source]"),
        ({"atta": {"My Own": {}}}, "atta/My Own must be a name in a-z, 0-9 and _"),
        ({"atta": {"mine": 3}}, "atta/mine must be a name in a-z, 0-9 and _ with a mapping"),
        ({"atsa": {}}, "unknown method 'atsa': bring its file, or remove its recipe. Did you mean 'atas'"),
        (3, "methods must be a mapping, got 3"),
    ],
)
def test_a_named_recipe_that_is_no_recipe_is_said(methods_, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        check_named_recipes({"methods": methods_, "datasets": {}}, "config/recipes.yaml")


CELL = {"dataset": "digits", "model": "preact_tiny", "eps": "102/255", "seed": [0, 1]}
OWN = {"fgsm_rs/mine": {"params": {"alpha": "1.1 eps"}}}


def own_config(methods_, recipes, dataset="digits"):
    """The default with a grid of these methods, and recipes of its own for a data set."""
    return overlay(load_config(), {"grid": [{**CELL, "method": methods_}], "recipes": {dataset: recipes}})


def test_a_config_makes_a_variant_for_its_data_set_and_its_grid_runs_it():
    config = own_config(["fgsm_rs", "fgsm_rs/mine", "fgsm_rs/mine_d9_10"], OWN)
    check_config(config)
    names = [spec.name.removeprefix("digits/preact_tiny/eps102/") for spec in expand(config)]
    variants_ = ("mine", "mine_d9_10", "paper")
    assert names == [f"fgsm_rs/{variant}/seed{seed}" for variant in variants_ for seed in (0, 1)]
    found = {spec.variant: resolve(spec, config) for spec in expand(config)}
    assert [found[v].params["alpha"] for v in variants_] == ["1.1 eps", "1.1 eps", "1.25 eps"]
    assert [found[v].epochs for v in variants_] == [30, 150, 30]


def test_what_is_said_under_its_own_name_lies_over_everything_else_of_the_config():
    more = {"every": {"epochs": 4, "batch_size": 16}, "fgsm_rs": {"epochs": 5, "params": {"alpha": "1.7 eps"}}}
    config = own_config(["fgsm_rs", "fgsm_rs/mine"], {**OWN, **more})
    mine, paper = (resolve(spec, config) for spec in expand(config) if spec.seed == 0)
    assert (mine.epochs, mine.batch_size, mine.params["alpha"]) == (5, 16, "1.1 eps")
    assert (paper.epochs, paper.batch_size, paper.params["alpha"]) == (5, 16, "1.7 eps")


@pytest.mark.parametrize(
    "methods_,recipes,message",
    [
        ("fgsm_rs", OWN, "recipes/digits: no run of the grid is 'fgsm_rs/mine', so that it would change nothing. Name"),
        (["fgsm_rs/mine", "atta"], {**OWN, "atta/mime": {}}, "no run of the grid is 'atta/mime'"),
        (
            ["fgsm_rs/mine", "fgsm_rs/mine_d9_10"],
            {**OWN, "fgsm_rs/mine_d9_10": {"epochs": 3}},
            "'fgsm_rs/mine_d9_10' has no recipe of its own: a training on D_I^J has that of fgsm_rs/mine. Write",
        ),
        ("fgsm_rs/mime", OWN, "method fgsm_rs has no variant 'mime'. Did you mean 'mine'? Known: paper"),
        (
            "atta/mine",
            {"every": {"epochs": 3}},
            "Or make it, in the config: `recipes: {digits: {atta/mine: {epochs: 3}}}`",
        ),
        ("fgsm_rs/My Own", {"fgsm_rs/My Own": {"epochs": 3}}, "made of a-z, 0-9 and _, got 'My Own': it is a folder's"),
        ("fgsm_rs/mine", {"fgsm_rs/mine": {"epcohs": 3}}, "unknown key 'epcohs'. Did you mean 'epochs'"),
        ("fgsm_rs/mine", {"fgsm_rs/mine": {"epochs": 0}}, "epochs must be a whole number above 0, got 0"),
    ],
)
def test_a_variant_of_the_config_that_is_none_is_refused_with_the_way_out(methods_, recipes, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        check_config(own_config(methods_, recipes))


def test_a_variant_made_for_one_data_set_is_none_of_another():
    with pytest.raises(BadInput, match="fgsm_rs has no variant 'mine'"):
        check_config(own_config("fgsm_rs/mine", OWN, dataset="fashion_mnist"))


@pytest.mark.parametrize(
    "methods_,recipes,said",
    [
        (
            ["atta", "atta/step100", "atta/step175"],
            {"atta": {"params": {"alpha": "0.9 eps"}}},
            [
                "config: recipes: digits: atta gives atta/paper and atta/step100 and atta/step175 the same recipe. To "
                "change one of them, write it under atta/paper"
            ],
        ),
        (
            ["atta", "atta/mine"],
            {"atta": {"batch_size": 32}, "atta/mine": {"batch_size": 32}},
            [
                "config: recipes: digits: atta gives atta/paper and atta/mine the same recipe. To change one of them, "
                "write it under atta/paper"
            ],
        ),
        (["atta", "atta/step100"], {"atta/paper": {"params": {"alpha": "0.9 eps"}}}, []),
        (["atta", "atta/step100"], {"every": {"epochs": 2}, "atta": {"batch_size": 32}}, []),
    ],
)
def test_a_recipe_that_makes_variants_of_a_cell_the_same_is_said(methods_, recipes, said):
    assert warnings(own_config(methods_, recipes)) == said


def test_check_says_it_and_exits_with_0(tmp_path, capsys):
    path = tmp_path / "own.yaml"
    cell = "{dataset: digits, model: preact_tiny, eps: 102/255, method: [atta, atta/step100], seed: 0}"
    path.write_text(f"grid: [{cell}]\nrecipes: {{digits: {{atta: {{params: {{alpha: 1 eps}}}}}}}}\n")
    assert main(["check", "--configfile", str(path)]) == 0
    said = capsys.readouterr()
    assert said.out == "2 runs: the config is good\n"
    assert said.err.startswith("warning: config: recipes: digits: atta gives atta/paper and atta/step100 the same")
