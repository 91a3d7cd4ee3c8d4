"""Networks that are not ours, built through the door that a config names, and checked before anything is trained.

Any nn.Module of pixels in [0, 1] will do: (B, C, H, W) float32 -> logits (B, K). Whatever code of others raises, or
gives in place of what it should, becomes one sentence here. Which names and doors there are: fastat/config/networks.py.
"""

import copy
import difflib
import hashlib
import importlib
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from fastat.config.networks import Door, kind_of, shown
from fastat.errors import BadInput
from fastat.features import FEATURES, last_linear, logits_and_features, n_features
from fastat.machine.others import imported, in_a_sentence
from fastat.networks.models import CIFAR10, IMAGENET, Normalize

STATISTICS = {"imagenet": IMAGENET, "cifar10": CIFAR10}
APART = 0.001  # of the largest logit: an image's own, alone and in a batch, differ by rounding, which is far less


class Normalised(nn.Module):
    """A network behind (x - mean) / std. It has stem and trunk if the network has; the stem then normalises."""

    def __init__(self, network: nn.Module, normalize: Normalize):
        super().__init__()
        self.normalize, self.network = normalize, network

    @property
    def stem(self) -> nn.Module:
        """The network's, behind the normalisation."""
        return nn.Sequential(self.normalize, self.network.get_submodule("stem"))

    @property
    def trunk(self) -> nn.Module:
        """The network's."""
        return self.network.get_submodule("trunk")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, K)."""
        return self.network(self.normalize(x))


def build(door: Door, n_channels: int, n_classes: int) -> nn.Module:
    """A freshly initialised network on the CPU, drawn from the global generators.

    Raises: BadInput if it cannot be built.
    """
    with said(shown(door), "cannot be built", CALLED[kind_of(door)]):
        network = OPEN[kind_of(door)](door, n_channels, n_classes)
    if not isinstance(network, nn.Module):
        raise refusal(
            shown(door), f"it must be a torch.nn.Module, got {type(network).__name__}", "Return the network itself"
        )
    usual_layout(network)
    return normalised(network, door, n_channels)


def contiguous(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The batches in the usual layout: a hook, which a copy of the network may keep and pickle can name."""
    return tuple(arg.contiguous() if isinstance(arg, Tensor) else arg for arg in args)


def usual_layout(network: nn.Module) -> list[RemovableHandle]:
    """Let it see usual batches: they come in channels_last, where `x.view(len(x), -1)` in others' code would fail."""
    entered = [network, *(part for name, part in network.named_children() if name == "stem")]
    return [module.register_forward_pre_hook(contiguous) for module in entered]


def normalised(network: nn.Module, door: Door, n_channels: int) -> nn.Module:
    """The network behind the normalisation that its door states; itself, if that states none."""
    stated = door.get("normalise")
    if stated is None:
        return network
    if isinstance(stated, str):
        if n_channels not in (1, 3):
            way_out = "Write {mean: [...], std: [...]}, or normalise inside the network"
            raise refusal(shown(door), f"normalise: {stated} is of 3 channels, the images have {n_channels}", way_out)
        return Normalised(network, Normalize(n_channels, STATISTICS[stated]))
    mean, std = (tuple(map(float, stated[name])) for name in ("mean", "std"))
    if not len(mean) == len(std) == n_channels:
        found = f"got {len(mean)} and {len(std)}"
        raise refusal(
            shown(door), f"normalise: mean and std must have a number for each of {n_channels} channels, {found}"
        )
    return Normalised(network, Normalize(n_channels, (mean, std)))  # type: ignore[arg-type]


def by_factory(door: Door, n_channels: int, n_classes: int) -> Any:
    """What the door's function gives. Its module is looked for as `python -m` does: the current folder is first."""
    try:
        factory = imported(door["factory"])
    except BadInput as error:
        raise refusal(shown(door), str(error)) from error
    return factory(n_channels=n_channels, n_classes=n_classes, **door.get("args", {}))


