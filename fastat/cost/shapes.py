"""What an operation gives on `meta`, remembered: torch finds it in Python, anew for every layer, batch and method.

On `meta` a tensor has no values, so that what comes out depends on the layout of the tensors and the other arguments
alone. Views and whatever else may share memory are asked for every time: they are quick, and no copies.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

DENSE = (Tensor, nn.Parameter)
NEW, IN_PLACE = "new", "in place"
Remade = Callable[[Any], Any] | None  # arguments -> the result again; None: torch is asked
_known: dict[tuple[Any, ...], tuple[Remade, int]] = {}


def call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, int]:
    """What an operation gives, and its FLOPs by torch's formula."""
    kind = kind_of(func)
    key = (func, *map(layout, args), *map(layout, kwargs.items())) if kind else ()
    try:
        remade, flops = _known[key]
        return (func(*args, **kwargs) if remade is None else remade(args)), flops
    except (KeyError, TypeError):  # TypeError: an argument that has no hash
        pass
    out = func(*args, **kwargs)
    formula = flop_registry.get(func._overloadpacket)
    flops = formula(*args, **kwargs, out_val=out) if formula else 0
    given = tensors((args, *kwargs.values())) if kind else []
    if given and all(tensor.is_meta and type(tensor) in DENSE for tensor in given):
        same = out is args[0] and layout(out) == key[1]
        remade = new(out, given) if kind == NEW else changed if same else None
        try:
            _known[key] = remade, flops
        except TypeError:
            pass
    return out, flops


@functools.cache
def kind_of(func: Any) -> str:
    """By its schema: NEW, gives new tensors alone and changes none; IN_PLACE, changes and gives its first; or ''."""
    schema = func._schema
    if not schema.returns or any(str(one.type) != "Tensor" for one in schema.returns):
        return ""
    shared = [one.alias_info for one in (*schema.arguments, *schema.returns) if one.alias_info]
    first = schema.arguments[0].alias_info if schema.arguments else None
    if first and first.is_write and len(shared) == 2 and schema.returns[0].alias_info:
        return IN_PLACE
    return "" if shared else NEW


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


def changed(args: tuple[Any, ...]) -> Any:
    """The result of an operation in place."""
    return args[0]


def new(out: Any, given: list[Tensor]) -> Remade:
    """What makes such a result once more; None where a plain tensor with memory of its own is not the same."""
    taken, likes = {tensor.untyped_storage()._cdata for tensor in given}, list[Any]()
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
    return (lambda _: tuple(map(empty, likes))) if isinstance(out, tuple) else (lambda _: empty(likes[0]))


def empty(like: Any) -> Any:
    """A tensor on `meta` of this shape, stride and type."""
    return like and torch.empty_strided(like[0], like[1], dtype=like[2], device="meta")
