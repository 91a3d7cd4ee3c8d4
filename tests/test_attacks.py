"""The two balls: what lies in them, where a step leads, and where the gradient says nothing."""

import pytest
import torch
from torch import nn

from fastat.attacks import L2, LINF, along_l2, ascend, l2_norm, pgd, project_l2, uniform_in_l2

SHAPE = (6, 3, 4, 5)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(seed=0):
    return torch.rand(SHAPE, generator=rng(seed))


def test_projection_into_the_l2_ball_is_the_nearest_point_of_it_and_leaves_what_is_inside():
    x = torch.full(SHAPE, 0.5)
    delta = torch.randn(SHAPE, generator=rng())
    far, near = x + 0.01 * delta, x + 1e-4 * delta
    assert l2_norm(far - x).min() > 0.05
    found = project_l2(far, x, 0.05)
    torch.testing.assert_close(found, x + 0.05 * delta / l2_norm(delta))
    assert torch.equal(project_l2(near, x, 0.05), x + (near - x))
    torch.testing.assert_close(project_l2(found, x, 0.05), found)


def test_what_is_cut_to_the_pixel_range_stays_in_the_ball():
    x, far = draw(), draw(1) + torch.randn(SHAPE, generator=rng(2))
    found = project_l2(far, x, 0.7)
    assert found.min() >= 0 and found.max() <= 1 and l2_norm(found - x).max() <= 0.7 * (1 + 1e-6)


def test_draws_from_the_l2_ball_fill_it_by_volume():
    draws = uniform_in_l2(torch.empty(20_000, 1, 1, 2), 0.3, rng())
    radius = l2_norm(draws).flatten()
    assert radius.max() <= 0.3 * (1 + 1e-6)
    # P(radius <= r) = (r / eps)^2 in the plane; 3 standard deviations of 20,000 draws are 0.011
    for share in (0.25, 0.5, 0.75):
        assert abs(float((radius <= 0.3 * share**0.5).float().mean()) - share) < 0.011
    assert draws.mean(0).abs().max() < 0.004  # 3 x 0.3 / 2 / sqrt(20,000)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_a_gradients_direction_is_kept_however_small_or_large_it_is(scale):
    grad = torch.randn(SHAPE, generator=rng())
    torch.testing.assert_close(along_l2(scale * grad), grad / l2_norm(grad))


def test_where_the_gradient_is_zero_the_image_stays_and_where_it_is_no_number_it_is_seen():
    grad = torch.randn(SHAPE, generator=rng())
    grad[0], grad[1, 0, 0, 0] = 0, float("nan")
    found = along_l2(grad)
    assert not found[0].any() and found[1].isnan().any() and found[2:].isfinite().all()


def linear(weight):
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight.shape[1], weight.shape[0], bias=False)).eval()
    model[1].weight.data = weight
    return model


@pytest.mark.parametrize("ball,norm", [(L2, 2), (LINF, 1)])
def test_one_step_on_a_linear_network_is_the_steepest_of_all(ball, norm):
    """Of two classes the margin falls by eps times the dual norm of the difference of the weights."""
    weight = torch.randn((2, 60), generator=rng(), dtype=torch.float32)
    x, y = torch.full((1, 3, 4, 5), 0.5), torch.tensor([0])
    found = ascend(linear(weight), x, y, eps=0.05, alpha=0.05, n_steps=1, x_start=x, ball=ball)
    with torch.no_grad():
        logits = linear(weight)(torch.cat([x, found.x_adv]))
    fallen = (logits[0] - logits[1]) @ torch.tensor([1.0, -1.0])
    torch.testing.assert_close(fallen, 0.05 * torch.linalg.vector_norm(weight[0] - weight[1], norm), rtol=1e-4, atol=0)


@pytest.mark.parametrize("ball,dual,eps", [(L2, 2, 0.1), (LINF, 1, 0.02)])
def test_pgd_breaks_of_a_linear_network_what_can_be_broken_and_nothing_else(ball, dual, eps):
    """An image falls if and only if its margin is below eps times the dual norm of the difference of the weights."""
    weight = torch.randn((2, 60), generator=rng())
    weight -= weight.mean(1, keepdim=True)  # so that some margins are small
    x = 0.3 + 0.4 * torch.rand((400, 3, 4, 5), generator=rng(3))  # nothing is cut to the pixel range
    model = linear(weight)
    with torch.no_grad():
        logits = model(x)
    y, margin = logits.argmax(1), logits.diff(dim=1).abs().flatten()
    found = pgd(model, x, y, eps=eps, alpha=eps / 4, n_steps=20, rng=rng(), ball=ball)
    reach = eps * float(torch.linalg.vector_norm(weight[0] - weight[1], dual))
    sure = (margin - reach).abs() > 1e-3 * reach
    assert torch.equal(found.correct[sure], (margin > reach)[sure]) and 40 < int(found.correct.sum()) < 360


def test_l2_pgd_stays_in_its_ball_breaks_what_it_can_and_depends_on_its_generator_alone():
    weight = torch.randn((3, 60), generator=rng())
    x, y = draw(), torch.tensor([0, 1, 2, 0, 1, 2])
    runs = []
    for seed in (0, 0, 1):
        options = {"eps": 0.5, "alpha": 0.1, "n_steps": 10}
        runs.append(pgd(linear(weight), x, y, rng=rng(seed), ball=L2, **options))
        torch.rand(3)
    assert l2_norm(runs[0].x_adv - x).max() <= 0.5 * (1 + 1e-6)
    assert runs[0].x_adv.min() >= 0 and runs[0].x_adv.max() <= 1
    assert torch.equal(runs[0].x_adv, runs[1].x_adv) and not torch.equal(runs[0].x_adv, runs[2].x_adv)
    with torch.no_grad():
        before = nn.functional.cross_entropy(linear(weight)(x), y, reduction="none")
    assert (runs[0].loss > before).all()
