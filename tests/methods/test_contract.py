"""What every method promises, and every variant that runs other code. Methods are found by listing the folder.

On a GPU: FASTAT_TEST_DEVICE=cuda python -m pytest tests/methods/test_contract.py
"""

import ast
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import methods
from fastat.config.recipe import Recipe, Schedule
from fastat.cost import passes
from fastat.cost.passes import count_passes, rehearse
from fastat.data import views
from fastat.features import n_features
from fastat.machine import devices
from fastat.networks import models
from fastat.training import captured, checkpoint
from fastat.training.checkpoint import Standing
from fastat.training.learner import SGDLearner
from fastat.types import Batch, Task, View
from tests import variants
from tests.tape import Tape

RECIPE = Recipe(epochs=30, batch_size=4, schedule=Schedule("piecewise", 0.01), weight_decay=5e-4)
HERE = Path(__file__).parent
DEVICE = torch.device(os.environ.get("FASTAT_TEST_DEVICE", "cpu"))
EXAMPLES = {  # what every method's test file says, for a method as FGSM-RS
    "CARD": '{"forward": 2, "input_backward": 1, "parameter_backward": 1}  # passes per batch, by its paper',
    "BATCHNORM_UPDATES": "2  # of the running statistics, by a batch that is not the first of its epoch",
}


@pytest.fixture(autouse=True)
def kernels_of_a_training():
    """cuDNN may otherwise take some that add up in another order every time."""
    devices.set_precision("float32")


def declared(name, constant, otherwise=None, folder=HERE):
    """A constant of the method's own test file; without `otherwise`, its absence fails with the line to write.

    name: METHOD, or METHOD/VARIANT, of which `VARIANTS` in that file says what is other.
    """
    method, _, variant = name.partition("/")
    path = folder / f"test_{method}.py"
    said = {
        ast.unparse(node.targets[0]): node.value
        for node in (ast.parse(path.read_text()).body if path.exists() else ())
        if isinstance(node, ast.Assign)
    }
    others = ast.literal_eval(said["VARIANTS"]).get(variant, {}) if "VARIANTS" in said else {}
    if constant in others:
        return others[constant]
    if constant in said:
        return ast.literal_eval(said[constant])
    if otherwise is None:
        pytest.fail(f"write into tests/methods/{path.name} the line\n{constant} = {EXAMPLES[constant]}", pytrace=False)
    return otherwise


def build(name, task, **params):
    """METHOD or METHOD/VARIANT, with what its test file says of a task as small as this: SMALL."""
    of_variant = variants.PARAMS.get(name, {})
    return methods.build(method_of(name), task, **of_variant | declared(name, "SMALL", {}) | params)


def method_of(name):
    return name.partition("/")[0]


def tiny(n_classes=10, n_channels=1, seed=0):
    """A task, a network of width 4 and a learner."""
    torch.manual_seed(seed)
    model = models.PreActResNet(4, (1, 1), 1, n_channels, n_classes).train().to(DEVICE)
    n_params = sum(p.numel() for p in model.parameters())
    shape, frame, rng = (n_channels, 8, 8), (n_channels, 10, 10), torch.Generator(DEVICE).manual_seed(seed)
    task = Task(0.1, 12, n_classes, shape, frame, 30, 4, 3, n_params, DEVICE, rng, n_features=n_features(model))
    return task, model, SGDLearner(model, RECIPE)


def batch_of(task, n=4, epoch=2, number=1):
    rng = torch.Generator().manual_seed(100 * epoch + number)
    x = torch.rand((n, *task.image_shape), generator=rng)
    y = torch.randint(task.n_classes, (n,), generator=rng)
    index = torch.randperm(12, generator=rng)[:n]
    view = views.draw(n, (2, 2), True, rng)
    x, y, index, *view = (tensor.to(DEVICE) for tensor in (x, y, index, *view))
    return Batch(x, y, index, View(*view), epoch, number)


def begin(name, task, model, learner, **params):
    method = build(name, task, **params)
    method.begin_epoch(model, learner, 1)
    return method


def global_generators():
    return [torch.random.get_rng_state(), *torch.cuda.get_rng_state_all()]


@pytest.fixture(params=[*methods.names(), *variants.PARAMS])
def name(request) -> str:
    """Each method, and each variant that runs other code."""
    return request.param


