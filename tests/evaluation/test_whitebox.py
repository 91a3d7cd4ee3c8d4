"""Attacks on a frozen network: what their rows say, and which input is refused."""

import pytest
import torch

from fastat.attacks import Attacked
from fastat.data.datasets import Part
from fastat.errors import BadInput
from fastat.evaluation import autoattack, whitebox
from fastat.networks import models


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return models.build("preact_tiny", 1, 10).eval()


@pytest.fixture(scope="module")
def part(model):
    """Thirty images, labelled by the network itself except the first."""
    images = torch.randint(256, (30, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = model(images.float() / 255).argmax(1)
    labels[0] = (labels[0] + 1) % 10
    return Part(images, labels, tuple(images.shape[2:]))


def table(rows):
    return {(row["attack"], row["index"]): row for row in rows}


def test_every_attack_has_a_row_per_image_and_what_clean_gets_wrong_is_broken_at_step_0(model, part):
    rows = table(whitebox.attack_all(model, part, whitebox.Protocol(eps=0.02, batch_size=7)))
    assert len(rows) == 8 * 30
    for attack in ("clean", "fgsm"):
        assert (rows[attack, 0]["correct"], rows[attack, 0]["step"]) == (0, 0)
    for i in range(1, 30):
        assert (rows["clean", i]["correct"], rows["clean", i]["step"]) == (1, "")
        assert rows["pgd10", i]["correct"] or 0 <= rows["pgd10", i]["step"] <= 10


def test_the_checks_of_an_honest_network_are_what_they_say(model, part):
    rows = table(whitebox.attack_all(model, part, whitebox.Protocol(eps=0.02, batch_size=7)))
    assert all(rows["inside", i]["correct"] and rows["gradient", i]["correct"] for i in range(30))
    assert sum(rows["noise", i]["correct"] for i in range(30)) >= sum(rows["pgd50", i]["correct"] for i in range(30))
    x = torch.full((2, 1, 2, 2), 0.5)
    for moved, stays in ((0.1, True), (0.11, False), (0.6, False)):
        assert whitebox.inside(x + moved, x, 0.1).tolist() == [stays, stays]
    assert whitebox.inside(x + 0.55, x, 0.6).tolist() == [False, False]  # in the ball, but above 1


@pytest.mark.parametrize(
    "factor,message", [(float("nan"), "clean: the loss on image 0 is nan"), (3e38, "is nan|is inf")]
)
def test_an_output_that_is_no_number_gets_no_accuracy(model, part, factor, message):
    class Broken(torch.nn.Module):
        def forward(self, x):
            return factor * (10 + model(x))

    with pytest.raises(BadInput, match=message):
        list(whitebox.attack_all(Broken().eval(), part, whitebox.Protocol(eps=0.02)))


def test_a_gradient_that_is_no_number_gets_no_accuracy(part):
    class Cusp(torch.nn.Module):
        def forward(self, x):
            flat = x.flatten(1)[:, :10]
            return torch.sqrt(0 * flat) + flat  # finite, its derivative is not

    with pytest.raises(BadInput, match="is nan"):
        list(whitebox.attack_all(Cusp().eval(), part, whitebox.Protocol(eps=0.02)))


def test_a_network_without_gradients_is_seen_by_the_gradient_check(part):
    class Deaf(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.one_hot(x.flatten(1).mul(100).round().long().sum(1) % 10, 10) + 0 * x.sum()

    rows = table(whitebox.attack_all(Deaf().eval(), part, whitebox.Protocol(eps=0.02)))
    assert not any(rows["gradient", i]["correct"] for i in range(30))


def test_with_restarts_an_image_is_correct_only_if_it_survives_all_of_them(monkeypatch, model, part):
    def one_restart(_model, x, y, **_):
        fallen = torch.zeros(len(y), dtype=torch.bool)
        fallen[len(calls)] = True
        calls.append(1)
        return Attacked(x, ~fallen, torch.where(fallen, len(calls), -1), torch.zeros(len(y)))

    calls: list[int] = []
    monkeypatch.setattr(whitebox, "pgd", one_restart)
    rows = table(whitebox.attack_all(model, part, whitebox.Protocol(eps=0.01, pgd_restarts=3)))
    assert [rows["pgd10", i]["correct"] for i in range(4)] == [0, 0, 0, 1]
    assert [rows["pgd10", i]["step"] for i in range(4)] == [1, 2, 3, ""]


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("correct", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_in_any_restart_gets_no_accuracy(at, correct, value, monkeypatch, model, part):
    def one_restart(_model, x, y, **_):
        calls.append(1)
        loss = torch.full((len(y),), value if len(calls) == at + 1 else 1.0)
        fallen = torch.full((len(y),), len(calls) == 3 and not correct)
        return Attacked(x, ~fallen, -(~fallen).long(), loss)

    calls: list[int] = []
    monkeypatch.setattr(whitebox, "pgd", one_restart)
    with pytest.raises(BadInput, match="pgd10: the loss on image 0 is"):
        list(whitebox.attack_all(model, part, whitebox.Protocol(eps=0.01, pgd_restarts=3)))


def test_the_union_of_two_attacks_has_the_loss_of_the_image_that_it_has():
    x = torch.zeros(3, 1, 1, 1)
    one = Attacked(x, torch.tensor([True, True, False]), torch.tensor([-1, -1, 2]), torch.tensor([0.1, 0.2, 0.3]))
    other = Attacked(x + 1, torch.tensor([True, False, False]), torch.tensor([-1, 4, 1]), torch.tensor([1.0, 2.0, 3.0]))
    found = whitebox.worse(one, other)
    assert torch.equal(found.loss, torch.tensor([0.1, 2.0, 0.3])) and found.x_adv.flatten().tolist() == [0, 1, 0]
    assert found.correct.tolist() == [True, False, False] and found.step.tolist() == [-1, 4, 2]


def test_many_small_steps_break_at_least_what_one_large_step_breaks_on_a_linear_network(part):
    torch.manual_seed(0)
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)).eval()
    two = Part(part.images, part.labels % 2, part.size)
    rows = table(whitebox.attack_all(linear, two, whitebox.Protocol(eps=0.05)))
    assert [rows["fgsm", i]["correct"] for i in range(30)] == [rows["pgd50", i]["correct"] for i in range(30)]


def test_attacks_do_not_depend_on_each_other_or_on_the_global_generator(model, part):
    first = list(whitebox.attack_all(model, part, whitebox.Protocol(eps=0.02)))
    torch.rand(100)
    assert list(whitebox.attack_all(model, part, whitebox.Protocol(eps=0.02))) == first


def standard(model, x, y, tmp_path):
    index = torch.arange(len(y))
    return autoattack.standard(
        model, lambda at: (x[at], y[at]), index, eps=0.01, batch_size=8, seed=0, partial=tmp_path / "partial.csv"
    )


def test_autoattack_refuses_a_model_in_train_mode_and_images_that_are_not_in_0_to_1(model, tmp_path):
    x, y = torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    with pytest.raises(BadInput, match=r"train mode.*model\.eval\(\)"):
        standard(models.build("preact_tiny", 1, 10).train(), x, y, tmp_path)
    for bad in (x * 255, x - 1, torch.full_like(x, float("nan"))):
        with pytest.raises(BadInput, match="divide 8-bit images by 255"):
            standard(model, bad, y, tmp_path)


@pytest.mark.parametrize("n_classes,names", [(2, 3), (3, 3), (4, 4), (10, 4)])
def test_autoattack_takes_no_more_targets_than_there_are_other_classes(n_classes, names):
    torch.manual_seed(0)
    network = models.build("preact_tiny", 1, n_classes).eval()
    sequence = autoattack.attacks(network, n_classes, 0.01, 0, torch.device("cpu"))
    assert len(sequence) == names and ("apgd-t" in sequence) == (n_classes > 3)
    assert sequence["fab-t"].__self__.n_target_classes == min(9, n_classes - 1)


def test_autoattack_runs_with_three_classes(tmp_path):
    torch.manual_seed(0)
    network = models.build("preact_tiny", 1, 3).eval()
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        y = network(x).argmax(1)
    rows = autoattack.standard(
        network,
        lambda at: (x[at], y[at]),
        torch.arange(2),
        eps=0.3,
        batch_size=2,
        seed=0,
        partial=tmp_path / "partial.csv",
    )
    assert {row["attack"] for row in rows} >= {"clean", "apgd-ce"}


def test_the_protocol_s_seed_is_that_of_the_starts(model, part):
    once, again, other = (
        list(whitebox.attack_all(model, part, whitebox.Protocol(eps=0.1, batch_size=7, seed=seed)))
        for seed in (0, 0, 1)
    )
    assert once == again

    def starts(seed):
        seen = []

        def watch(module, inputs):
            seen.append(inputs[0].detach().clone())

        hook = model.register_forward_pre_hook(watch)
        list(whitebox.attack_all(model, part, whitebox.Protocol(eps=0.1, batch_size=30, seed=seed)))
        hook.remove()
        return seen

    zero, one = starts(0), starts(1)
    x = part.take(torch.arange(30))[0]
    moved = [not a.equal(b) for a, b in zip(zero, one, strict=True)]
    assert any(moved) and not moved[0] and zero[0].equal(x)
    first = moved.index(True)  # PGD10's start
    assert (zero[first] - x).abs().max() <= 0.1 + 1e-6 and not zero[first].equal(x)
