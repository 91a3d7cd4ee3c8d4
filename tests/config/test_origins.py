"""Where the values of a recipe come from: every one, and the line that is named has it."""

import functools
from dataclasses import asdict

import pytest

import methods
from fastat import ROOT
from fastat.cli import main
from fastat.config import origins
from fastat.config.grid import load_config
from fastat.config.origins import defaults, flat, values
from fastat.config.recipe import resolve, variants
from fastat.config.spec import RunSpec
from fastat.units import parse_eps


def told(name, *paths):
    """Name of a value -> (value, origin, how it was stretched)."""
    return {key: rest for key, *rest in values(RunSpec.parse(name), list(paths))}


@pytest.mark.parametrize("dataset", ["digits", "fashion_mnist", "cifar100", "imagenet"])
def test_every_value_of_every_recipe_stands_on_the_line_that_is_named(dataset, monkeypatch):
    monkeypatch.setattr(origins, "read_origins", functools.cache(origins.read_origins))  # some hundred times the same
    config, lines = load_config(), {}
    eps = parse_eps(config["table1_eps"][dataset])
    for method, names in variants().items():
        for variant in names:
            spec = RunSpec(dataset, "preact_resnet18", eps, method, variant, 0)
            if (dataset, method) == ("fashion_mnist", "subat"):
                continue  # it has no recipe for that data set's epochs
            if dataset != "cifar100" and "fastat_benchmark" in variant:
                continue  # it is at home on CIFAR
            recipe = resolve(spec, config)
            found = told(spec.name)
            assert flat(recipe).items() <= {key: value for key, (value, *_) in found.items()}.items()
            config_class = methods.config_class(method)
            assert {f"params.{key}" for key in asdict(config_class())} <= found.keys()
            for key, (_, origin, how) in found.items():
                file = lines.setdefault(origin.file, (ROOT / origin.file).read_text().splitlines())
                word = "VERSION" if key == "method_version" else key.split(".")[-1]
                assert word in file[origin.line - 1] and not how, (spec.name, key, origin)


@pytest.mark.parametrize("method", variants())
def test_defaults_are_those_of_the_method_s_config(method):
    config = asdict(methods.config_class(method)())
    found = {key: value for key, (value, _) in defaults(method).items() if key.startswith("params.")}
    assert found == {f"params.{key}": value for key, value in config.items()}


def test_a_value_of_a_named_recipe_has_its_source_and_one_of_a_data_set_the_comment_beside_it():
    found = told("digits/preact_tiny/eps77/atas/released/seed0")
    assert found["params.warmup_epochs"][1].source == "ATAS.py:52,64; not in the paper"
    assert found["pad"][1].source == "a digit fills its 8x8 pixels and has no mirror image"
    value, origin, _ = found["params.beta"]
    assert (value, origin.file, origin.source) == (0.5, "methods/atas.py", "memory of v")
    assert found["schedule.factor"][1].file == "fastat/config/recipe.py"


@pytest.mark.parametrize(
    "name,key,value,choice",
    [
        ("digits/preact_tiny/eps77/fgsm_ga/paper/seed0", "params.lam", 0.632, "by_eps: 77"),
        ("cifar10/wrn28_10/eps8/yopo/paper/seed0", "schedule.lr", 0.08, "by_model: wrn28_10"),
        ("cifar10/preact_resnet18/eps8/yopo/paper/seed0", "schedule.lr", 0.04, "by_model: other"),
        ("digits/preact_tiny/eps77/atta/paper/seed0", "params.alpha", "0.5 eps", ""),
    ],
)
def test_a_choice_is_named(name, key, value, choice):
    found, origin, _ = told(name)[key]
    assert (found, origin.choice) == (value, choice)


def test_the_last_config_that_says_it_is_named_with_its_line(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(
        "# a comment\nrecipes:\n  digits:\n    every: {monitor_images: 3}  # few\n    atas: {batch_size: 8}\n"
    )
    second.write_text(
        "recipes:\n  digits:\n    atas:\n      params:\n        c: {by_eps: {51: 1.0, 77: 2.0, 102: 3.0}}\n"
    )
    found = told("digits/preact_tiny/eps77/atas/paper/seed0", first, second)
    places = {key: (value, o.file, o.line, o.source, o.choice) for key, (value, o, _) in found.items()}
    assert places["monitor_images"] == (3, str(first), 4, "few", "")
    assert places["batch_size"] == (8, str(first), 5, "", "")
    assert places["params.c"] == (2.0, str(second), 5, "", "by_eps: 77")


def test_a_variant_that_a_config_makes_has_its_place_there(tmp_path):
    path = tmp_path / "own.yaml"
    cell = "{dataset: digits, model: preact_tiny, eps: 102/255, method: fgsm_rs/mine, seed: 0}"
    path.write_text(f"grid: [{cell}]\nrecipes:\n  digits:\n    fgsm_rs/mine: {{params: {{alpha: 1.1 eps}}}}  # tried\n")
    value, origin, _ = told("digits/preact_tiny/eps102/fgsm_rs/mine/seed0", path)["params.alpha"]
    assert (value, origin.file, origin.line, origin.source) == ("1.1 eps", str(path), 4, "tried")


def test_a_subset_says_what_was_stretched():
    found = told("cifar10/preact_resnet18/eps8/atas/paper_d9_10/seed0")
    assert found["epochs"][0] == 150 and found["epochs"][2] == "30 stretched x 5 for D_9^10"
    assert found["schedule.milestones"][2] == "(24, 28) stretched x 5 for D_9^10"
    assert [key for key, (_, _, how) in found.items() if how] == ["epochs", "schedule.milestones"]


def test_the_verb_prints_a_line_for_each_value_and_refuses_what_train_would(capsys):
    run = "digits/preact_tiny/eps102/atas/paper/seed0"
    assert main(["recipe", run, "--configfile", str(ROOT / "config/smoke.yaml")]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == run and lines[0].split()[:3] == ["epochs", "2", f"{ROOT}/config/smoke.yaml:6"]
    assert len(lines) == len(told(run))
    assert main(["recipe", run.replace("paper", "papr")]) == 2
    assert "Did you mean 'paper'" in capsys.readouterr().err