def by_timm(door: Door, n_channels: int, n_classes: int) -> Any:
    """timm's network with random weights."""
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise refusal(shown(door), f"it needs {error.name}, which is not installed", "pip install timm") from error
    if not timm.is_model(door["timm"]):
        raise refusal(shown(door), unknown(door["timm"], timm.list_models()), "timm.list_models() has all")
    options = {"pretrained": False, "num_classes": n_classes, "in_chans": n_channels}
    return timm.create_model(door["timm"], **options, **door.get("args", {}))


def by_torchvision(door: Door, n_channels: int, n_classes: int) -> Any:
    """torchvision's network with random weights."""
    models = importlib.import_module("torchvision.models")
    if door["torchvision"] not in models.list_models():
        way_out = "torchvision.models.list_models() has all"
        raise refusal(shown(door), unknown(door["torchvision"], models.list_models()), way_out)
    if n_channels != 3:
        way_out = "Take one of timm's, or a factory of your own"
        raise refusal(shown(door), f"torchvision's networks read 3 channels, the images have {n_channels}", way_out)
    return models.get_model(door["torchvision"], weights=None, num_classes=n_classes, **door.get("args", {}))


CALLED = {  # what may be wrong with how it is called
    "factory": "It is called with n_channels, n_classes and what `args` in the config says",
    **dict.fromkeys(("timm", "torchvision"), "What it takes besides goes into `args` in the config, as {img_size: 8}"),
}
OPEN = {"factory": by_factory, "timm": by_timm, "torchvision": by_torchvision}


def unknown(name: str, known: list[str]) -> str:
    """`there is no network 'resnt18' there; the nearest are resnet18, resnet10t`: of more than can be listed."""
    near = difflib.get_close_matches(name, known)
    return f"there is no network {name!r} there" + (f"; the nearest are {', '.join(near)}" if near else "")


def source(door: Door) -> dict[str, str]:
    """What its code is, after it was built: the sha256 of the factory's file, or the library's version."""
    if kind_of(door) != "factory":
        return {kind_of(door): metadata.version(kind_of(door))}
    name = door["factory"].partition(":")[0]
    file = getattr(sys.modules.get(name), "__file__", None)
    return {name: hashlib.sha256(Path(file).read_bytes()).hexdigest()} if file and Path(file).is_file() else {}


def refusal(called: str, problem: str, way_out: str = "") -> BadInput:
    """`network mynets:small(width=16): it must be ..., got .... WAY OUT`. called: the network, as `shown` writes it."""
    return BadInput(f"network {called}: {problem}{f'. {way_out}' if way_out else ''}")


def said(called: str, problem: str, way_out: str = "") -> AbstractContextManager[None]:
    """Whatever the code of others raises inside, as one sentence.

    Raises: BadInput.
    """
    return in_a_sentence(f"network {called}", problem, way_out)


@dataclass(frozen=True)
class Demands:
    """What a training asks of a network besides logits."""

    method: str  # whose demands the next two are
    parts: tuple[str, ...] = ()  # NEEDS of the method: submodules (`stem` and `trunk` make up the network), or features
    twice: bool = False  # the gradient is differentiated again
    average: bool = False  # the network is copied
    batch_of_one: bool = False  # the last batch of an epoch has one image


def check(door: Door, shape: tuple[int, int, int], n_classes: int, demands: Demands) -> tuple[int, int]:
    """Try a network on two made-up images, in all that training and attacks do with one.

    shape: (C, H, W). The global generators are drawn from. Returns the numbers of its parameters and features.
    Raises: BadInput for the first rule that it breaks.
    """
    return tried(
        shown(door), build(door, shape[0], n_classes), build(door, shape[0], n_classes), shape, n_classes, demands
    )


def tried(
    called: str, network: nn.Module, again: nn.Module, shape: tuple[int, int, int], n_classes: int, demands: Demands
) -> tuple[int, int]:
    """`check`, of a network and another one of the same kind, both of which it alters.

    called: as errors name it.
    """
    check_state(called, network)
    x = made_up(shape)
    logits = check_eval(called, network.eval(), x, n_classes)
    with said(called, "the state_dict of one cannot be loaded into another", "Build the same network each time"):
        again.load_state_dict(network.state_dict())
        same = torch.allclose(again.eval()(x), logits, rtol=1e-4, atol=1e-5)
    if not same:
        way_out = "Make parameters or buffers (register_buffer) of all tensors that it computes with"
        raise refusal(
            called, "with the weights of another it gives other logits: its state_dict is not all of it", way_out
        )
    check_gradient(called, network, x, demands)
    check_parts(called, network, x, demands)
    if demands.average:
        with said(called, "the recipe keeps an average of its weights, and it cannot be copied"):
            copy.deepcopy(again)
    check_train(called, network.train(), x, n_classes, demands)
    return sum(p.numel() for p in again.parameters()), n_features(again)


