"""What DeltaStore keeps, and how exactly."""

from dataclasses import replace

import pytest
import torch

import methods
from fastat.config.recipe import Recipe, Schedule
from fastat.store import DeltaStore
from fastat.training.learner import SGDLearner


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


def bilinear(small: torch.Tensor, size: int) -> torch.Tensor:
    """Bilinear resizing without antialiasing, as a matrix: weights by hand from pixel centres."""
    n = small.shape[-1]
    matrix = torch.zeros(size, n)
    for i in range(size):
        at = min(max((i + 0.5) * n / size - 0.5, 0.0), n - 1.0)
        low = min(int(at), n - 2)
        matrix[i, low], matrix[i, low + 1] = 1 - (at - low), at - low
    return matrix @ small @ matrix.T


def test_a_small_store_is_enlarged_to_the_frame_and_the_written_frame_made_small(tiny_task, tiny_batch):
    store = DeltaStore(tiny_task, size=4)
    store.redraw()
    before, view = store.delta.clone(), tiny_batch.view
    frames = bilinear(before[tiny_batch.index], 10)
    for k in range(4):  # the window of each image, by hand
        seen = frames[k, :, view.top[k] : view.top[k] + 8, view.left[k] : view.left[k] + 8]
        seen = seen.flip(-1) if view.flip[k] else seen
        torch.testing.assert_close(store.read(tiny_batch)[k], seen, atol=1e-6, rtol=0)
    delta = torch.empty_like(tiny_batch.x).uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(1))
    store.write(tiny_batch, delta)
    for k in range(4):
        window = delta[k].flip(-1) if view.flip[k] else delta[k]
        frames[k, :, view.top[k] : view.top[k] + 8, view.left[k] : view.left[k] + 8] = window
    torch.testing.assert_close(store.delta[tiny_batch.index], bilinear(frames, 4), atol=1e-6, rtol=0)
    assert not torch.equal(store.delta[tiny_batch.index], before[tiny_batch.index])
    others = [i for i in range(12) if i not in tiny_batch.index.tolist()]
    assert torch.equal(store.delta[others], before[others])


@pytest.mark.parametrize("framed", [True, False])
def test_a_small_store_of_one_value_everywhere_comes_back_as_it_was(tiny_task, tiny_batch, framed):
    store = DeltaStore(tiny_task, framed=framed, size=3)
    store.delta.fill_(0.07)
    torch.testing.assert_close(store.read(tiny_batch), torch.full_like(tiny_batch.x, 0.07))
    store.write(tiny_batch, store.read(tiny_batch))
    torch.testing.assert_close(store.delta, torch.full_like(store.delta, 0.07))


def test_released_atas_on_imagenet_draws_delta_and_never_writes_it(tiny_task, tiny_batch, tiny_model):
    for frozen in (False, True):
        method = methods.build("atas", tiny_task, store="float16", store_size=4, frozen=frozen)
        learner = SGDLearner(tiny_model, Recipe(30, 4, Schedule("piecewise", 0.1), 0.0))
        method.begin_epoch(tiny_model, learner, 1)
        before = method.delta.delta.clone()
        method.train_batch(tiny_model, tiny_batch, learner)
        assert torch.equal(method.delta.delta, before) == frozen
