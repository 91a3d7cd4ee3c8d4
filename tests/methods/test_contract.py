"""What every method promises. Methods are found by listing the folder."""

import importlib
from dataclasses import replace
from functools import partial

import pytest
import torch

import methods
from fastat.config.recipe import Recipe, Schedule
from fastat.cost.passes import count_passes, rehearse
from fastat.data import views
from fastat.networks import models
from fastat.training import checkpoint
from fastat.training.checkpoint import Standing
from fastat.training.learner import SGDLearner
from fastat.types import Batch, Task

RECIPE = Recipe(epochs=30, batch_size=4, schedule=Schedule("piecewise", 0.01), weight_decay=5e-4)
SMALL = {"subat": {"sampling_epochs": 2, "per_epoch": 2, "n_components": 3}}  # 121 snapshots need more batches
CARD = {  # passes of the method cards' strict minimum
    "pgd10": {"forward": 11, "input_backward": 10, "parameter_backward": 1},
    "freeat": {"forward": 8, "joint_backward": 8},
    "yopo": {
        "forward": 5, "parameter_backward": 5,
        "stem_forward": 20, "stem_input_backward": 15, "stem_parameter_backward": 5,
    },
    "fgsm_rs": {"forward": 2, "input_backward": 1, "parameter_backward": 1},
    "fgsm_ga": {"forward": 3, "input_backward": 2, "parameter_backward": 1, "double_backward": 1},
    "ssat": {"forward": 4, "input_backward": 1, "parameter_backward": 1},
    "atta": {"forward": 2, "input_backward": 1, "parameter_backward": 1},
    "nuat": {"forward": 3, "input_backward": 1, "parameter_backward": 2},
    "subat": {"forward": 2, "input_backward": 1, "parameter_backward": 1},
    "fgsm_sdi": {"forward": 3.1, "input_backward": 2.1, "parameter_backward": 1},
    "fgsm_pgi": {"forward": 2, "input_backward": 1, "parameter_backward": 2},
    "atas": {"forward": 2, "input_backward": 1, "parameter_backward": 1},
    "clean": {"forward": 1, "parameter_backward": 1},
    "n_fgsm": {"forward": 2, "input_backward": 1, "parameter_backward": 1},
    "fgsm_adaptive": {"forward": 2, "input_backward": 1, "parameter_backward": 1},
    "atas_sdi": {"forward": 3.1, "input_backward": 2.1, "parameter_backward": 1},
    "atas_pgi": {"forward": 2, "input_backward": 1, "parameter_backward": 2},
}  # fmt: skip
BATCHNORM = {  # updates of the running statistics by one batch, number 1 of its epoch (number 0 trains SDI's generator)
    "pgd10": 1, "freeat": 8, "yopo": 5, "fgsm_rs": 2, "fgsm_ga": 3, "ssat": 1, "atta": 1, "nuat": 3, "subat": 2,
    "fgsm_sdi": 3, "fgsm_pgi": 2, "atas": 1, "clean": 1, "n_fgsm": 2, "fgsm_adaptive": 2, "atas_sdi": 3, "atas_pgi": 2,
}  # fmt: skip


def tiny(n_classes=10, n_channels=1, seed=0):
    """A task, a network of width 4 and a learner."""
    torch.manual_seed(seed)
    model = models.PreActResNet(4, (1, 1), 1, n_channels, n_classes).train()
    n_params = sum(p.numel() for p in model.parameters())
    shape, frame, rng = (n_channels, 8, 8), (n_channels, 10, 10), torch.Generator().manual_seed(seed)
    task = Task(0.1, 12, n_classes, shape, frame, 30, 4, 3, n_params, torch.device("cpu"), rng)
    return task, model, SGDLearner(model, RECIPE)


def batch_of(task, n=4, epoch=2, number=1):
    rng = torch.Generator().manual_seed(100 * epoch + number)
    x = torch.rand((n, *task.image_shape), generator=rng)
    y = torch.randint(task.n_classes, (n,), generator=rng)
    index = torch.randperm(12, generator=rng)[:n]
    return Batch(x, y, index, views.draw(n, (2, 2), True, rng), epoch, number)


def begin(name, task, model, learner, **params):
    method = methods.build(name, task, **SMALL.get(name, {}) | params)
    method.begin_epoch(model, learner, 1)
    return method


