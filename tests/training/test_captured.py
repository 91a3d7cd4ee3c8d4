"""Steps that are recorded and replayed: on a CPU, with a tape for a CUDA graph, to the bits of those that are not."""

import json
import os
import signal
import sys
import warnings
import weakref
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._pytree import tree_leaves

import fastat
import methods
from fastat.config.recipe import Recipe, Schedule
from fastat.machine.processes import ALONE, Processes
from fastat.networks import models
from fastat.training import captured, trainer
from fastat.types import StepReport
from methods import fgsm_rs
from tests.tape import Tape

N, BATCH = 76, 8  # ten batches in an epoch, the last one of four images
REPLAYED = [name for name in methods.ours() if getattr(methods.module(name).Method, "REPLAYABLE", False)]
SDI = {"params": {"generator_every": 4}}
FIELDS = {"fgsm_sdi": SDI, "atas_sdi": SDI}
FIELDS["tdat"] = {"params": {"s_min": 0.6}}  # of three classes
FIELDS["subat"] = {"params": {"sampling_epochs": 2, "per_epoch": 2, "n_components": 3}, "weight_decay_epochs": 2}


@pytest.fixture
def tapes(monkeypatch) -> list[Tape]:
    """Every training gets a tape, as if it ran on CUDA."""
    made = []

    def steps(wanted, recipe, task, model, method, learner):
        assert wanted == "auto"  # what nobody changed
        if reason := captured.why_plain(recipe, task, model, method):
            return captured.Steps(model, method, learner, None, f"off: {reason}")
        made.append(Tape([*model.state_dict().values(), *method.buffers(), *method.parameters()], task.rng))
        return captured.Steps(model, method, learner, made[-1], "on")

    monkeypatch.setattr(captured, "steps", steps)
    return made


