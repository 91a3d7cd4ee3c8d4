"""A method's step as CUDA graphs: recorded once an epoch, then replayed for its other batches, to the same bits.

A graph is the kernels of a step and where their tensors lie: no Python runs at a replay. So each batch is copied to
where the recorded one lies, and what a step reads from the host must be the same all epoch long: `Method.REPLAYABLE`.
Learning rate and momentum are numbers of the host that change with every batch: `learner.apply` is part of no graph,
but cuts the step into parts and is called between their replays, as it ever was.

Nothing is trained twice: recording computes nothing, and a step that was recorded is then replayed for its own batch.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from fastat.config.recipe import Recipe
from fastat.errors import BadInput
from fastat.networks.models import Network
from fastat.training.learner import SGDLearner
from fastat.types import Batch, Method, StepReport, Task, View, differs

log = logging.getLogger(__name__)
WARM_UP = 2  # batches of an epoch before one is recorded: what libraries make ready at a first call is then ready


class Graphs(Protocol):
    """What records parts of a step: `CudaGraphs`, or on a CPU the tape of the tests."""

    def recording(self) -> AbstractContextManager[None]:
        """Around the parts of one step. A RuntimeError leaves it with every generator as it was before."""

    def begin(self) -> None:
        """A part begins: from here on nothing is computed."""

    def end(self) -> Callable[[], None]:
        """It ends. Returns what replays it."""


class CudaGraphs:
    """torch.cuda.CUDAGraph, one a part. The parts share their memory: they are replayed in the order of recording."""

    def __init__(self, rng: torch.Generator):
        self.stream = torch.cuda.Stream(rng.device)
        index = rng.device.index  # None: of a device that is called `cuda` alone
        default = torch.cuda.default_generators[torch.cuda.current_device() if index is None else index]
        self.generators = [rng, default]
        self.graph: torch.cuda.CUDAGraph | None = None  # of the part that is being recorded

    @contextmanager
    def recording(self) -> Iterator[None]:
        """On a stream of its own. After a recording that failed, torch's generators would refuse to draw: renewed."""
        device, before = self.stream.device, [rng.get_state() for rng in self.generators]
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        self.pool = torch.cuda.graph_pool_handle()
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The CUDA Graph is empty")  # nothing may follow the last `apply`
            try:
                yield
            except RuntimeError:
                with suppress(RuntimeError):  # the same one again
                    self.end()
                for rng, state in zip(self.generators, before, strict=True):
                    fresh = torch.Generator(device)
                    fresh.set_state(state)
                    rng.graphsafe_set_state(fresh)
                raise
            finally:
                self.graph = None  # it would hold the parts' memory beyond their replays
        torch.cuda.synchronize(device)

    def begin(self) -> None:
        """Only what this thread calls must be fit for a graph: others may be reading images."""
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(self.generators[0])
        self.graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")

    def end(self) -> Callable[[], None]:
        """The replay draws from `rng` what the step would have drawn, and moves it as far."""
        assert self.graph is not None
        self.graph.capture_end()
        return self.graph.replay


class Part(NamedTuple):
    """What lies between two `apply`, and what it leaves for the second one, each in its place for good."""

    replay: Callable[[], None]
    grads: list[Tensor | None]
    decay: Tensor | None  # of the average


class Recorder:
    """A learner that records: what lies between two `apply` becomes a part."""

    def __init__(self, learner: SGDLearner, graphs: Graphs):
        self.learner, self.graphs, self.average_decay = learner, graphs, learner.average_decay
        self.parts: list[Part] = []

    def descend(self, loss: Tensor, decay: Tensor | None = None) -> None:
        """As the learner's, in two parts."""
        self.accumulate(loss)
        self.apply(decay)

    def accumulate(self, loss: Tensor, inputs: tuple[Tensor, ...] = ()) -> None:
        """The learner's own."""
        self.learner.accumulate(loss, inputs)

    def apply(self, decay: Tensor | None = None) -> None:
        """Here a part ends and the next one begins, with nothing that autocast kept of the weights."""
        self.cut(decay)
        torch.clear_autocast_cache()
        self.graphs.begin()

    def restart(self) -> None:
        """Raises: RuntimeError: in a graph it would do nothing."""
        raise RuntimeError("the method restarts the learner within a step")

    def cut(self, decay: Tensor | None = None) -> None:
        """End the part."""
        replay = self.graphs.end()
        model = self.learner.model
        self.parts.append(Part(replay, [p.grad for p in model.parameters()], decay))
        model.zero_grad(set_to_none=True)


@dataclass(frozen=True)
class Recorded:
    """One step: its parts, the batch that they read and the report that they fill, each in its place for good."""

    parts: list[Part]
    batch: Batch
    report: StepReport
    learner: SGDLearner

    def fits(self, batch: Batch) -> bool:
        """Whether it can be replayed for a batch of such a size."""
        return batch.x.shape == self.batch.x.shape

    def replay(self, batch: Batch) -> StepReport:
        """Train on the batch. The report holds until the next replay."""
        for place, tensor in zip(tensors(self.batch), tensors(batch), strict=True):
            place.copy_(tensor)
        *others, last = self.parts
        for part in others:
            part.replay()
            set_gradients(self.learner.model, part.grads)
            self.learner.apply(part.decay)
        last.replay()
        return self.report


