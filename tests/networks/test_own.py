"""Networks that are not ours: what is built, and every way in which one is refused before anything is trained."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fastat.errors import BadInput
from fastat.features import logits_and_features
from fastat.networks import own
from fastat.networks.own import Demands, build, check

CODE = '''
import torch
from torch import nn
from torch.nn.functional import dropout


def small(n_channels, n_classes, width=6):
    return nn.Sequential(
        nn.Conv2d(n_channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(),
        nn.Linear(width * 16, n_classes),
    )


class Parts(nn.Module):
    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.stem = nn.Conv2d(n_channels, 6, 3, 1, 1)
        self.trunk = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, n_classes))

    def forward(self, x):
        return self.trunk(self.stem(x))


class Viewing(Parts):
    def forward(self, x):
        return self.trunk[2](torch.relu(self.stem(x)).view(len(x), -1))


class StemAlone(Viewing):
    def __init__(self, n_channels, n_classes):
        super().__init__(n_channels, n_classes)
        self.rest, self.trunk = self.trunk, None

    def forward(self, x):
        return self.rest(self.stem(x))


class OtherTrunk(Parts):
    def forward(self, x):
        return self.trunk(torch.relu(-self.stem(x)))


class Convolutional(Parts):
    def __init__(self, n_channels, n_classes):
        super().__init__(n_channels, n_classes)
        self.trunk = nn.Sequential(nn.Conv2d(6, n_classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Auxiliary(Parts):
    """Its last linear layer gives no logits."""

    def __init__(self, n_channels, n_classes, used=True):
        super().__init__(n_channels, n_classes)
        self.beside, self.used = nn.Linear(6 * 64, n_classes), used

    def forward(self, x):
        maps = self.stem(x)
        return self.trunk(maps) + (0.1 * self.beside(maps.flatten(1)) if self.used else 0)


class Tied(nn.Module):
    def __init__(self, n_channels, n_classes):
        super().__init__()
        n = 64 * n_channels
        self.first, self.second, self.last = nn.Linear(n, n), nn.Linear(n, n), nn.Linear(n, n_classes)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.last(self.second(self.first(x.flatten(1)).relu()).relu())


class Frozen(Parts):
    def __init__(self, n_channels, n_classes, every=False):
        super().__init__(n_channels, n_classes)
        self.unused = nn.Parameter(torch.ones(3))
        for p in self.parameters() if every else self.stem.parameters():
            p.requires_grad_(False)


class OfThree(Parts):  # width is nothing that it knows
    pass


def raising(n_channels, n_classes):
    raise RuntimeError("two\\nlines")


def leaving(n_channels, n_classes):
    raise SystemExit(3)


def nothing(n_channels, n_classes):
    return None


def half(n_channels, n_classes):
    return small(n_channels, n_classes).half()


def lazy(n_channels, n_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(n_classes))


def elsewhere(n_channels, n_classes):
    return small(n_channels, n_classes).to("meta")


def wide(n_channels, n_classes):
    return small(n_channels, n_classes + 1)


def growing(n_channels, n_classes, built=[]):
    built.append(1)
    return small(n_channels, n_classes, 6 + len(built))


class Forward(Parts):
    """Whose forward is one of those below."""

    def __init__(self, n_channels, n_classes, kind):
        super().__init__(n_channels, n_classes)
        self.kind, self.plain = kind, torch.randn(n_classes)
        if kind == "two in training":
            self.norm = nn.BatchNorm1d(n_classes)

    def forward(self, x):
        return getattr(self, self.kind.replace(" ", "_"))(x)

    def maps(self, x): return self.stem(x)
    def pair(self, x): return super().forward(x), x
    def pair_in_training(self, x): return self.pair(x) if self.training else super().forward(x)
    def no_number(self, x): return super().forward(x) / 0
    def no_number_in_training(self, x): return super().forward(x) * (float("nan") if self.training else 1)
    def doubled(self, x): return super().forward(x).double()
    def probable(self, x): return super().forward(x).softmax(1)
    def in_place(self, x): return super().forward(x.mul_(0.5))
    def drawing(self, x): return dropout(super().forward(x), 0.5)
    def coupled(self, x): return super().forward(x - x.mean())
    def detached(self, x): return super().forward(x.detach())
    def rounded(self, x): return super().forward(x.round())
    def infinite(self, x): return super().forward(x) + (x.flatten(1)[:, :1] * 0).sqrt()
    def unkept(self, x): return super().forward(x) + self.plain
    def once(self, x): return super().forward(Once.apply(x))
    def two_in_training(self, x): return self.norm(super().forward(x))
    def failing(self, x): raise KeyError("what")
    def failing_in_training(self, x): return self.failing(x) if self.training else super().forward(x)
    def no_learning(self, x):
        with torch.set_grad_enabled(not self.training):
            return super().forward(x)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad


class Extra(Parts):
    def get_extra_state(self):
        return {"epoch": 3}

    def set_extra_state(self, state):
        pass


class Alone(Parts):
    def __init__(self, n_channels, n_classes):
        super().__init__(n_channels, n_classes)
        self.last = self.stem.weight * 2  # a tensor with a history, which cannot be copied


number = 3
'''  # fmt: skip
SHAPE = (1, 8, 8)
PLAIN = Demands("")


@pytest.fixture(autouse=True)
def mynets(tmp_path, monkeypatch) -> Path:
    """A module of networks in the folder where the test starts."""
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    (tmp_path / "mynets.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n")
    importlib.invalidate_caches()
    for name in ("mynets", "broken"):
        sys.modules.pop(name, None)
    return tmp_path / "mynets.py"


def factory(name: str, **args) -> dict:
    return {"factory": f"mynets:{name}", **({"args": args} if args else {})}


def forward(kind: str) -> dict:
    return factory("Forward", kind=kind)


BAD = [
    ({"factory": "nowhere:small"}, "there is no module nowhere. Put it into the folder where you start"),
    ({"factory": "mynets.deep:small"}, "there is no module mynets.deep"),
    ({"factory": "broken:small"}, "ModuleNotFoundError: No module named 'nowhere_to_be_found' .broken.py:1"),
    (factory("smal"), r"mynets has no 'smal'. Did you mean 'small'\?"),
    (factory("Parts.smal"), "mynets has no 'smal'"),
    (factory("number"), "number must be a function or class, got int"),
    (factory("OfThree", width=3), r"TypeError: OfThree.__init__\(\)|TypeError: Parts.__init__"),
    (factory("raising"), r"cannot be built: RuntimeError: two lines \(mynets.py:\d+\)"),
    (factory("leaving"), "cannot be built: SystemExit: 3"),
    (factory("nothing"), "it must be a torch.nn.Module, got NoneType"),
    (forward("probable"), "it gives probabilities in place of logits: they add up to 1 for each image. Leave out"),
    (factory("half"), r"its parameters must be float32, got torch.float16 \(0.weight\). Leave out .half"),
    (factory("lazy"), "1.weight has no size before an image is seen"),
    (factory("elsewhere"), "its parameters must be on the CPU, got meta"),
    ({"factory": "torch.nn:Flatten"}, "Flatten.__init__"),
    ({"factory": "builtins:dict"}, "it must be a torch.nn.Module, got dict"),
    (factory("Frozen", every=True), "all its parameters are frozen"),
    (factory("wide"), r"its logits must be \(2, 10\) of 2 images, got \(2, 11\)"),
    (factory("growing"), "the state_dict of one cannot be loaded into another"),
    (factory("Extra"), "its state_dict must hold tensors, got dict"),
    (forward("maps"), r"its logits must be \(2, 10\) of 2 images, got \(2, 6, 8, 8\)"),
    (forward("pair"), "it must give a tensor of logits, in eval mode got tuple"),
    (forward("pair in training"), "it must give a tensor of logits, in train mode got tuple"),
    (forward("no number"), "its logits must be numbers, in eval mode got (inf|-inf|nan)"),
    (forward("no number in training"), "its logits must be numbers, in train mode got nan"),
    (forward("doubled"), "its logits must be float32, got torch.float64"),
    (forward("in place"), "it changes the images that it is given"),
    (forward("drawing"), "in eval mode it gives other logits for the same images"),
    (forward("coupled"), "in eval mode an image's logits depend on the others of its batch"),
    (forward("detached"), "its loss has no gradient to the pixels. Leave out detach"),
    (forward("rounded"), "its gradient to the pixels is zero though its logits depend on them"),
    (forward("infinite"), "its gradient must be of numbers, got nan"),
    (forward("unkept"), "with the weights of another it gives other logits: its state_dict is not all of it"),
    (forward("failing"), r"fails on images of shape \(2, 1, 8, 8\): KeyError: 'what' \(mynets.py:\d+\)"),
    (forward("failing in training"), "it fails in train mode: KeyError: 'what'"),
    (forward("no learning"), "its loss has no gradient to its parameters: RuntimeError"),
    (
        {**factory("small"), "normalise": {"mean": [0.1, 0.2], "std": [1]}},
        "a number for each of 1 channels, got 2 and 1",
    ),
    ({"torchvision": "resnet18"}, "torchvision's networks read 3 channels, the images have 1"),
    ({"torchvision": "resnt18"}, "there is no network 'resnt18' there; the nearest are resnet18"),
]


@pytest.mark.parametrize("door,message", BAD)
def test_what_cannot_be_trained_is_refused_by_rule_and_value(door, message):
    with pytest.raises(BadInput, match=message) as refused:
        check(door, SHAPE, 10, PLAIN)
    assert str(refused.value).startswith("network ") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "door,demands,message",
    [
        (factory("small"), {"parts": ("stem", "trunk")}, "yopo needs stem and trunk of a network, and it has no stem"),
        (factory("StemAlone"), {"parts": ("stem", "trunk")}, "and it has no trunk. Write it as"),
        (factory("OtherTrunk"), {"parts": ("stem", "trunk")}, r"needs forward\(x\) = trunk\(stem\(x\)\), and it gives"),
        (factory("Convolutional"), {"parts": ("features",)}, "features that the last nn.Linear reads, and it has none"),
        (factory("Auxiliary"), {"parts": ("features",)}, "and its logits come from elsewhere. Let an nn.Linear"),
        (factory("Auxiliary", used=False), {"parts": ("features",)}, "its logits come from elsewhere: IndexError"),
        (forward("once"), {"twice": True}, "yopo differentiates its gradient, which fails: no weight moves it"),
        (factory("Alone"), {"average": True}, "the recipe keeps an average of its weights, and it cannot be copied"),
        (forward("two in training"), {"batch_of_one": True}, "fails in train mode on one image.*Set `drop_last: true`"),
    ],
)  # fmt: skip
def test_what_only_some_trainings_need_is_asked_by_them_alone(door, demands, message):
    assert check(door, SHAPE, 10, PLAIN)[0] > 0
    with pytest.raises(BadInput, match=message):
        check(door, SHAPE, 10, Demands("yopo", **demands))


@pytest.mark.parametrize(
    "door", [factory("small"), factory("Parts"), factory("Viewing"), factory("Tied"), factory("Frozen")], ids=str
)
@pytest.mark.parametrize("normalise", ["inside", "imagenet", {"mean": [0.3], "std": [0.2]}], ids=str)
def test_what_can_be_trained_is_built_with_arguments_and_counted(door, normalise):
    door = door if normalise == "inside" else {**door, "normalise": normalise}
    count, _ = check(door, SHAPE, 10, PLAIN)
    assert count == sum(p.numel() for p in build(door, 1, 10).parameters())


@pytest.mark.parametrize("name,size", [("small", 96), ("Parts", 384), ("Viewing", 384), ("Tied", 64)])
@pytest.mark.parametrize("normalise", ["inside", "imagenet"])
def test_features_are_what_the_last_linear_layer_reads(name, size, normalise):
    door = factory(name) if normalise == "inside" else {**factory(name), "normalise": normalise}
    assert check(door, SHAPE, 10, Demands("fgsm_law", ("features",)))[1] == size
    network, x = build(door, 1, 10), torch.rand(3, 1, 8, 8)
    logits, features = logits_and_features(network, x)
    layer = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    assert features.shape == (3, size) and torch.equal(logits, network(x)) and torch.equal(layer(features), logits)
    assert not layer._forward_pre_hooks


def test_arguments_reach_the_factory():
    assert check(factory("small", width=20), SHAPE, 7, PLAIN) == (20 * 9 + 20 + 40 + (320 * 7 + 7), 320)


@pytest.mark.parametrize(
    "normalise,mean,std",
    [
        ("imagenet", 0.449, 0.226),
        ("cifar10", (0.4914 + 0.4822 + 0.4465) / 3, (0.2471 + 0.2435 + 0.2616) / 3),
        ({"mean": [0], "std": [2]}, 0.0, 2.0),
    ],
)
def test_a_stated_normalisation_comes_before_the_network_and_into_its_stem(normalise, mean, std):
    torch.manual_seed(0)
    inner = build(factory("Parts"), 1, 10)
    torch.manual_seed(0)
    network = build({**factory("Parts"), "normalise": normalise}, 1, 10)
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(network(x), inner((x - mean) / std))
    torch.testing.assert_close(network.stem(x), inner.stem((x - mean) / std))
    assert torch.equal(network.trunk(network.stem(x)), network(x))
    assert check({**factory("Parts"), "normalise": normalise}, SHAPE, 10, Demands("yopo", ("stem", "trunk")))[0] > 0


def test_a_network_without_parts_has_none_behind_a_normalisation_either():
    network = build({**factory("small"), "normalise": "cifar10"}, 3, 10)
    assert not hasattr(network, "stem") and not hasattr(network, "trunk")
    with pytest.raises(BadInput, match="cifar10 is of 3 channels, the images have 2"):
        build({**factory("small"), "normalise": "cifar10"}, 2, 10)


def test_torchvisions_network_is_torchvisions():
    import torchvision

    door = {"torchvision": "squeezenet1_1", "args": {"dropout": 0.1}}
    torch.manual_seed(0)
    ours = build(door, 3, 7)
    torch.manual_seed(0)
    theirs = torchvision.models.squeezenet1_1(weights=None, num_classes=7, dropout=0.1)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert check(door, (3, 32, 32), 7, PLAIN) == (sum(p.numel() for p in theirs.parameters()), 0)  # no nn.Linear


def test_without_timm_the_way_out_is_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        BadInput, match="network timm's resnet18: it needs timm, which is not installed. pip install timm"
    ):
        build({"timm": "resnet18"}, 3, 10)


def test_timms_network_is_timms():
    timm = pytest.importorskip("timm", reason="timm is an extra: pip install timm")
    door = {"timm": "resnet10t", "args": {"drop_path_rate": 0.1}}
    theirs = timm.create_model("resnet10t", num_classes=10, in_chans=1)
    assert check(door, SHAPE, 10, Demands("fgsm_law", ("features",))) == (
        sum(p.numel() for p in theirs.parameters()),
        512,
    )
    with pytest.raises(BadInput, match="there is no network 'resnet10x' there; the nearest are resnet10t"):
        build({"timm": "resnet10x"}, 3, 10)


def test_batches_reach_others_code_in_the_usual_layout():
    network = build(factory("Viewing"), 3, 10)
    seen = []
    network.stem.register_forward_hook(lambda _module, args, _out: seen.append(args[0].is_contiguous()))
    network(torch.rand(2, 3, 8, 8).contiguous(memory_format=torch.channels_last))
    assert seen == [True]


def test_a_factory_is_known_by_its_files_content(mynets):
    build(factory("small"), 1, 10)
    (first,) = own.source(factory("small")).values()
    mynets.write_text(CODE + "\n")
    assert [*own.source(factory("small"))] == ["mynets"] and own.source(factory("small"))["mynets"] != first
    assert own.source({"torchvision": "resnet18"}) == {"torchvision": importlib.metadata.version("torchvision")}


def test_the_error_of_a_full_memory_stays_one(monkeypatch):
    def full(*_args):
        raise MemoryError

    monkeypatch.setitem(own.OPEN, "factory", full)
    with pytest.raises(MemoryError):
        build(factory("small"), 1, 10)


def test_check_leaves_no_gradient_or_statistic_in_a_network_that_is_trained_later():
    torch.manual_seed(0)
    before = build(factory("small"), 1, 10).state_dict()
    check(factory("small"), SHAPE, 10, Demands("", twice=True, average=True))
    torch.manual_seed(0)
    after = build(factory("small"), 1, 10)
    assert all(torch.equal(t, after.state_dict()[name]) for name, t in before.items())
    assert all(p.grad is None for p in after.parameters()) and isinstance(after, nn.Module)