def made_up(shape: tuple[int, int, int]) -> Tensor:
    """A dark image and a bright one, (2, C, H, W) in [0, 1] and in the layout of all batches."""
    x = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))
    x[0] *= 0.3
    return x.contiguous(memory_format=torch.channels_last)


def check_kept(called: str, network: nn.Module) -> None:
    """What it keeps: tensors, of a known size."""
    for name, value in network.state_dict().items():
        if not isinstance(value, Tensor):
            way_out = "Keep it in a buffer"
            raise refusal(called, f"its state_dict must hold tensors, got {type(value).__name__} ({name})", way_out)
        if is_lazy(value):
            way_out = "Write its size, in place of a Lazy layer"
            raise refusal(called, f"{name} has no size before an image is seen", way_out)


def check_state(called: str, network: nn.Module) -> None:
    """What it is made of: parameters that learn, in float32, on the CPU; nothing kept but tensors."""
    check_kept(called, network)
    parameters = dict(network.named_parameters())
    for name, p in parameters.items():
        if p.dtype != torch.float32:
            way_out = "Leave out .half() and .bfloat16(): `precision: bf16` in a recipe computes in half precision"
            raise refusal(called, f"its parameters must be float32, got {p.dtype} ({name})", way_out)
        if p.device.type != "cpu":
            way_out = "Leave out .cuda() and .to(): it is moved to the device that the config says"
            raise refusal(called, f"its parameters must be on the CPU, got {p.device} ({name})", way_out)
    if not any(p.requires_grad for p in parameters.values()):
        problem = "all its parameters are frozen (requires_grad is False)" if parameters else "it has no parameters"
        raise refusal(
            called, f"{problem}: nothing can be trained", "Hold them as nn.Parameter or in layers of torch.nn"
        )


def check_logits(called: str, logits: Any, n_images: int, n_classes: int, mode: str) -> None:
    """One finite float32 number an image and class."""
    if not isinstance(logits, Tensor):
        way_out = "Return the logits alone; auxiliary outputs often have an argument that leaves them out"
        raise refusal(called, f"it must give a tensor of logits, in {mode} mode got {type(logits).__name__}", way_out)
    if logits.shape != (n_images, n_classes):
        found = f"of {n_images} images, got {tuple(logits.shape)}"
        way_out = "Make its last layer as wide as n_classes says"
        raise refusal(called, f"its logits must be ({n_images}, {n_classes}) {found}", way_out)
    if logits.dtype != torch.float32:
        raise refusal(called, f"its logits must be float32, got {logits.dtype}", "Compute in float32")
    if not logits.isfinite().all():
        raise refusal(called, f"its logits must be numbers, in {mode} mode got {logits[~logits.isfinite()][0].item()}")


def check_eval(called: str, network: nn.Module, x: Tensor, n_classes: int) -> Tensor:
    """What attacks rely on: an image's logits follow from its pixels alone. Returns those of x."""
    seen = x.clone()
    with torch.no_grad(), said(called, f"it fails on images of shape {tuple(x.shape)}"):
        logits, repeated, one = network(x), network(x), network(x[:1])
    check_logits(called, logits, 2, n_classes, "eval")
    check_logits(called, one, 1, n_classes, "eval")
    if logits.min() >= 0 and torch.allclose(logits.sum(1), torch.ones(len(x)), atol=1e-4):
        way_out = "Leave out the softmax: the loss has its own, and attacks on probabilities find no gradient"
        raise refusal(called, "it gives probabilities in place of logits: they add up to 1 for each image", way_out)
    if not torch.equal(seen, x):
        raise refusal(called, "it changes the images that it is given", "Write x = x - mean in place of x -= mean")
    if not torch.equal(logits, repeated):
        way_out = "Let it draw in train mode alone, as nn.Dropout; a function takes training=self.training"
        raise refusal(called, "in eval mode it gives other logits for the same images", way_out)
    if (logits[:1] - one).abs().max() > APART * logits.abs().max():
        way_out = "Statistics over the batch belong into train mode"
        raise refusal(called, "in eval mode an image's logits depend on the others of its batch", way_out)
    return logits


