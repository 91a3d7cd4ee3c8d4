"""What an operation gives on `meta`, remembered: torch finds it in Python, anew for every layer, batch and method.

On `meta` a tensor has no values, so that what comes out depends on the layout of the tensors and the other arguments
alone. Views and whatever else may share memory are asked for every time: they are quick, and no copies.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

DENSE = (Tensor, nn.Parameter)
Made = Callable[[], Any] | None  # makes the result again; None: it is asked for
_known: dict[tuple[Any, ...], tuple[Made, int]] = {}


def call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, int]:
    """What an operation gives, and its FLOPs by torch's formula."""
    key = (func, *map(layout, args), *(layout(item) for item in kwargs.items())) if is_pure(func) else ()
    try:
        made, flops = _known[key]
    except (KeyError, TypeError):  # TypeError: of an argument that has no hash
        pass
    else:
        return (func(*args, **kwargs) if made is None else made()), flops
    out = func(*args, **kwargs)
    formula = flop_registry.get(func._overloadpacket)
    flops = formula(*args, **kwargs, out_val=out) if formula else 0
    given = tensors((args, *kwargs.values()))
    if key and all(tensor.is_meta and type(tensor) in DENSE for tensor in given):
        try:
            _known[key] = again(out, {tensor.untyped_storage()._cdata for tensor in given}), flops
        except TypeError:
            pass
    return out, flops


_pure: dict[Any, bool] = {}


def is_pure(func: Any) -> bool:
    """Whether the operation says that it gives new tensors alone and changes none."""
    if func not in _pure:
        schema = func._schema
        shares = schema.is_mutable or any(one.alias_info for one in schema.returns)
        _pure[func] = not shares and all(str(one.type) == "Tensor" for one in schema.returns) and bool(schema.returns)
    return _pure[func]


def layout(value: Any) -> Any:
    """All of an argument that a result on `meta` depends on; True and 1 are told apart."""
    kind = type(value)
    if kind in DENSE:
        return value.shape, value.stride(), value.dtype, value.is_meta
    return tuple(map(layout, value)) if kind in (list, tuple) else (kind, value)


def tensors(value: Any) -> list[Tensor]:
    """All tensors in an argument or a result."""
    if isinstance(value, list | tuple):
        return [tensor for one in value for tensor in tensors(one)]
    return [value] if isinstance(value, Tensor) else []


def again(out: Any, shared: set[int]) -> Made:
    """What makes such a result once more; None where a plain tensor with memory of its own is not the same.

    shared: the storages of the arguments.
    """
    taken, likes = set(shared), []
    for tensor in out if isinstance(out, tuple) else (out,):
        if tensor is None:
            likes.append(None)
            continue
        like, storage = (tensor.shape, tensor.stride(), tensor.dtype), tensor.untyped_storage()
        own = tensor.is_meta and type(tensor) is Tensor and not tensor.storage_offset() and storage._cdata not in taken
        if not own or empty(like).untyped_storage().nbytes() != storage.nbytes():
            return None
        taken.add(storage._cdata)
        likes.append(like)
    return (lambda: tuple(map(empty, likes))) if isinstance(out, tuple) else (lambda: empty(likes[0]))


def empty(like: Any) -> Tensor | None:
    """A tensor on `meta` of this shape, stride and type."""
    return like and torch.empty_strided(like[0], like[1], dtype=like[2], device="meta")