def train(name, network="preact_tiny", epochs=4, folder=None, **recipe):
    """The weights, and the log without its times."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randint(256, (N, 1, 8, 8), generator=rng, dtype=torch.uint8), torch.arange(N) % 3
    fields = {"batch_size": BATCH, "drop_last": False, "pad": 1, "flip": True, "monitor_images": 16}
    fields |= {"schedule": {"kind": "triangular", "lr": 0.1, "cycle_momentum": True}} | FIELDS.get(name, {}) | recipe
    model, rows = fastat.train(name, x, y, network, eps=0.1, epochs=epochs, device="cpu", folder=folder, **fields)
    timed = ("seconds", "images_per_s", "peak_memory_mb")
    return model.state_dict(), [{k: v for k, v in row.items() if k not in timed} for row in rows]


def plainly(monkeypatch, *args, **fields):
    """`train`, as on a CPU."""
    with monkeypatch.context() as patch:
        patch.setattr(captured, "steps", lambda *given: captured.Steps(*given[3:], None, ""))
        return train(*args, **fields)


def assert_same(one, other):
    (weights, rows), (others, their_rows) = one, other
    assert rows == their_rows
    assert [key for key, tensor in weights.items() if not torch.equal(tensor, others[key])] == []


@pytest.mark.parametrize("name", REPLAYED)
def test_replayed_a_training_ends_with_the_same_bits(name, tapes, monkeypatch):
    found = train(name)
    differ = {"fgsm_sdi": 3, "atas_sdi": 3, "gat": 4, "liet": 1}.get(name, 0)
    plain = differ + captured.WARM_UP + 1  # and the last batch, of four images
    parts = {"freeat": 9}.get(name, 2)
    kept = 2 * 2 - 2 if name == "subat" else 0  # of its four steps that differ two are the last ones of an epoch
    assert (tapes[0].recordings, tapes[0].replays) == (4, parts * (4 * (10 - plain) - kept))
    assert_same(found, plainly(monkeypatch, name))


@pytest.mark.parametrize(
    "recipe",
    [
        {"precision": "bf16"},
        {"average": 0.9},
        {"schedule": {"kind": "piecewise", "lr": 0.1, "milestones": [1, 2.5]}, "weight_decay_epochs": 1},
        {"drop_last": True},
    ],
    ids=str,
)
def test_whatever_the_learner_does_between_the_parts_is_done(recipe, tapes, monkeypatch):
    assert_same(train("atas", **recipe), plainly(monkeypatch, "atas", **recipe))
    assert tapes[0].replays > 0


def test_parts_in_bf16_each_see_the_weights_as_the_last_one_left_them(tapes, monkeypatch):
    assert_same(train("freeat", precision="bf16"), plainly(monkeypatch, "freeat", precision="bf16"))
    assert tapes[0].replays > 0


@pytest.mark.parametrize("at", [2, 5, 9, 10, 14])
def test_stopped_by_a_signal_and_resumed_it_ends_with_the_same_bits(at, tapes, monkeypatch, tmp_path):
    n_batches, add = 0, trainer.Totals.add

    def stopping(self, report, n):
        nonlocal n_batches
        n_batches += 1
        if n_batches == at:
            os.kill(os.getpid(), signal.SIGTERM)
        add(self, report, n)

    monkeypatch.setattr(trainer.Totals, "add", stopping)
    with pytest.raises(trainer.Stopped):
        train("atas_pgi", folder=tmp_path)
    found = train("atas_pgi", folder=tmp_path)
    assert len(tapes) == 2 and tapes[1].replays > 0
    assert json.loads((tmp_path / "run.json").read_text())["cuda_graphs"] == "on"
    assert_same(found, plainly(monkeypatch, "atas_pgi"))


class Follows(fgsm_rs.Method):
    """It sets the decay of the average, anew in every batch."""

    def train_batch(self, model, batch, learner):
        loss = cross_entropy(model(batch.x), batch.y)
        learner.descend(loss, torch.exp(-loss.detach()))
        return StepReport(loss, batch.x)


def test_the_averages_decay_is_that_of_the_batch_and_not_of_the_recorded_one(tapes, monkeypatch):
    monkeypatch.setattr(fgsm_rs, "Method", Follows)
    found = train("fgsm_rs", average=0.9)
    assert tapes[0].replays > 0
    assert_same(found, plainly(monkeypatch, "fgsm_rs", average=0.9))


class Waits(fgsm_rs.Method):
    """It asks the device something in the middle of its step."""

    def train_batch(self, model, batch, learner):
        report = super().train_batch(model, batch, learner)
        assert bool(torch.isfinite(report.loss))
        return report


class Restarts(fgsm_rs.Method):
    """It forgets the momentum in every step."""

    def train_batch(self, model, batch, learner):
        learner.restart()
        return super().train_batch(model, batch, learner)


class Hoards(fgsm_rs.Method):
    """It leaves a gradient for the next batch."""

    def train_batch(self, model, batch, learner):
        report = super().train_batch(model, batch, learner)
        learner.accumulate(model(batch.x).square().mean())
        return report


@pytest.mark.parametrize(
    ("kind", "why"), [(Waits, "waits for the device"), (Restarts, "restarts the learner"), (Hoards, "leaves gradients")]
)
def test_what_cannot_be_recorded_goes_on_plainly_and_says_why_once(kind, why, tapes, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(fgsm_rs, "Method", kind)
    found = train("fgsm_rs", epochs=2, folder=tmp_path)
    assert why in json.loads((tmp_path / "run.json").read_text())["cuda_graphs"]
    assert (tapes[0].recordings, tapes[0].replays) == (0, 0)
    said = [record.message for record in caplog.records if "CUDA graphs" in record.message]
    assert len(said) == 1 and why in said[0]
    assert_same(found, plainly(monkeypatch, "fgsm_rs", epochs=2))


class Uncomputed(Tape):
    """As on CUDA, what is recorded computes nothing: its results hold whatever lay in memory."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = super().__torch_dispatch__(func, types, args, kwargs)
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
                leaf.fill_(torch.nan)
        return out


class RestartsLate(fgsm_rs.Method):
    """It forgets the momentum after a forward pass, of whose weights autocast keeps copies."""

    def train_batch(self, model, batch, learner):
        model(batch.x)
        learner.restart()
        return super().train_batch(model, batch, learner)


def test_after_a_recording_that_failed_no_step_in_bf16_uses_weights_that_it_never_computed(tapes, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "Tape", Uncomputed)
    monkeypatch.setattr(fgsm_rs, "Method", RestartsLate)
    found = train("fgsm_rs", epochs=2, precision="bf16")
    assert (len(tapes), tapes[0].replays) == (1, 0)
    assert_same(found, plainly(monkeypatch, "fgsm_rs", epochs=2, precision="bf16"))


def test_a_method_that_promises_nothing_is_never_recorded(tapes, monkeypatch):
    monkeypatch.delattr(fgsm_rs.Method, "REPLAYABLE")
    train("fgsm_rs", epochs=1)
    assert tapes == []


def reason(tiny_task, model, recipe=None, **task):
    recipe = recipe or Recipe(4, BATCH, Schedule("piecewise", 0.1), 0.0)
    return captured.why_plain(recipe, replace(tiny_task, **task), model, methods.build("fgsm_rs", tiny_task))