def check_gradient(called: str, network: nn.Module, x: Tensor, demands: Demands) -> None:
    """The loss has a gradient to the pixels, and where the method asks for it, that one has one to the weights."""
    leaf, y = x.clone().requires_grad_(), torch.zeros(len(x), dtype=torch.int64)
    with said(called, "its loss has no gradient to the pixels"):
        logits = network(leaf)
        (grad,) = torch.autograd.grad(cross_entropy(logits, y), leaf, allow_unused=True, create_graph=demands.twice)
    way_out = "Leave out detach(), no_grad() and rounding: attacks climb along this gradient"
    if grad is None:
        raise refusal(called, "its loss has no gradient to the pixels", way_out)
    if not grad.isfinite().all():
        raise refusal(called, f"its gradient must be of numbers, got {grad[~grad.isfinite()][0].item()}")
    if not grad.any() and not torch.equal(logits[0], logits[1]):
        raise refusal(called, "its gradient to the pixels is zero though its logits depend on them", way_out)
    if demands.twice:
        problem, way_out = f"{demands.method} differentiates its gradient, which fails", "Train it by another method"
        learning = [p for p in network.parameters() if p.requires_grad]
        with said(called, problem, way_out):
            found = torch.autograd.grad((grad * x).sum(), learning, allow_unused=True)
        if not any(one is not None and one.any() for one in found):
            raise refusal(called, f"{problem}: no weight moves it", way_out)


def check_parts(called: str, network: nn.Module, x: Tensor, demands: Demands) -> None:
    """The parts that the method treats by themselves."""
    way_out = "Write it as forward(x) = trunk(stem(x)), or train it by another method"
    modules = [name for name in demands.parts if name != FEATURES]
    absent = [name for name in modules if not isinstance(getattr(network, name, None), nn.Module)]
    if absent:
        needs = f"{demands.method} needs {' and '.join(modules)} of a network"
        raise refusal(called, f"{needs}, and it has no {' and no '.join(absent)}", way_out)
    if {"stem", "trunk"} <= {*demands.parts}:
        with torch.no_grad(), said(called, "trunk(stem(x)) fails", way_out):
            same = torch.allclose(network.trunk(network.stem(x)), network(x), rtol=1e-4, atol=1e-5)  # type: ignore
        if not same:
            raise refusal(called, f"{demands.method} needs forward(x) = trunk(stem(x)), and it gives others", way_out)
    if FEATURES in demands.parts:
        check_features(called, network, x, demands.method)


def check_features(called: str, network: nn.Module, x: Tensor, method: str) -> None:
    """The last nn.Linear gives the logits."""
    needs = f"{method} needs the features that the last nn.Linear reads"
    way_out = "Let an nn.Linear, the last one, give the logits, or train it by another method"
    layer = last_linear(network)
    if layer is None:
        raise refusal(called, f"{needs}, and it has none", way_out)
    problem = f"{needs}, and its logits come from elsewhere"
    with torch.no_grad(), said(called, problem, way_out):
        logits, features = logits_and_features(network, x)
        same = torch.allclose(layer(features), logits, rtol=1e-4, atol=1e-5)
    if not same:
        raise refusal(called, problem, way_out)


def check_train(called: str, network: nn.Module, x: Tensor, n_classes: int, demands: Demands) -> None:
    """A step of the weights, on as many images as the last batch has at least."""
    with said(called, "it fails in train mode"):
        logits = network(x)
    check_logits(called, logits, 2, n_classes, "train")
    with said(called, "its loss has no gradient to its parameters"):
        cross_entropy(logits, torch.zeros(2, dtype=torch.int64)).backward()
    if demands.batch_of_one:
        way_out = "Set `drop_last: true` in its recipe"
        with said(called, "it fails in train mode on one image, as the last batch of an epoch has", way_out):
            network(x[:1])