class Steps:
    """The steps of a training: as the method takes them, or replayed where that is the same."""

    def __init__(self, model: nn.Module, method: Method, learner: SGDLearner, graphs: Graphs | None, said: str):
        self.model, self.method, self.learner, self.graphs, self.said = model, method, learner, graphs, said
        self.forget()

    def about(self) -> dict[str, str]:
        """What run.json says of it; on a CPU nothing."""
        return {"cuda_graphs": self.said} if self.said else {}

    def forget(self) -> None:
        """At the end of an epoch: the next may take other steps. Frees the memory of what was recorded."""
        self.recorded: Recorded | None = None
        self.still_plain = WARM_UP

    def __call__(self, batch: Batch) -> StepReport:
        """Train on the batch."""
        if self.graphs is None or differs(self.method, batch):
            return self.plain(batch)
        if self.recorded is not None and not self.recorded.fits(batch):
            self.forget()
        if self.recorded is None and self.still_plain:
            self.still_plain -= 1
            return self.plain(batch)
        if self.recorded is None:
            self.recorded = self.record(batch, self.graphs)
        return self.plain(batch) if self.recorded is None else self.recorded.replay(batch)

    def plain(self, batch: Batch) -> StepReport:
        """As the method takes it."""
        return detached(self.method.train_batch(self.model, batch, self.learner))

    def record(self, batch: Batch, graphs: Graphs) -> Recorded | None:
        """The step on such a batch; None if it cannot be recorded, which is not tried again."""
        batch, recorder = in_its_place(batch), Recorder(self.learner, graphs)
        grads = [p.grad for p in self.model.parameters()]
        try:
            if any(grad is not None for grad in grads):
                raise RuntimeError("the method leaves gradients for the next batch")
            with graphs.recording():
                graphs.begin()
                report = detached(self.method.train_batch(self.model, batch, recorder))
                recorder.cut()
        except RuntimeError as error:  # whatever a driver, a library or a full memory says
            set_gradients(self.model, grads)
            torch.clear_autocast_cache()  # of bf16 copies of the weights, which were recorded and never computed
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self.graphs, self.said = None, f"off: {reason}"
            log.warning("no CUDA graphs (%s): the training goes on without", reason)
            return None
        return Recorded(recorder.parts, batch, report, self.learner)


def steps(wanted: str, recipe: Recipe, task: Task, model: nn.Module, method: Method, learner: SGDLearner) -> Steps:
    """The steps of a training. wanted: auto, which replays them where that is safe, or never."""
    if task.device.type != "cuda":
        return Steps(model, method, learner, None, "")
    reason = "as asked" if wanted == "never" else why_plain(recipe, task, model, method)
    if reason:
        log.info("no CUDA graphs: %s", reason)
        return Steps(model, method, learner, None, f"off: {reason}")
    assert task.rng is not None
    return Steps(model, method, learner, CudaGraphs(task.rng), "on")


def why_plain(recipe: Recipe, task: Task, model: nn.Module, method: Method) -> str:
    """Why steps must not be replayed; '' if they may."""
    reasons = {
        "the method does not say that its steps can be replayed": not getattr(method, "REPLAYABLE", False),
        "several processes share the training": task.processes.size > 1,
        "the network is compiled": recipe.compile != "off",
        "the network is none of ours": not isinstance(model, Network),
        "an epoch is over before one is recorded": task.n_batches <= WARM_UP,
        "its dropout draws anew": any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules()),
    }
    return next((words for words, holds in reasons.items() if holds), "")


def set_gradients(model: nn.Module, grads: list[Tensor | None]) -> None:
    """What the next `apply` will use."""
    for p, grad in zip(model.parameters(), grads, strict=True):
        p.grad = grad


def tensors(batch: Batch) -> list[Tensor]:
    """All of a batch."""
    return [batch.x, batch.y, batch.index, *batch.view]


def in_its_place(batch: Batch) -> Batch:
    """A copy, to which later batches are copied."""
    x, y, index, *view = (tensor.clone() for tensor in tensors(batch))
    return replace(batch, x=x, y=y, index=index, view=View(*view))


def detached(report: StepReport) -> StepReport:
    """Without what autograd kept, whose nodes would belong to another stream than a recording's.

    Raises: BadInput if it is no report.
    """
    if not isinstance(report, StepReport):
        raise BadInput(f"train_batch must return a StepReport, got {type(report).__name__}. See docs/own-method.md")
    return StepReport(
        report.loss.detach(),
        report.x_adv.detach(),
        {name: value.detach() for name, value in report.stats.items()},
        None if report.grad is None else report.grad.detach(),
        None if report.alpha is None else report.alpha.detach(),
    )