@pytest.fixture(params=methods.names())
def name(request) -> str:
    """Each method."""
    return request.param


def test_passes_per_batch_are_what_the_method_declares_and_what_its_card_allows(name):
    task, model, learner = tiny()
    method, module = begin(name, task, model, learner), importlib.import_module(f"methods.{name}")

    def step(number):
        return lambda: method.train_batch(model, batch_of(task, number=number), learner)

    counted = count_passes(model, 4, [step(number) for number in range(getattr(module, "CYCLE", 1))])
    assert counted == pytest.approx(module.PASSES) == CARD[name]


def test_attack_stays_in_its_radius_and_in_the_pixel_range(name):
    task, model, learner = tiny()
    method = begin(name, task, model, learner)
    radius = getattr(method, "radius", task.eps)
    for epoch in (1, 2, 3):  # SubAT enters its subspace in epoch 3
        if epoch > 1:
            method.begin_epoch(model, learner, epoch)
        for number in range(3):
            batch = batch_of(task, epoch=epoch, number=number)
            x_adv = method.train_batch(model, batch, learner).x_adv
            assert (x_adv - batch.x).abs().max() <= radius + 1e-6  # float32 rounding
            assert getattr(method, "leaves_pixel_range", False) or (x_adv.min() >= 0 and x_adv.max() <= 1)
    assert (x_adv - batch.x).abs().max() > radius / 4 or radius == 0  # and it did attack


def test_modes_gradients_and_the_global_generator_are_left_as_found(name):
    task, model, learner = tiny()
    method = begin(name, task, model, learner)
    before = torch.random.get_rng_state()
    report = method.train_batch(model, batch_of(task, number=0), learner)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in [*model.parameters(), *method.parameters()])
    assert torch.isfinite(report.loss)


def test_method_and_network_share_no_tensor(name):
    task, model, learner = tiny()
    method = begin(name, task, model, learner)
    method.train_batch(model, batch_of(task), learner)
    theirs = {t.data_ptr() for t in model.state_dict().values()}
    assert not theirs & {t.data_ptr() for t in method.state_dict().values()}


def test_batchnorm_moves_as_declared(name):
    task, model, learner = tiny()
    method = begin(name, task, model, learner)
    method.train_batch(model, batch_of(task, number=1), learner)
    assert int(model.trunk[0].bn1.num_batches_tracked) == BATCHNORM[name]


@pytest.mark.parametrize("name", ["fgsm_sdi", "atas_sdi"])
def test_training_the_generator_moves_batchnorm_twice_more(name):
    task, model, learner = tiny()
    begin(name, task, model, learner).train_batch(model, batch_of(task, number=0), learner)
    assert int(model.trunk[0].bn1.num_batches_tracked) == BATCHNORM[name] + 2


@pytest.mark.parametrize("n_classes,n_channels", [(2, 1), (3, 3), (10, 3), (100, 1)])
def test_any_number_of_classes_and_channels_and_a_last_batch_of_one_image(name, n_classes, n_channels):
    task, model, learner = tiny(n_classes, n_channels)
    soft = {"s": 0.8} if n_classes == 2 and hasattr(methods.config_class(name), "s") else {}
    method = begin(name, task, model, learner, **soft)
    for n, number in ((4, 0), (1, 1)):
        report = method.train_batch(model, batch_of(task, n=n, number=number), learner)
        assert torch.isfinite(report.loss) and report.x_adv.shape == (n, n_channels, 8, 8)


def test_resumed_at_any_cut_it_ends_bit_identically(name, tmp_path):
    resume_at_every_cut(name, RECIPE, tmp_path)


def test_a_weight_average_resumes_too(tmp_path):
    resume_at_every_cut("nuat", replace(RECIPE, average=0.9), tmp_path)


