"""What is remembered of an operation on `meta` is what torch says, and no more than that."""

import pytest
import torch

from fastat.cost import shapes

aten = torch.ops.aten


def like(value):
    """What a result on `meta` is known by."""
    return shapes.layout(value), [one.untyped_storage().nbytes() for one in shapes.tensors(value)]


@pytest.mark.parametrize(
    "func,args,kwargs",
    [
        (aten.add.Tensor, (torch.empty(2, 3), torch.empty(3, 2).T), {"alpha": 2}),
        (aten.mm.default, (torch.empty(2, 3), torch.empty(3, 4)), {}),
        (aten.native_batch_norm.default, (torch.empty(2, 3, 4, 4), None, None, None, None, True, 0.1, 1e-5), {}),
        (aten.relu_.default, (torch.empty(2, 3),), {}),
        (aten.t.default, (torch.empty(2, 3),), {}),
        (aten._unsafe_view.default, (torch.empty(2, 3), [6]), {}),
    ],
)
def test_the_second_answer_is_the_first_ones_twin(func, args, kwargs):
    given = tuple(one.to("meta") if isinstance(one, torch.Tensor) else one for one in args)
    shapes._known.clear()
    (first, flops), (second, again) = shapes.call(func, given, kwargs), shapes.call(func, given, kwargs)
    plain = func(*given, **kwargs)
    assert like(first) == like(second) == like(plain)
    assert flops == again == (2 * 2 * 3 * 4 if func is aten.mm.default else 0)
    memory = given[0].untyped_storage()._cdata
    shared = [one.untyped_storage()._cdata == memory for one in shapes.tensors(second)]
    assert all(shared) == (func in (aten.relu_.default, aten.t.default, aten._unsafe_view.default))
    assert (second is given[0]) == (func is aten.relu_.default)


def test_a_type_is_part_of_what_is_remembered():
    whole = torch.empty(3, dtype=torch.int64, device="meta")
    types = [shapes.call(aten.mul.Tensor, (whole, by), {})[0].dtype for by in (1, 1.0, True, 1, 1.0)]
    assert types == [torch.int64, torch.float32, torch.int64, torch.int64, torch.float32]


def test_values_are_computed_where_there_are_some():
    one, two = torch.ones(2), torch.full((2,), 2.0)
    assert [shapes.call(aten.add.Tensor, (x, x), {})[0].tolist() for x in (one, two)] == [[2, 2], [4, 4]]
