"""SubAT's subspace, and the invariants of its card."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from sklearn.decomposition import PCA

import methods
from fastat.attacks import input_gradient, uniform_like
from fastat.cost import passes
from fastat.networks import models
from methods.subat import flat, principal_directions

CARD = {"forward": 2, "input_backward": 1, "parameter_backward": 1}
BATCHNORM_UPDATES = 2
SMALL = {"sampling_epochs": 2, "per_epoch": 2, "n_components": 3}  # 121 snapshots need more batches


def epochs(step, batch, numbers=range(3), first=1, last=2):
    for epoch in range(first, last + 1):
        if epoch > 1:
            step.method.begin_epoch(step.model, step.learner, epoch)
        for number in numbers:
            step.run(batch, epoch=epoch, number=number)


def plain_directions(rows, n_components):
    """The definition: right singular vectors of the centred rows (n, D); what `principal_directions` never holds."""
    centred = rows.double() - rows.double().mean(0)
    return torch.linalg.svd(centred, full_matrices=False).Vh[:n_components].float()


def test_the_gram_matrix_finds_the_directions_of_a_plain_svd_and_of_scikit_learns_pca_whatever_the_chunk():
    rows = torch.randn(9, 50, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 5, 9)[:, None]
    plain = plain_directions(rows, 5)
    for chunk in (7, 1000):
        snapshots = rows.clone()
        principal_directions(snapshots, 5, chunk)
        assert torch.equal(snapshots[0], rows[0]) and torch.equal(snapshots[6:], rows[6:])
        sign = (snapshots[1:6] * plain).sum(1, keepdim=True).sign()  # an eigenvector's is arbitrary
        torch.testing.assert_close(sign * snapshots[1:6], plain, atol=1e-6, rtol=0)
        expected = PCA(5, svd_solver="full").fit(rows.numpy()).components_
        cosines = np.abs((snapshots[1:6].numpy() * expected).sum(1))
        np.testing.assert_allclose(cosines, 1, atol=1e-5)


def test_rows_are_orthonormal_over_widely_spread_variances():
    scales = torch.logspace(0, -4, 12)[:, None]
    snapshots = torch.randn(13, 400, generator=torch.Generator().manual_seed(1))
    snapshots[1:] *= scales
    principal_directions(snapshots, 10)
    basis = snapshots[1:11]
    assert (basis @ basis.T - torch.eye(10)).abs().max() < 1e-4


def test_directions_without_variance_are_zero_and_not_noise():
    snapshots = torch.zeros(6, 20)
    snapshots[:, 0] = torch.arange(6.0)
    principal_directions(snapshots, 4)
    assert snapshots[1].norm() > 0.99 and snapshots[2:5].abs().max() == 0


def test_snapshots_are_theta_0_and_then_evenly_spaced_with_the_last_at_the_epochs_end(start, tiny_model, tiny_batch):
    step = start("subat", tiny_model, **SMALL)
    kept = step.method.snapshots
    assert torch.equal(kept[0], flat(list(tiny_model.parameters()))) and kept.shape[0] == 2 * 2 + 1
    rows = [step.method.row_after(replace(tiny_batch, epoch=e, number=n)) for e in (1, 2) for n in range(3)]
    assert rows == [None, 1, 2, None, 3, 4]
    epochs(step, tiny_batch)
    assert torch.equal(kept[4], flat(list(tiny_model.parameters())))


def test_the_subspace_phase_starts_at_theta_0_and_never_leaves_it(start, tiny_model, tiny_batch):
    step = start("subat", tiny_model, **SMALL)
    theta_0 = flat(list(tiny_model.parameters()))
    epochs(step, tiny_batch)
    step.method.begin_epoch(tiny_model, step.learner, 3)
    assert torch.equal(flat(list(tiny_model.parameters())), theta_0)
    assert all(float(m.running_var.sum()) == m.num_features for m in tiny_model.modules() if hasattr(m, "running_var"))
    basis = step.method.snapshots[1:4]
    for number in range(4):
        step.run(tiny_batch, epoch=3, number=number % 3)
        moved = flat(list(tiny_model.parameters())) - theta_0
        assert moved.norm() > 0
        assert (moved - basis.T @ (basis @ moved)).norm() <= 1e-3 * moved.norm()


def test_projecting_twice_is_projecting_once(start, tiny_model, tiny_batch):
    step = start("subat", tiny_model, **SMALL)
    epochs(step, tiny_batch)
    step.method.begin_epoch(tiny_model, step.learner, 3)
    step.learner.accumulate(tiny_model(tiny_batch.x).square().sum())
    grads = [p.grad for p in tiny_model.parameters()]
    step.method.project(tiny_model)
    once = flat(grads)
    step.method.project(tiny_model)
    torch.testing.assert_close(flat(grads), once, atol=1e-5 * float(once.abs().max()), rtol=1e-4)


def test_in_bf16_the_projection_stays_float32(start, tiny_model, tiny_batch):
    step = start("subat", tiny_model, **SMALL)
    epochs(step, tiny_batch)
    step.method.begin_epoch(tiny_model, step.learner, 3)
    step.learner.accumulate(tiny_model(tiny_batch.x).square().sum())
    grads = [p.grad for p in tiny_model.parameters()]
    before = flat(grads)
    step.method.project(tiny_model)
    found = flat(grads)
    for grad, part in zip(grads, before.split([g.numel() for g in grads]), strict=True):
        grad.copy_(part.reshape(grad.shape))
    with torch.autocast("cpu", torch.bfloat16):
        step.method.project(tiny_model)
    assert torch.equal(flat(grads), found)


def test_sampling_is_fgsm_rs(start, tiny_batch, tiny_task, linear):
    weights = []
    for name, params in (("subat", SMALL), ("fgsm_rs", {})):
        tiny_task.rng.manual_seed(4)
        torch.manual_seed(0)
        model = type(linear)()
        start(name, model, **params).run(tiny_batch)
        weights.append(model.layer.weight.detach())
    assert torch.equal(*weights)


def test_what_leaves_no_subspace_is_refused(refused):
    refused("subat", "n_components is 80, but 5 snapshots span at most 4", sampling_epochs=2, per_epoch=2)
    refused("subat", "per_epoch is 4, but an epoch has only 3 batches", per_epoch=4)
    refused("subat", "none is left for the subspace", sampling_epochs=30, per_epoch=3)


def test_no_step_in_the_subspace_waits_for_the_device():
    with torch.device("meta"):
        model = models.build("preact_tiny", 3, 10)
    one = passes.rehearse(partial(methods.build, "subat"), model, (3, 32, 32), pad=4, n_train=50_000)
    one.batch = replace(one.batch, epoch=31)
    one.step()()


def test_a_step_in_the_subspace_by_hand(start, tiny_model, tiny_batch, tiny_task, clipped):
    """Its own radius and step, another start of the optimiser, and the gradient projected on the directions."""
    step = start("subat", tiny_model, subspace_radius="0.7 eps", subspace_alpha="0.4 eps", **SMALL)
    step.learner.optimizer.param_groups[0]["momentum"] = 0.9
    epochs(step, tiny_batch)
    buffers = [state for state in step.learner.optimizer.state.values() if state.get("momentum_buffer") is not None]
    assert buffers
    step.method.begin_epoch(tiny_model, step.learner, 3)
    assert not [s for s in step.learner.optimizer.state.values() if s.get("momentum_buffer") is not None]
    x, y, eps = tiny_batch.x, tiny_batch.y, tiny_task.eps
    state = tiny_task.rng.get_state()
    x_start = clipped(x + uniform_like(x, 0.7 * eps, tiny_task.rng), x, 0.7 * eps)
    tiny_task.rng.set_state(state)
    grad = input_gradient(deepcopy(tiny_model).train(), x_start, y)
    expected = clipped(x_start + 0.4 * eps * grad.sign(), x, 0.7 * eps)
    report = step.run(tiny_batch, epoch=3)
    torch.testing.assert_close(report.x_adv, expected, atol=1e-6, rtol=0)
    assert 0.6 * eps < (report.x_adv - x).abs().max() <= 0.7 * eps + 1e-6
