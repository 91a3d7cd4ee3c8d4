"""One step of each method on a linear model, worked out in the test with the paper's symbols."""

import torch
from torch import nn
from torch.nn.functional import one_hot, softmax

import methods
from fastat.config.recipe import Recipe, Schedule
from fastat.training.learner import SGDLearner

RECIPE = Recipe(epochs=30, batch_size=4, schedule=Schedule("piecewise", 0.1), weight_decay=0.0, momentum=0.0)


def linear_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def gradient(model, x, y):
    """grad_x of the cross-entropy of W x + b: W^T (softmax - onehot)."""
    residual = softmax(model(x), 1) - one_hot(y, 10)
    return (residual @ model[1].weight).reshape(x.shape).detach()


def clipped(x_adv, x, eps):
    return torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(0, 1)


def one_batch(name, task, batch, model, epoch=1, **params):
    method, learner = methods.build(name, task, **params), SGDLearner(model, RECIPE)
    method.begin_epoch(model, learner, epoch)
    return method, learner


def test_fgsm_variant_is_one_step_of_eps_from_the_image(tiny_task, tiny_batch):
    model = linear_model()
    x, y = tiny_batch.x, tiny_batch.y
    expected = (x + 0.1 * gradient(model, x, y).sign()).clamp(0, 1)
    method, learner = one_batch("fgsm_rs", tiny_task, tiny_batch, model, random_start=False, alpha="1 eps")
    torch.testing.assert_close(method.train_batch(model, tiny_batch, learner).x_adv, expected, atol=1e-6, rtol=0)


def test_fgsm_rs_moves_every_inner_pixel_by_at_least_a_quarter_of_eps(tiny_task, tiny_batch):
    model = linear_model()
    grad = gradient(model, tiny_batch.x, tiny_batch.y)
    method, learner = one_batch("fgsm_rs", tiny_task, tiny_batch, model)
    delta = method.train_batch(model, tiny_batch, learner).x_adv - tiny_batch.x
    inner = (tiny_batch.x > 0.1) & (tiny_batch.x < 0.9)
    assert ((delta * grad.sign())[inner] >= 0.025 - 1e-6).all()


def test_pgd10_reaches_the_vertex_of_the_ball_on_a_linear_two_class_model(tiny_task, tiny_batch):
    model = linear_model()
    with torch.no_grad():
        model[1].weight[2:], model[1].bias[2:] = 0, -1e4  # two classes in effect: the gradient's sign is constant
    y = torch.tensor([0, 1, 0, 1])
    batch = type(tiny_batch)(tiny_batch.x, y, tiny_batch.index, tiny_batch.view, 1, 0)
    expected = (batch.x + 0.1 * gradient(model, batch.x, y).sign()).clamp(0, 1)
    method, learner = one_batch("pgd10", tiny_task, batch, model)
    torch.testing.assert_close(method.train_batch(model, batch, learner).x_adv, expected, atol=1e-6, rtol=0)


def test_atta_steps_from_the_stored_perturbation_and_stores_where_it_ended(tiny_task, tiny_batch):
    model = linear_model()
    method, learner = one_batch("atta", tiny_task, tiny_batch, model, alpha="0.5 eps")
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    x_prev = clipped(x + method.delta.read(tiny_batch), x, eps)
    x_next = clipped(x_prev + eps / 2 * gradient(model, x_prev, y).sign(), x, eps)
    before = method.delta.delta.clone()
    report = method.train_batch(model, tiny_batch, learner)
    torch.testing.assert_close(report.x_adv, x_next, atol=1e-6, rtol=0)
    torch.testing.assert_close(method.delta.read(tiny_batch), x_next - x, atol=1e-6, rtol=0)
    others = [i for i in range(12) if i not in tiny_batch.index.tolist()]
    assert torch.equal(method.delta.delta[others], before[others])


def test_atas_step_is_gamma_over_c_plus_root_v_and_v_is_written_back(tiny_task, tiny_batch):
    model = linear_model()
    method, learner = one_batch("atas", tiny_task, tiny_batch, model, beta=0.5, c=1.28, gamma_over_c="2 eps")
    method.step_size.v[:] = 0.3
    x, y, eps = tiny_batch.x, tiny_batch.y, 0.1
    x_prev = clipped(x + method.delta.read(tiny_batch), x, eps)
    g = gradient(model, x_prev, y)
    v = 0.5 * 0.3 + 0.5 * (g**2).sum((1, 2, 3))
    alpha = 1.28 * 2 * eps / (1.28 + v.sqrt())
    report = method.train_batch(model, tiny_batch, learner)
    x_next = clipped(x_prev + alpha[:, None, None, None] * g.sign(), x, eps)
    torch.testing.assert_close(report.x_adv, x_next, atol=1e-6, rtol=0)
    torch.testing.assert_close(method.step_size.v[tiny_batch.index], v, atol=1e-6, rtol=1e-5)
    assert (method.step_size.v[[1, 2, 3]] == 0.3).all()


def test_atas_with_a_fixed_step_is_atta(tiny_task, tiny_batch):
    outcomes = []
    for name, params in (("atta", {"alpha": "0.5 eps"}), ("atas", {"clamp": ("0.5 eps", "0.5 eps")})):
        model = linear_model()
        tiny_task.rng.manual_seed(5)
        method, learner = one_batch(name, tiny_task, tiny_batch, model, **params)
        method.train_batch(model, tiny_batch, learner)
        outcomes.append(model[1].weight.clone())
    assert torch.equal(*outcomes)


def test_reset_redraws_delta_but_keeps_v(tiny_task, tiny_batch):
    model = linear_model()
    method, learner = one_batch("atas", tiny_task, tiny_batch, model)
    method.train_batch(model, tiny_batch, learner)
    v, delta = method.step_size.v.clone(), method.delta.delta.clone()
    method.begin_epoch(model, learner, 9)
    assert torch.equal(method.delta.delta, delta)
    method.begin_epoch(model, learner, 10)
    assert not torch.equal(method.delta.delta, delta) and torch.equal(method.step_size.v, v)
    delta = method.delta.delta.clone()
    method.begin_epoch(model, learner, 30)  # the last epoch keeps its perturbations
    assert torch.equal(method.delta.delta, delta)