def test_what_may_hang_on_the_host_is_never_recorded(tiny_task, tiny_model):
    assert reason(tiny_task, tiny_model) == ""
    assert "several processes" in reason(tiny_task, tiny_model, processes=Processes(0, 2))
    assert "compiled" in reason(tiny_task, tiny_model, Recipe(4, 8, Schedule("piecewise", 0.1), 0.0, compile="default"))
    assert "none of ours" in reason(tiny_task, torch.nn.Sequential(tiny_model))
    dropping = models.Network(tiny_model.stem, torch.nn.Sequential(torch.nn.Dropout(0.1)), models.SHARED)
    assert "dropout" in reason(tiny_task, dropping)
    assert "an epoch is over" in reason(tiny_task, tiny_model, n_batches=captured.WARM_UP)
    assert reason(tiny_task, tiny_model, n_batches=captured.WARM_UP + 1) == ""
    assert reason(tiny_task, tiny_model, processes=ALONE) == ""


def test_on_a_cpu_run_json_says_nothing_of_graphs(tiny_task, tiny_model):
    recipe = Recipe(4, BATCH, Schedule("piecewise", 0.1), 0.0)
    steps = captured.steps("auto", recipe, tiny_task, tiny_model, methods.build("fgsm_rs", tiny_task), None)
    assert steps.graphs is None and steps.about() == {}


class Drawing:
    """A generator as torch's are on CUDA, whose state a failed capture would leave unfit to draw."""

    device = torch.device("cuda", 0)

    def __init__(self, _device=None):
        self.state = 7

    def get_state(self):
        return self.state

    def set_state(self, state):
        self.state = state

    def graphsafe_set_state(self, other):
        self.state, self.renewed = other.state, True


@pytest.fixture
def said(monkeypatch):
    """What torch.cuda is told; capturing takes nothing and warns as torch does."""
    told = []

    class Graph:
        def register_generator_state(self, rng):
            told.append(("draws from", rng))

        def capture_begin(self, pool, capture_error_mode):
            told.append(("begin", pool, capture_error_mode))

        def capture_end(self):
            warnings.warn("The CUDA Graph is empty. This usually means ...", stacklevel=1)
            told.append("end")

        def replay(self):
            told.append("replay")

    cuda = torch.cuda
    monkeypatch.setattr(cuda, "Stream", lambda device: SimpleNamespace(device=device))
    monkeypatch.setattr(cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(cuda, "default_generators", (Drawing(),), raising=False)
    monkeypatch.setattr(cuda, "synchronize", lambda device: told.append("synchronize"))
    monkeypatch.setattr(cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch, "Generator", Drawing)
    return told


def test_parts_are_captured_in_one_pool_and_replayed_by_their_graphs(said):
    rng = Drawing()
    graphs = captured.CudaGraphs(rng)
    with graphs.recording():
        for _ in range(2):
            graphs.begin()
            replay = graphs.end()
    part = [("draws from", rng), ("begin", "pool", "thread_local"), "end"]
    assert said == ["synchronize", *part, *part, "synchronize"]
    replay()
    assert said[-1] == "replay" and not hasattr(rng, "renewed")


def test_the_memory_of_a_recording_goes_with_its_replays(said):
    graphs = captured.CudaGraphs(Drawing())
    with graphs.recording():
        graphs.begin()
        replay, graph = graphs.end(), weakref.ref(graphs.graph)
    assert graph() is not None
    del replay
    assert graph() is None


def test_after_a_capture_that_failed_generators_are_as_they_were(said):
    rng = Drawing()
    graphs = captured.CudaGraphs(rng)
    with pytest.raises(RuntimeError, match="CUDA error"), graphs.recording():
        graphs.begin()
        rng.state = 1
        raise RuntimeError("CUDA error")
    assert said[-1] == "end" and (rng.state, rng.renewed, torch.cuda.default_generators[0].renewed) == (7, True, True)


def test_a_device_without_a_number_is_the_current_one(said, monkeypatch):
    rng, default = Drawing(), Drawing()
    rng.device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "default_generators", (Drawing(), default))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert captured.CudaGraphs(rng).generators == [rng, default]


def test_never_is_never_and_said_in_run_json():
    task = SimpleNamespace(device=torch.device("cuda"))
    plain = captured.steps("never", None, task, None, None, None)
    assert plain.graphs is None and plain.about() == {"cuda_graphs": "off: as asked"}
