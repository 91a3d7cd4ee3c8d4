"""What DeltaStore keeps, and how exactly."""

from dataclasses import replace

import pytest
import torch

from fastat.training.store import DeltaStore


@pytest.mark.parametrize("dtype,share_of_eps", [("float32", 0.0), ("float16", 1 / 2048), ("int8", 1 / 254)])
@pytest.mark.parametrize("framed", [True, False])
def test_what_is_written_is_read_back_to_within_the_stated_error(tiny_task, tiny_batch, dtype, share_of_eps, framed):
    store = DeltaStore(tiny_task, dtype, framed)
    delta = torch.empty_like(tiny_batch.x).uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(0))
    store.write(tiny_batch, delta)
    assert (store.read(tiny_batch) - delta).abs().max() <= share_of_eps * 0.1 + 1e-9
    assert (
        store.read(tiny_batch).dtype == torch.float32
        and store.delta.element_size() == torch.zeros((), dtype=getattr(torch, dtype)).element_size()
    )


def test_whole_255ths_are_kept_exactly_in_int8(tiny_task, tiny_batch):
    store = DeltaStore(replace(tiny_task, eps=102 / 255), "int8", whole=True)
    delta = torch.randint(-102, 103, tiny_batch.x.shape, generator=torch.Generator().manual_seed(0)) / 255
    store.write(tiny_batch, delta)
    assert torch.equal(store.read(tiny_batch), delta)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_a_redraw_is_uniform_in_the_ball_and_fresh(tiny_task, dtype):
    store = DeltaStore(replace(tiny_task, n_train=200), dtype)
    store.redraw()
    first = store._unpack(store.delta).clone()
    assert first.abs().max() <= 0.1 + 1e-4 and abs(first.mean()) < 1e-3
    assert first.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.02)
    store.redraw()
    assert not torch.equal(store._unpack(store.delta), first)
