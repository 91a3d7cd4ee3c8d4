"""How recipes are laid together, and what is refused."""

import json
import re
from pathlib import Path

import pytest
import torch

import methods
from fastat import ROOT
from fastat.config import recipe
from fastat.config.grid import load_config, overlay
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
    variants,
)
from fastat.config.schema import read_yaml
from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.types import Task


def test_recipe_and_json_are_inverse():
    spec = RunSpec.parse("digits/preact_tiny/eps77/atas/released/seed0")
    recipe = resolve(spec, load_config())
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.params == {"gamma_over_c": "2 eps", "warmup_epochs": 5, "clamp": ["0.5 eps", "1.75 eps"]}


def test_every_named_recipe_is_whole_on_cifar10_and_says_where_each_value_comes_from():
    for method, names in variants().items():
        for variant in names:
            recipe = named_recipe(method, variant)
            fields = {}
            for key, (value, source) in recipe.items():
                assert isinstance(source, str) and source
                param = key.removeprefix("params.")
                value = chosen(value, RunSpec("cifar10", "preact_resnet18", 8, method, variant, 0), key)
                fields = lay(fields, {key: value} if param == key else {"params": {param: value}})
            whole = recipe_from(fields, f"{method}/{variant}")
            task = Task(
                8 / 255, 50000, 10, (3, 32, 32), (3, 40, 40), whole.epochs, 128, 391, 9, torch.device("meta"), None
            )
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


BEFORE = json.loads((Path(__file__).parent / "resolved_before.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("where", BEFORE["recipes"])
def test_every_recipe_is_what_it_was_when_data_sets_lay_over_variants(where):
    """Made at fba77c8, of all methods and variants and of the subset D_9^10 of each, without the method's version."""
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
        ({"atsa": {}}, "methods: unknown method 'atsa'. Did you mean 'atas'"),
        (3, "methods must be a mapping, got 3"),
    ],
)
def test_a_named_recipe_that_is_no_recipe_is_said(methods_, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        check_named_recipes({"methods": methods_, "datasets": {}}, "config/recipes.yaml")
