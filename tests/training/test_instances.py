"""What a run remembers of every training image."""

import torch

from fastat.training.instances import Instances
from fastat.types import Batch, StepReport, Task, View


def instances(device="cpu", n_epochs=3):
    task = Task(0.1, 4, 3, (1, 2, 2), (1, 2, 2), n_epochs, 2, 2, 10, torch.device(device), None)
    return Instances(task)


def test_instances_keep_each_image_s_norm_and_step_by_epoch_and_the_last_perturbation():
    kept, zero = instances(), torch.zeros(2, dtype=torch.long)
    for epoch in (1, 3):
        x = torch.zeros(2, 1, 2, 2)
        batch = Batch(x, zero, torch.tensor([3, 1]), View(zero, zero, zero.bool()), epoch, 0)
        grad = torch.ones(2, 1, 2, 2) * torch.tensor([epoch, 10.0 * epoch])[:, None, None, None]
        alpha = torch.full((2, 1, 1, 1), epoch / 255)
        kept.add(batch, StepReport(torch.zeros(()), x + 0.1 * epoch, {}, grad, alpha))
    state = kept.state_dict()
    assert state["grad_norm"][3].tolist()[::2] == [2, 6] and state["grad_norm"][1].tolist()[::2] == [20, 60]
    assert state["grad_norm"][:, 1].isnan().all() and state["grad_norm"][[0, 2]].isnan().all()
    assert state["alpha_255"][1].tolist()[::2] == [1, 3]
    torch.testing.assert_close(state["delta_linf"][[1, 3]], torch.full((2,), 0.3))
    torch.testing.assert_close(state["delta_l2"][[1, 3]], torch.full((2,), 0.6))
    assert state["delta_l2"][[0, 2]].isnan().all()
    again = instances()
    again.load_state_dict(state)
    for name, rows in again.state_dict().items():
        torch.testing.assert_close(rows, state[name], equal_nan=True)


def test_what_was_kept_on_the_host_goes_on_where_the_training_computes():
    kept = instances("meta")
    kept.load_state_dict({"grad_norm": torch.zeros(4, 3, dtype=torch.float16)})
    assert kept.kept["grad_norm"].device.type == "meta"


def test_instances_never_wait_for_the_device():
    kept = instances("meta")
    x, zero = torch.zeros(2, 1, 2, 2, device="meta"), torch.zeros(2, dtype=torch.long, device="meta")
    batch = Batch(x, zero, zero, View(zero, zero, zero.bool()), 3, 0)
    kept.add(batch, StepReport(x.sum(), x, {}, x, x[:, :1, :1, :1]))
    assert set(kept.kept) == {"grad_norm", "alpha_255", "delta_l2", "delta_linf"}
