"""Schedules at their landmarks, and what the learner does with them."""

import copy

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from fastat.config.recipe import Recipe, Schedule, lay, named_recipe, recipe_from, variants
from fastat.training.learner import SGDLearner, follow_steadily, learning_rate, momentum


def test_triangular_rises_to_its_peak_half_way_and_falls_to_zero():
    schedule = Schedule("triangular", 0.2)
    assert [learning_rate(schedule, p, 30) for p in (0, 7.5, 15, 22.5)] == pytest.approx([0, 0.1, 0.2, 0.1])
    assert learning_rate(schedule, 29.99, 30) < 2e-4  # it does anneal


def test_piecewise_falls_by_its_factor_when_a_milestone_is_done():
    schedule = Schedule("piecewise", 0.1, milestones=(24, 28))
    assert [learning_rate(schedule, p, 30) for p in (0, 23.99, 24, 28, 29.99)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.001, 0.001]
    )


def test_cycled_momentum_mirrors_the_learning_rate():
    schedule = Schedule("triangular", 0.2, cycle_momentum=True)
    assert [momentum(schedule, p, 30, 0.9) for p in (0, 15, 29.999)] == pytest.approx([0.9, 0.8, 0.9], abs=1e-4)
    assert momentum(Schedule("triangular", 0.2), 15, 30, 0.9) == 0.9


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 7, 30, 100])
def test_one_cycle_is_that_of_torch_with_a_step_an_epoch(epochs):
    schedule = Schedule("one_cycle", 0.1, cycle_momentum=True)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs)
    for epoch in range(epochs):
        group = optimizer.param_groups[0]
        for progress in (epoch, epoch + 0.5, epoch + 0.999):  # within an epoch nothing moves
            found = learning_rate(schedule, progress, epochs), momentum(schedule, progress, epochs, 0.95)
            assert found == pytest.approx((group["lr"], group["momentum"]), rel=1e-12)
        optimizer.step()
        if epoch + 1 < epochs:
            theirs.step()


def test_a_step_is_sgd_with_momentum_and_decay_and_restart_forgets():
    model = torch.nn.Linear(1, 1, bias=False).double()
    recipe = Recipe(10, 4, Schedule("piecewise", 0.1), weight_decay=0.5, momentum=0.9)
    learner, w = SGDLearner(model, recipe), float(model.weight.detach())
    learner.descend(2 * model.weight.sum())
    buffer = 2 + 0.5 * w
    w -= 0.1 * buffer
    assert float(model.weight.detach()) == pytest.approx(w, rel=1e-6)
    learner.descend(2 * model.weight.sum())
    w -= 0.1 * (0.9 * buffer + 2 + 0.5 * w)
    assert float(model.weight.detach()) == pytest.approx(w, rel=1e-6)
    learner.restart()
    learner.descend(2 * model.weight.sum())
    assert float(model.weight.detach()) == pytest.approx(w - 0.1 * (2 + 0.5 * w), rel=1e-6)


def rates(method, variant, progresses):
    """Learning rates of a named recipe on CIFAR10."""
    fields: dict = {}
    for key, (value, _) in named_recipe(method, variant).items():
        fields = lay(fields, {key: value} if not key.startswith("params.") else {})
    recipe = recipe_from(fields, method)
    return [learning_rate(recipe.schedule, p, recipe.epochs) for p in progresses], recipe


@pytest.mark.parametrize("method", [name for name in variants() if name != "subat"])
def test_every_paper_recipe_anneals_to_at_most_a_hundredth_of_its_peak(method):
    steps = 391
    _, recipe = rates(method, "paper", [])
    curve, _ = rates(method, "paper", [t / steps for t in range(recipe.epochs * steps)])
    assert curve[-1] <= max(curve) / 100 + 1e-12