def test_passes_per_batch_are_what_the_method_declares_and_what_its_card_allows(name):
    task, model, learner = tiny()
    method, module = begin(name, task, model, learner), methods.module(method_of(name))

    def step(number):
        return lambda: method.train_batch(model, batch_of(task, number=number), learner)

    counted = count_passes(model, 4, [step(number) for number in range(getattr(module, "CYCLE", 1))])
    assert counted == pytest.approx(declared(name, "CARD"))
    assert passes.declared(module, 10, 4) == pytest.approx(declared(method_of(name), "CARD"))


def test_attack_stays_in_its_radius_and_in_the_pixel_range(name):
    task, model, learner = tiny()
    method = begin(name, task, model, learner)
    radius = getattr(method, "radius", task.eps)
    for epoch in (1, 2, 3):  # SubAT enters its subspace in epoch 3
        if epoch > 1:
            method.begin_epoch(model, learner, epoch)
        for number in range(3):
            batch = batch_of(task, epoch=epoch, number=number)
            x_adv = method.train_batch(model, batch, learner).x_adv
            assert (x_adv - batch.x).abs().max() <= radius + 1e-6  # float32 rounding
            assert getattr(method, "leaves_pixel_range", False) or (x_adv.min() >= 0 and x_adv.max() <= 1)
    assert (x_adv - batch.x).abs().max() > radius / 4 or radius == 0  # and it did attack


def test_modes_gradients_and_the_global_generator_are_left_as_found(name):
    task, model, learner = tiny()
    method = begin(name, task, model, learner)
    before = global_generators()
    report = method.train_batch(model, batch_of(task, number=0), learner)
    assert all(map(torch.equal, before, global_generators()))
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in [*model.parameters(), *method.parameters()])
    assert torch.isfinite(report.loss)


def test_method_and_network_share_no_tensor(name):
    task, model, learner = tiny()
    method = begin(name, task, model, learner)
    method.train_batch(model, batch_of(task), learner)
    theirs = {t.data_ptr() for t in model.state_dict().values()}
    assert not theirs & {t.data_ptr() for t in method.state_dict().values()}


def test_batchnorm_moves_as_declared(name):
    task, model, learner = tiny()
    method = begin(name, task, model, learner)
    method.train_batch(model, batch_of(task, number=1), learner)
    assert int(model.trunk[0].bn1.num_batches_tracked) == declared(name, "BATCHNORM_UPDATES")


@pytest.mark.parametrize("n_classes,n_channels", [(2, 1), (3, 3), (10, 3), (100, 1)])
def test_any_number_of_classes_and_channels_and_a_last_batch_of_one_image(name, n_classes, n_channels):
    task, model, learner = tiny(n_classes, n_channels)
    soft = {"s": 0.8} if n_classes == 2 and hasattr(methods.config_class(method_of(name)), "s") else {}
    method = begin(name, task, model, learner, **soft)
    for n, number in ((4, 0), (1, 1)):
        report = method.train_batch(model, batch_of(task, n=n, number=number), learner)
        assert torch.isfinite(report.loss) and report.x_adv.shape == (n, n_channels, 8, 8)


def test_resumed_at_any_cut_it_ends_bit_identically(name, tmp_path):
    resume_at_every_cut(name, RECIPE, tmp_path)


@pytest.mark.parametrize("name", ["nuat", "fgsm_pgk", "fgsm_law"])  # the last two set the decay themselves
def test_a_weight_average_resumes_too(name, tmp_path):
    resume_at_every_cut(name, replace(RECIPE, average=0.9), tmp_path)


