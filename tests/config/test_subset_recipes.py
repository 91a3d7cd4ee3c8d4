"""Recipes of trainings on D_i^j, and of runs whose snapshots are kept."""

import pytest

from fastat.config.grid import check_config, load_config
from fastat.config.recipe import Recipe, resolve
from fastat.config.spec import RunSpec
from fastat.errors import BadInput


@pytest.mark.parametrize("variant", ["paper_d0_2", "paper_d3_2", "paper_d1_11", "paper_d1", "_d1_2"])
def test_a_subset_that_does_not_exist_is_refused_before_anything_runs(variant):
    block = {"dataset": "digits", "model": "preact_tiny", "eps": "77/255", "method": f"atas/{variant}", "seed": 0}
    with pytest.raises(BadInput, match=r"no variant .*_dI_J"):
        check_config({**load_config(), "grid": [block]})


def test_a_subset_s_schedule_is_stretched_with_its_epochs():
    config = load_config()
    for name, milestones in (("atas/paper_d1_2", (120, 140)), ("atta/paper_d7_10", (60, 70))):
        method, variant = name.split("/")
        recipe = resolve(RunSpec("cifar10", "preact_resnet18", 8, method, variant, 0), config)
        assert recipe.epochs == {2: 150, 4: 75}[2 if "d1_2" in name else 4]
        assert recipe.schedule.milestones == pytest.approx(milestones)
    linear = resolve(RunSpec("cifar10", "preact_resnet18", 8, "fgsm_ga", "paper_d1_4", 0), config)
    assert linear.schedule.points[-1][0] == linear.epochs == 75
    assert Recipe.from_json(linear.to_json()) == linear


def test_snapshots_of_a_method_that_is_not_in_the_grid_are_refused():
    with pytest.raises(BadInput, match="snapshots: no run of the grid"):
        check_config({**load_config(), "snapshots": ["fgsm_rs/step175"]})