@pytest.mark.parametrize(
    "method,variant,landmarks",
    [
        ("pgd10", "paper", {0: 0.1, 23.99: 0.1, 24: 0.01, 28: 0.001}),
        ("fgsm_rs", "paper", {0: 0, 7.5: 0.1, 15: 0.2, 22.5: 0.1}),
        ("freeat", "paper", {0: 0, 5: 0.04, 7.5: 0.02}),
        ("yopo", "paper", {0: 0.04, 9.99: 0.04, 10: 0.004, 11.34: 0.0004}),
        ("fgsm_ga", "paper", {0: 0, 6: 0.15, 12: 0.3, 21: 0.15}),
        ("ssat", "paper", {0: 0, 15: 0.3}),
        ("atta", "released", {28.9: 0.1 / 64, 29: 0.01 / 64, 35: 0.001 / 64}),
        ("nuat", "paper", {0: 0, 12: 0.1, 24: 0.02, 25.7: 0.02, 25.8: 0.002, 27.3: 0.0002, 29.9: 0.0002}),
        ("nuat", "released", {19.999: 0.05, 20: 0, 25: 0.0125, 29.999: 0.025}),  # a sawtooth that never anneals
        ("nuat", "wa", {7.5: 0.1, 18.75: 0.05, 29.999: 0}),
        ("subat", "paper", {0: 0.1, 29.99: 0.1, 30: 1.0, 47.9: 1.0}),
        ("fgsm_sdi", "paper", {10662 / 391: 0.1, 10663 / 391: 0.01, 11195 / 391: 0.01, 11196 / 391: 0.001}),
        ("fgsm_pgi", "paper", {10662 / 391: 0.1, 10663 / 391: 0.01, 11195 / 391: 0.01, 11196 / 391: 0.001}),
        ("fgsm_sdi", "released", {0: 0.1, 29.99: 0.1}),  # never decays
        ("fgsm_pgi", "released", {0: 0.1, 29.99: 0.1}),
        ("atas", "paper", {23.99: 0.1, 24: 0.01, 28: 0.001}),
    ],
)
def test_named_recipes_at_their_landmarks(method, variant, landmarks):
    found, _ = rates(method, variant, landmarks)
    assert found == pytest.approx(list(landmarks.values()), abs=1e-5)


def test_nuats_momentum_cycles_and_then_stays():
    _, recipe = rates("nuat", "paper", [])
    found = [momentum(recipe.schedule, p, recipe.epochs, 0.9) for p in (0, 12, 24, 29)]
    assert found == pytest.approx([0.9, 0.8, 0.88, 0.88])


def test_weight_decay_ends_where_the_recipe_says():
    model = torch.nn.Linear(1, 1)
    learner = SGDLearner(model, rates("subat", "paper", [])[1])
    decay = []
    for progress in (0, 29.99, 30, 47):
        learner.seek(progress)
        decay.append(learner.optimizer.param_groups[0]["weight_decay"])
    assert decay == [5e-4, 5e-4, 0, 0]


def test_batchnorm_does_not_decay_where_the_recipe_says_so_also_after_a_restart():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(2, 1)
    )
    model[1].bias.data.fill_(1.0)
    recipe = Recipe(10, 4, Schedule("piecewise", 0.1), 0.5, momentum=0.9, weight_decay_epochs=5, decay_batchnorm=False)
    learner = SGDLearner(model, recipe)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    def shrunk():
        learner.descend(sum(0 * p.sum() for p in model.parameters()))
        return {name: float((p.detach() / before[name]).mean()) for name, p in model.named_parameters()}

    once = shrunk()
    assert once == pytest.approx({name: 1 if name.startswith("1.") else 0.95 for name in before})
    kept = learner.state_dict()
    learner.restart()
    learner.load_state_dict(kept)
    twice = shrunk()
    assert twice == pytest.approx(
        {name: 1 if name.startswith("1.") else 0.95 - 0.1 * (0.45 + 0.475) for name in before}
    )
    learner.seek(5.0)
    assert [group["weight_decay"] for group in learner.optimizer.param_groups] == [0, 0]