def resume_at_every_cut(name, recipe, tmp_path):
    cuts = [(epoch, number) for epoch in (1, 2, 3) for number in range(3)]

    def fresh(seed):
        task, model, _ = tiny(seed=seed)
        return task, model, build(name, task), SGDLearner(model, recipe)

    def state(task, model, method, learner):
        parts = {"model": model, "method": method, "learner": learner}
        return {**{key: part.state_dict() for key, part in parts.items()}, "rng": {"rng": task.rng.get_state()}}

    def go_on(run, first, save=False):
        task, model, method, learner = run
        for epoch, number in cuts[first:]:
            if save:
                checkpoint.save(tmp_path / f"{epoch}{number}", state(*run), Standing(epoch, number), "test")
            if number == 0:
                method.begin_epoch(model, learner, epoch)
            learner.seek(epoch - 1 + number / 3)
            method.train_batch(model, batch_of(task, epoch=epoch, number=number), learner)
        return state(*run)

    expected = go_on(fresh(0), 0, save=True)
    for first, (epoch, number) in enumerate(cuts):
        task, model, method, learner = fresh(1)
        parts, standing = checkpoint.load(tmp_path / f"{epoch}{number}", "test")
        assert (standing.epoch, standing.batch) == (epoch, number)
        model.load_state_dict(parts["model"])
        method.load_state_dict(parts.get("method", {}))
        learner.load_state_dict(parts.get("learner", {}))
        task.rng.set_state(parts["rng"]["rng"].cpu())
        found = go_on((task, model, method, learner), first)
        for part, tensors in expected.items():
            for key, tensor in tensors.items():
                assert torch.equal(tensor, found[part][key]), (epoch, number, part, key)


def test_what_it_says_of_replaying_its_steps_holds(name):
    """An epoch of 24 batches is replayed from the step of an early one: by a CUDA graph, or on a CPU by a tape."""
    found = []
    for replays in (True, False):
        task, model, learner = tiny()
        method = build(name, replace(task, n_batches=24))
        if not getattr(method, "REPLAYABLE", False):
            pytest.skip(f"{name} promises nothing")
        method.begin_epoch(model, learner, 1)
        kept = [*model.state_dict().values(), *method.buffers(), *method.parameters()]
        graphs = captured.CudaGraphs(task.rng) if DEVICE.type == "cuda" else Tape(kept, task.rng)
        steps = captured.Steps(model, method, learner, graphs if replays else None, "on")
        steps(batch_of(task, epoch=1, number=0))
        method.begin_epoch(model, learner, 2)
        for number in range(24):
            learner.seek(1 + number / 24)
            report = steps(batch_of(task, number=number))
        assert steps.said == "on"
        parts = {"model": model.state_dict(), "method": method.state_dict(), "learner": learner.state_dict()}
        parts |= {"report": {"x_adv": report.x_adv, "loss": report.loss}, "rng": {"state": task.rng.get_state()}}
        found.append({f"{part}/{key}": t.cpu().clone() for part, state in parts.items() for key, t in state.items()})
    assert [key for key, tensor in found[0].items() if not torch.equal(tensor, found[1][key])] == []


def test_what_redraws_says_is_what_begin_epoch_does(name):
    task, model, learner = tiny()
    method = build(name, task)
    for epoch in range(1, task.n_epochs + 1) if hasattr(method, "redraws") else ():
        before = method.delta.delta.clone()
        method.begin_epoch(model, learner, epoch)
        assert torch.equal(before, method.delta.delta) != method.redraws(epoch), epoch


def test_no_step_waits_for_the_device_or_mixes_devices(name):
    """On `meta` there are no values to wait for: reading one, or a tensor left on the CPU, is an error."""
    with torch.device("meta"):
        model = models.build("preact_tiny", 3, 10)
    of_name = partial(methods.build, method_of(name), **variants.PARAMS.get(name, {}))
    one = rehearse(of_name, model, (3, 32, 32), pad=4, n_train=50_000)
    for number in (0, 1):
        one.step(number)()


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs FASTAT_TEST_DEVICE=cuda")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_no_step_waits_for_the_gpu(name):
    if why := declared(name, "WAITS", ""):
        pytest.skip(why)
    task, model, learner = tiny(n_channels=3)
    method = begin(name, task, model, learner)
    batches = [batch_of(task, number=number) for number in range(3)]
    try:
        torch.cuda.set_sync_debug_mode("error")
        for batch in batches:
            method.train_batch(model, batch, learner)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_unknown_parameters_are_refused_by_name(tiny_task):
    with pytest.raises(ValueError, match="no parameter 'alhpa'.*Known: alpha"):
        methods.build("fgsm_rs", tiny_task, alhpa=1)


@pytest.mark.parametrize("constant", EXAMPLES)
def test_a_method_without_a_test_file_or_constant_is_told_which_line_to_write_where(constant, tmp_path):
    for text in (None, "SMALL = {}\n"):
        if text:
            (tmp_path / "test_newone.py").write_text(text)
        with pytest.raises(pytest.fail.Exception, match=f"tests/methods/test_newone.py the line\n{constant} = "):
            declared("newone", constant, folder=tmp_path)
