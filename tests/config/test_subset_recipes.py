"""Recipes of trainings on D_i^j, and of runs whose snapshots are kept."""

from dataclasses import replace

import pytest

from fastat.config.grid import check_config, expand, keeps_snapshots, load_config, result_files
from fastat.config.recipe import Recipe, broken, of_length, resolve
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


@pytest.mark.parametrize("epochs,switch", [(240, 150), (24, 15), (20, 12), (35, 22)])  # 12.5 and 21.9 are no epochs
def test_a_shorter_or_longer_subat_samples_until_its_learning_rate_jumps(epochs, switch):
    whole = resolve(RunSpec("cifar10", "preact_resnet18", 8, "subat", "paper", 0), load_config())
    found = of_length(whole, epochs)
    assert found.params["sampling_epochs"] == found.weight_decay_epochs == switch
    assert found.schedule.points == ((0, 0.1), (switch, 0.1), (switch, 1.0), (epochs, 1.0))
    assert type(found.params["sampling_epochs"]) is int and not [*broken(found)]
    own = of_length(replace(whole, params={**whole.params, "sampling_epochs": 10}), epochs)
    assert own.params["sampling_epochs"] == 10  # said apart from the schedule: as it is
    wrong = of_length(replace(whole, params={**whole.params, "sampling_epochs": [1]}), epochs)
    assert wrong.params["sampling_epochs"] == [1]  # the method says of what type it must be


def test_the_weights_of_every_epoch_are_kept_of_the_runs_of_the_blocks_that_say_so():
    block = {"dataset": "digits", "model": "preact_tiny", "eps": "77/255", "method": "fgsm_rs", "seed": [0, 1]}
    config = {**load_config(), "grid": [block, {**block, "seed": 1, "snapshots": True}]}
    check_config(config)
    kept = [keeps_snapshots(spec, config) for spec in expand(config)]
    assert kept == [False, True]
    assert [any("surfaces_by_epoch" in file for file in result_files(spec, config)) for spec in expand(config)] == kept
    swept = {**config, "sweep": {"fgsm_rs": {"alpha": ["1 eps"]}}}
    assert [spec.seed for spec in expand(swept) if keeps_snapshots(spec, swept)] == [1, 1]
    with pytest.raises(BadInput, match="snapshots must be true or false, got 'yes'"):
        check_config({**config, "grid": [{**block, "snapshots": "yes"}]})
