"""A CUDA graph's stand-in on a CPU: a step's operations, repeated on their tensors without any Python of the step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.equal.default)


class Tape(TorchDispatchMode):
    """As captured.CudaGraphs. kept: what a recording, which here does compute, puts back afterwards, beside `rng`."""

    def __init__(self, kept: list[Tensor], rng: torch.Generator):
        super().__init__()
        self.kept, self.rng = kept, rng
        self.recordings = self.replays = 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Nothing has happened when it is left, in whichever way."""
        before, state, self.under_way = [t.clone() for t in self.kept], self.rng.get_state(), False
        try:
            yield
            self.recordings += 1
        finally:
            if self.under_way:
                self.__exit__(None, None, None)
            with torch.no_grad():
                for tensor, value in zip(self.kept, before, strict=True):
                    tensor.copy_(value)
            self.rng.set_state(state)

    def begin(self) -> None:
        """Note every operation from here on."""
        self.operations, self.under_way = [], True
        self.__enter__()

    def end(self) -> Callable[[], None]:
        """What repeats them."""
        self.__exit__(None, None, None)
        self.under_way, operations = False, self.operations

        def replay() -> None:
            self.replays += 1
            with torch.no_grad(), torch.autocast("cpu", enabled=False):
                for function, args, kwargs, out in operations:
                    again = function(*args, **kwargs)
                    for place, value in zip(tree_leaves(out), tree_leaves(again), strict=True):
                        if isinstance(place, Tensor) and place.data_ptr() != value.data_ptr():
                            place.copy_(value)

        return replay

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in WAITS:
            raise RuntimeError(f"{func} waits for the device")
        out = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, out))
        return out