def test_the_average_is_what_is_reported_and_follows_slowly():
    model = torch.nn.Linear(2, 1)
    learner = SGDLearner(model, Recipe(10, 4, Schedule("piecewise", 0.1), weight_decay=0.0, average=0.5))
    values = []
    for _ in range(3):
        learner.descend(model.weight.sum())
        values.append(model.weight.detach().clone())
    expected = 0.25 * values[0] + 0.25 * values[1] + 0.5 * values[2]  # the first is taken whole
    torch.testing.assert_close(learner.reported.weight.detach(), expected)
    assert not torch.equal(learner.reported.weight, model.weight)


def test_the_average_has_the_bits_of_torchs_and_never_waits_for_the_device():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    learner = SGDLearner(model, Recipe(10, 4, Schedule("piecewise", 0.1), weight_decay=5e-4, average=0.9))
    for _ in range(12):
        learner.descend(model(torch.randn(4, 2)).square().mean())
        theirs.update_parameters(model)
    for name, tensor in theirs.module.state_dict().items():
        assert torch.equal(learner.reported.state_dict()[name], tensor), name
    elsewhere = SGDLearner(
        copy.deepcopy(model).to("meta"), Recipe(10, 4, Schedule("piecewise", 0.1), weight_decay=5e-4, average=0.9)
    )
    for _ in range(2):
        with NothingIsMoved():
            follow_steadily(elsewhere.average, elsewhere.model, 0.9)


class NothingIsMoved(TorchDispatchMode):
    """Refuses to bring a tensor from one device to another, which waits for it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._to_copy.default
        return func(*args, **(kwargs or {}))


def test_a_method_sets_the_averages_decay_at_a_step_from_the_first_weights_on():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).double()
    learner = SGDLearner(model, Recipe(10, 4, Schedule("piecewise", 0.1), weight_decay=0.0, average=0.5))
    means = {name: t.clone() for name, t in model.state_dict().items()}
    for decay in (1.0, 0.25, 1.0, 0.9):
        loss = model(torch.randn(4, 2, dtype=torch.float64)).square().mean()
        learner.descend(loss, torch.tensor(decay, dtype=torch.float64))
        now = model.state_dict()
        means = {name: decay * mean + (1 - decay) * now[name] for name, mean in means.items()}
        reported = learner.reported.state_dict()
        assert reported["1.num_batches_tracked"] == now["1.num_batches_tracked"]
        for name in means.keys() - {"1.num_batches_tracked"}:
            torch.testing.assert_close(reported[name], means[name], atol=1e-15, rtol=1e-14)
    learner.descend(model(torch.randn(4, 2, dtype=torch.float64)).square().mean())
    mean = 0.5 * means["0.weight"] + 0.5 * model[0].weight  # the recipe's, where the method sets none
    torch.testing.assert_close(learner.reported[0].weight, mean)


def test_weights_that_do_not_move_are_their_average_whatever_the_decay():
    model = torch.nn.Linear(2, 1)
    learner = SGDLearner(model, Recipe(10, 4, Schedule("piecewise", 0.0), weight_decay=0.0, average=0.9))
    for decay in (0.1, 0.7, 0.3):
        learner.descend(model.weight.sum(), torch.tensor(decay))
    assert torch.equal(learner.reported.weight, model.weight)


def test_a_method_that_sets_a_decay_gets_no_average_that_the_recipe_does_not_want():
    model = torch.nn.Linear(2, 1)
    learner = SGDLearner(model, Recipe(10, 4, Schedule("piecewise", 0.1), weight_decay=0.0))
    learner.descend(model.weight.sum(), torch.tensor(0.9))
    assert learner.average_decay == 0 and learner.reported is model


def test_in_bf16_the_next_forward_pass_sees_the_weights_that_a_step_left():
    model, x = torch.nn.Linear(2, 1, bias=False), torch.ones(1, 2)
    learner = SGDLearner(model, Recipe(10, 4, Schedule("piecewise", 0.5), weight_decay=0.0, momentum=0.0))
    with torch.autocast("cpu", torch.bfloat16):
        before = model(x)
        learner.descend(before.sum())  # each weight falls by 0.5
        torch.testing.assert_close(model(x), before - 1, atol=0.02, rtol=0)
