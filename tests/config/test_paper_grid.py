"""The grids of the paper: as many runs as its tables and figures need."""

from collections import Counter

import pytest

from fastat import ROOT
from fastat.config.grid import expand, load_config, protocol_for
from fastat.config.recipe import resolve, variants
from fastat.config.spec import RunSpec

METHODS = 12


def specs(name: str) -> list[RunSpec]:
    return expand(load_config([ROOT / f"config/{name}.yaml"]))


def test_the_papers_grid_has_the_runs_of_its_tables_and_figures():
    found = specs("paper")
    cifar = 2 * 2 * 3 * METHODS * 3  # data sets, networks, eps, methods, seeds
    imagenet = 2 * 2 * 9 + 2 * 1  # networks, eps, methods; FGSM-GA on ResNet-18 alone
    table4 = 3 * (4 + 4) * 3  # eps, settings besides 16/255 and 0.01, seeds
    steps = (5 + 6) * 3  # Figs. 2 and 4
    figure3 = 2 * 2 * 6 * 5  # methods, step sizes, subsets, seeds
    figure5, figure8, references = 3 * 3, 2 * 2 * 2, 2 * 2  # Fig. 8: two more seeds
    assert len(found) == cifar + imagenet + table4 + steps + figure3 + figure5 + figure8 + references == 716
    assert len({spec.name for spec in found}) == len(found)


def test_every_number_of_tables_1_and_2_has_its_run():
    ran = {(s.dataset, s.model, f"{s.eps_255}/255", s.method) for s in specs("paper") if s.variant == "paper"}
    import csv

    with open(ROOT / "config/paper.csv", encoding="utf-8", newline="") as file:
        cells = {
            (row["dataset"], row["model"], row["eps"], row["method"])
            for row in csv.DictReader(file)
            if row["table"] in ("I", "II") and row["value"]
        }
    assert cells <= ran


def test_the_released_grid_is_tables_1_and_2_with_every_released_recipe():
    found = specs("released")
    assert Counter(spec.dataset for spec in found) == {"cifar10": 216, "cifar100": 216, "imagenet": 12}
    assert {spec.variant for spec in found} == {"released"} and len({spec.method for spec in found}) == METHODS


@pytest.mark.parametrize(
    "name,expected",
    [
        ("cifar10/wrn28_10/eps8/yopo/paper/seed0", {"epochs": 12, "batch_size": 256, "lr": 0.08}),
        ("cifar10/preact_resnet18/eps8/yopo/paper/seed0", {"lr": 0.04, "pad": 4, "flip": True}),
        ("cifar10/preact_resnet18/eps12/fgsm_ga/paper/seed0", {"lam": 0.632, "epochs": 30}),
        ("cifar100/preact_resnet18/eps4/fgsm_ga/paper/seed0", {"lam": 0.2}),
        ("cifar100/preact_resnet18/eps8/fgsm_pgi/paper/seed0", {"reset_every": 10}),
        ("cifar10/preact_resnet18/eps8/fgsm_pgi/paper/seed0", {"reset_every": 40}),
        ("cifar10/wrn28_10/eps8/nuat/paper/seed0", {"lam_max": 4.0}),
        ("cifar10/preact_resnet18/eps8/atas/c007/seed0", {"c": 0.896, "gamma_over_c": "16/255"}),
        (
            "imagenet/resnet50/eps2/atas/paper/seed0",
            {"epochs": 90, "c": 12.8, "store_size": 32, "weight_decay": 0.0001},
        ),
        (
            "imagenet/resnet50/eps2/atas/released/seed0",
            {"frozen": True, "clamp": ["4/255", "8/255"], "warmup_epochs": 5},
        ),
        ("imagenet/resnet18/eps4/fgsm_ga/paper/seed0", {"lam": 0.01, "weight_decay": 0.0005}),
        ("imagenet/resnet18/eps4/freeat/paper/seed0", {"m": 4, "epochs": 45, "batch_size": 256}),
        ("imagenet/resnet18/eps4/subat/paper/seed0", {"epochs": 145, "per_epoch": 1, "n_components": 80}),
        ("imagenet/resnet18/eps4/fgsm_rs/paper/seed0", {"alpha": "1.25 eps", "shards": 8, "drop_last": True}),
        ("imagenet/resnet50/eps2/fgsm_rs/paper/seed0", {"crop": "window", "decay_batchnorm": True}),
        (
            "imagenet/resnet50/eps2/fgsm_rs/released/seed0",
            {"crop": "resized", "decay_batchnorm": False, "epochs": 15, "alpha": "1.25 eps", "weight_decay": 0.0001},
        ),
        (
            "imagenet/resnet50/eps2/freeat/released/seed0",
            {"crop": "resized", "decay_batchnorm": True, "epochs": 23, "m": 4, "milestones": (8, 16)},
        ),
    ],
)
def test_recipes_are_those_of_the_cards(name, expected):
    config = load_config([ROOT / "config/paper.yaml"])
    recipe = resolve(RunSpec.parse(name), config)
    everything = {**vars(recipe), **vars(recipe.schedule), **recipe.params}
    assert {key: everything[key] for key in expected} == expected


def test_attacks_are_those_of_the_data_set():
    config = load_config([ROOT / "config/paper.yaml"])
    cifar, imagenet = protocol_for(config, "cifar10"), protocol_for(config, "imagenet")
    assert cifar["autoattack"] == {"n_images": "all", "batch_size": 256}
    assert imagenet["autoattack"] == {"n_images": "all", "batch_size": 128}
    assert "datasets" not in cifar and imagenet["pgd_step"] == "0.2 eps"


@pytest.mark.parametrize("name", ["paper", "released"])
def test_no_two_runs_are_the_same_training(name):
    config = load_config([ROOT / f"config/{name}.yaml"])
    who = ((s.dataset, s.model, s.eps_255, s.method, s.subset, s.seed, s) for s in specs(name))
    assert len({(*key, resolve(s, config).to_json()) for *key, s in who}) == len(specs(name))


@pytest.mark.parametrize("dataset,eps", [("digits", 77), ("fashion_mnist", 77), ("cifar100", 8), ("imagenet", 2)])
def test_an_ablation_ablates_on_every_data_set(dataset, eps):
    """What a data set gives a method lies below what its variants name."""
    config = load_config()
    for method, prefixes in {"atas": ("gamma", "c0"), "atta": ("step",), "fgsm_rs": ("step",)}.items():
        names = [variant for variant in variants()[method] if variant.startswith(prefixes)]
        made = {resolve(RunSpec(dataset, "m", eps, method, name, 0), config).to_json() for name in names}
        assert len(made) == len(names) >= 5
