"""Every recipe that a grid of ours may ask for: it is there, and what counts epochs or steps fits the data set's."""

import math
from functools import cache

import pytest

from fastat import ROOT
from fastat.config.catalog import CATALOG
from fastat.config.grid import expand, load_config
from fastat.config.recipe import Recipe, resolve, variants
from fastat.config.spec import RunSpec
from fastat.errors import BadInput

CONFIGS = sorted(path.stem for path in (ROOT / "config").glob("*.yaml") if path.stem != "recipes")
MODELS = {"digits": "preact_tiny", "fashion_mnist": "preact_tiny_s2", "imagenet": "resnet18"}
EPS = {  # in 255ths
    "digits": (51, 77, 102),
    "fashion_mnist": (51, 77, 102),
    "cifar10": (8, 12, 16),
    "cifar100": (4, 8, 12, 16),
    "imagenet": (2, 4),
}
NAMED = [(method, variant) for method, names in variants().items() for variant in names]
CIFAR = ("cifar10", "cifar100")
NOT_GIVEN = {("cifar100", "fgsm_ga", 16)}  # Table V(a) of the ATAS paper ends at 12/255
OF_ITS_CODE = {("imagenet", "freeat", "released")}  # milestones of its own: FreeAdversarialTraining, lib/utils.py:29-33


default = cache(load_config)


def of(dataset: str) -> list[tuple[str, str]]:
    """The named recipes that there are for a data set."""
    return [(method, variant) for method, variant in NAMED if dataset in CIFAR or "fastat_benchmark" not in variant]


@cache
def recipe_of(dataset: str, method: str, variant: str, eps: int) -> Recipe:
    model = MODELS.get(dataset, "preact_resnet18")
    return resolve(RunSpec(dataset, model, eps, method, variant, 0), default())


def shares(recipe: Recipe) -> tuple[float, ...]:
    """When the learning rate falls, in parts of the training."""
    return tuple(stone / recipe.epochs for stone in recipe.schedule.milestones)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_run_of_a_grid_has_a_recipe(name):
    config = load_config([ROOT / f"config/{name}.yaml"])
    runs = expand(config)
    assert runs and all(resolve(spec, config).epochs > 0 for spec in runs)


@pytest.mark.parametrize("dataset", EPS)
def test_every_method_has_a_recipe_at_the_data_sets_eps(dataset):
    for method, variant in of(dataset):
        for eps in EPS[dataset]:
            if (dataset, method, eps) in NOT_GIVEN and variant != "fastat_benchmark":  # which has one for all eps
                with pytest.raises(BadInput, match="lam is given for eps 4/255, 8/255, 12/255, not for 16/255"):
                    recipe_of(dataset, method, variant, eps)
            else:
                assert recipe_of(dataset, method, variant, eps).epochs > 0


@pytest.mark.parametrize("dataset", EPS)
def test_the_learning_rate_falls_where_the_methods_paper_recipe_has_it_in_proportion(dataset):
    at = EPS[dataset][0]
    for method, variant in of(dataset):
        recipe = recipe_of(dataset, method, variant, at)
        if recipe.schedule.kind == "linear":
            assert recipe.schedule.points[-1][0] == recipe.epochs, (method, variant)
        if recipe.schedule.kind != "piecewise" or (dataset, method, variant) in OF_ITS_CODE:
            continue
        known = [recipe_of("cifar10", method, name, 8) for name in ("paper", variant)]
        known.append(recipe_of(dataset, "clean", "paper", at))  # as every method there
        fits = [
            shares(recipe) == pytest.approx(shares(one), abs=0.04) for one in known
        ]  # Fashion-MNIST's 4 of 5 epochs
        assert any(fits), (method, variant, recipe.epochs, recipe.schedule)


@pytest.mark.parametrize("dataset", EPS)
@pytest.mark.parametrize("method", ["fgsm_rs_cs", "fgsm_mep_cs"])
def test_the_epochs_around_which_convergence_is_free_are_those_where_the_learning_rate_falls(method, dataset):
    for variant in (variant for name, variant in of(dataset) if name == method):
        recipe = recipe_of(dataset, method, variant, EPS[dataset][0])
        assert tuple(recipe.params["decays"]) == recipe.schedule.milestones


AVERAGED = [
    (dataset, method, variant)
    for dataset in EPS
    for method, variant in of(dataset)
    if recipe_of("cifar10", method, variant, 8).average
]


@pytest.mark.parametrize("dataset,method,variant", AVERAGED)
def test_an_average_remembers_the_same_share_of_the_training_on_every_data_set(dataset, method, variant):
    """FGSM-LAW has another one on CIFAR100 (FGSM_LAW_CIFAR100.py:100): `paper` keeps the share of `released`."""

    def memory(dataset: str, variant: str = variant) -> float:
        recipe, n = recipe_of(dataset, method, variant, EPS[dataset][0]), CATALOG[dataset].n_train
        batches = n // recipe.batch_size if recipe.drop_last else math.ceil(n / recipe.batch_size)
        return 1 / (1 - recipe.average) / (recipe.epochs * batches)

    own = (dataset, method) == ("cifar100", "fgsm_law")
    assert memory(dataset) == pytest.approx(memory(dataset, "released") if own else memory("cifar10"), rel=0.05)
    assert not own or recipe_of(dataset, method, "released", EPS[dataset][0]).average == 0.9998


@pytest.mark.parametrize("dataset", ["digits", "fashion_mnist"])
def test_a_recipe_that_is_at_home_elsewhere_is_refused_until_the_config_says_how(dataset):
    spec = RunSpec(dataset, MODELS[dataset], EPS[dataset][0], "nuat", "fastat_benchmark", 0)
    said = f"nuat/fastat_benchmark is a recipe for cifar10 and cifar100, not for {dataset}. Say what is else there"
    with pytest.raises(BadInput, match=said):
        resolve(spec, default())
    config = {**default(), "recipes": {dataset: {"nuat/fastat_benchmark": {"epochs": 3, "average": 0.9}}}}
    recipe = resolve(spec, config)
    assert (recipe.epochs, recipe.average, recipe.schedule.kind) == (3, 0.9, "one_cycle")