def resume_at_every_cut(name, recipe, tmp_path):
    cuts = [(epoch, number) for epoch in (1, 2, 3) for number in range(3)]

    def fresh(seed):
        task, model, _ = tiny(seed=seed)
        return task, model, methods.build(name, task, **SMALL.get(name, {})), SGDLearner(model, recipe)

    def state(task, model, method, learner):
        parts = {"model": model, "method": method, "learner": learner}
        return {**{key: part.state_dict() for key, part in parts.items()}, "rng": {"rng": task.rng.get_state()}}

    def go_on(run, first, save=False):
        task, model, method, learner = run
        for epoch, number in cuts[first:]:
            if save:
                checkpoint.save(tmp_path / f"{epoch}{number}", state(*run), Standing(epoch, number), "test")
            if number == 0:
                method.begin_epoch(model, learner, epoch)
            learner.seek(epoch - 1 + number / 3)
            method.train_batch(model, batch_of(task, epoch=epoch, number=number), learner)
        return state(*run)

    expected = go_on(fresh(0), 0, save=True)
    for first, (epoch, number) in enumerate(cuts):
        task, model, method, learner = fresh(1)
        parts, standing = checkpoint.load(tmp_path / f"{epoch}{number}", "test", task.device)
        assert (standing.epoch, standing.batch) == (epoch, number)
        model.load_state_dict(parts["model"])
        method.load_state_dict(parts.get("method", {}))
        learner.load_state_dict(parts.get("learner", {}))
        task.rng.set_state(parts["rng"]["rng"])
        found = go_on((task, model, method, learner), first)
        for part, tensors in expected.items():
            for key, tensor in tensors.items():
                assert torch.equal(tensor, found[part][key]), (epoch, number, part, key)


def test_what_redraws_says_is_what_begin_epoch_does(name):
    task, model, learner = tiny()
    method = methods.build(name, task, **SMALL.get(name, {}))
    for epoch in range(1, task.n_epochs + 1) if hasattr(method, "redraws") else ():
        before = method.delta.delta.clone()
        method.begin_epoch(model, learner, epoch)
        assert torch.equal(before, method.delta.delta) != method.redraws(epoch), epoch


def test_no_step_waits_for_the_device_or_mixes_devices(name):
    """On `meta` there are no values to wait for: reading one, or a tensor left on the CPU, is an error."""
    with torch.device("meta"):
        model = models.build("preact_tiny", 3, 10)
    one = rehearse(partial(methods.build, name), model, (3, 32, 32), pad=4, n_train=50_000)
    for number in (0, 1):
        one.step(number)()
    if name == "subat":
        one.batch = replace(one.batch, epoch=31)
        one.step()()


def test_unknown_parameters_are_refused_by_name(tiny_task):
    with pytest.raises(ValueError, match="no parameter 'alhpa'.*Known: alpha"):
        methods.build("fgsm_rs", tiny_task, alhpa=1)


@pytest.mark.parametrize(
    "name,params,message",
    [
        ("freeat", {"m": 0}, "m must be 1 or more, got 0"),
        ("yopo", {"n_inner": 0}, "n_outer and n_inner must be 1 or more"),
        ("fgsm_ga", {"lam": -1}, "lam must be 0 or more, got -1"),
        ("fgsm_ga", {"lam": float("nan")}, "lam must be 0 or more, got nan"),
        ("ssat", {"c": 0}, "c must be 1 or more, got 0"),
        ("nuat", {"lam_max": -1}, "lam_max must be 0 or more"),
        ("nuat", {"ramp": 0}, "ramp must be above 0"),
        ("subat", {"sampling_epochs": 2, "per_epoch": 2}, "n_components is 80, but 5 snapshots span at most 4"),
        ("subat", {"per_epoch": 4}, "per_epoch is 4, but an epoch has only 3 batches"),
        ("subat", {"sampling_epochs": 30, "per_epoch": 3}, "none is left for the subspace"),
        ("fgsm_sdi", {"s": 0.1}, "s must be above 1/K = 0.1 .K = 10 classes. and at most 1, got 0.1"),
        ("fgsm_pgi", {"prior": "map"}, "prior must be mep, ep or bp, got 'map'"),
        ("fgsm_pgi", {"mu": -0.1}, "mu and lam must be 0 or more"),
        ("atas", {"beta": 1}, "beta must be in"),
        ("atas", {"store": "int4"}, "store must be one of float32, float16, int8, got 'int4'"),
        ("n_fgsm", {"k": -1}, "k must be 0 or more"),
        ("pgd10", {"alpha": 2}, "a step or radius is written"),
    ],
)
def test_an_impossible_parameter_is_refused_with_the_rule(tiny_task, name, params, message):
    with pytest.raises(ValueError, match=message):
        methods.build(name, tiny_task, **params)
