"""Checkpoints under the authors' names: each is written and computed here by those names alone, then loaded."""

import gzip
import os
import pickle
import tarfile
import warnings
import zipfile
from argparse import Namespace
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fastat.errors import BadInput
from fastat.networks import checkpoints, models, released


def read(path: Path, part: str | None = None) -> checkpoints.Checkpoint:
    """A file's weights, with every wrapper off."""
    return checkpoints.unwrapped(checkpoints.packed(path, part))[-1]


def load(path: Path, name: str, n_classes: int, arch: str = "shared", part: str | None = None) -> models.Network:
    """The network of ours with these weights."""
    found = read(path, part)
    released.check(found, path, name, 3, n_classes, arch)
    return released.filled(found, name, 3, n_classes, arch)


@dataclass(frozen=True)
class Foreign:
    """A network as a repository names and computes it; facts of its model files."""

    block: str = "layer{}.{}"
    projection: str = "shortcut.0"
    linear: str = "linear"
    last_norm: str | None = "bn"
    activated: bool = False  # what a projection reads
    postact: bool = False
    relu_before_sum: bool = False
    bias: bool = False
    strided: str = "conv1"
    widths: tuple[int, ...] = (8, 8, 16, 32, 64)  # of the first convolution and the stages
    statistics: models.Statistics = models.RAW
    copies: dict[str, str] = field(default_factory=dict)  # prefix that is stored again -> as
    dead: str = ""  # prefix of tensors that nothing reads

    def shapes(self) -> list[tuple[int, int, str, int]]:
        """(n_in, n_out, name, stride) of the blocks, two to a stage."""
        rows = []
        for stage, (n_in, n_out) in enumerate(zip(self.widths, self.widths[1:], strict=False), 1):
            stride = 1 if stage == 1 else 2
            rows.append((n_in, n_out, self.block.format(stage, 0), stride))
            rows.append((n_out, n_out, self.block.format(stage, 1), 1))
        return rows

    def state(self) -> dict[str, Tensor]:
        """Random weights under the repository's names."""
        rng, state = torch.Generator().manual_seed(0), {}

        def conv(name: str, n_in: int, n_out: int, size: int) -> None:
            state[f"{name}.weight"] = torch.randn(n_out, n_in, size, size, generator=rng) / (n_in * size**2) ** 0.5
            if self.bias:
                state[f"{name}.bias"] = torch.randn(n_out, generator=rng) / 10

        def norm(name: str, n: int) -> None:
            for key, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
                state[f"{name}.{key}"] = low + torch.rand(n, generator=rng)
            state[f"{name}.num_batches_tracked"] = torch.tensor(7)

        conv("conv1", 3, self.widths[0], 3)
        if self.postact:
            norm("bn1", self.widths[0])
        for n_in, n_out, name, stride in self.shapes():
            norm(f"{name}.bn1", n_out if self.postact else n_in)
            conv(f"{name}.conv1", n_in, n_out, 3)
            norm(f"{name}.bn2", n_out)
            conv(f"{name}.conv2", n_out, n_out, 3)
            if stride == 2 or n_in != n_out:
                conv(f"{name}.{self.projection}", n_in, n_out, 1)
                if self.postact:
                    norm(f"{name}.shortcut.1", n_out)
        if self.last_norm:
            norm(self.last_norm, self.widths[-1])
        state[f"{self.linear}.weight"] = torch.randn(10, self.widths[-1], generator=rng)
        state[f"{self.linear}.bias"] = torch.randn(10, generator=rng)
        for prefix, again in self.copies.items():
            state |= {again + key.removeprefix(prefix): state[key] for key in list(state) if key.startswith(prefix)}
        if self.dead:
            conv(f"{self.dead}.layer.0.conv1", 3, 3, 3)
        return state

    def logits(self, state: dict[str, Tensor], x: Tensor) -> Tensor:
        """What the repository's network computes in eval mode for x in [0, 1]."""

        def conv(name: str, z: Tensor, stride: int = 1) -> Tensor:
            weight = state[f"{name}.weight"]
            return F.conv2d(z, weight, state.get(f"{name}.bias"), stride, weight.shape[-1] // 2)

        def norm(name: str, z: Tensor) -> Tensor:
            return F.batch_norm(
                z, *(state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
            )

        mean, std = (torch.tensor(numbers).reshape(3, 1, 1) for numbers in self.statistics)
        z = conv("conv1", (x - mean) / std)
        z = norm("bn1", z).relu() if self.postact else z
        for _, _, name, stride in self.shapes():
            first, second = (stride, 1) if self.strided == "conv1" else (1, stride)
            projects = f"{name}.{self.projection}.weight" in state
            if self.postact:
                out = norm(f"{name}.bn1", conv(f"{name}.conv1", z, first)).relu()
                out = norm(f"{name}.bn2", conv(f"{name}.conv2", out))
                out = out.relu() if self.relu_before_sum else out
                rest = norm(f"{name}.shortcut.1", conv(f"{name}.{self.projection}", z, stride)) if projects else z
                z = (out + rest).relu()
            else:
                active = norm(f"{name}.bn1", z).relu()
                out = norm(f"{name}.bn2", conv(f"{name}.conv1", active, first)).relu()
                read = active if self.activated else z
                rest = conv(f"{name}.{self.projection}", read, stride) if projects else z
                z = conv(f"{name}.conv2", out, second) + rest
        z = norm(self.last_norm, z).relu() if self.last_norm else z
        return F.linear(z.mean((2, 3)), state[f"{self.linear}.weight"], state[f"{self.linear}.bias"])


NARROW = (16, 16, 32, 64)
WIDE = {"block": "block{}.layer.{}", "projection": "convShortcut", "linear": "fc", "last_norm": "bn1"}
WIDE |= {"activated": True, "widths": NARROW}
GRADALIGN_COPIES = {"conv1.": "model_preact_hl1.1.", "layer1.0.bn1.": "model_preact_hl1.2."}
YOPO_COPIES = {f"other_layer{s + 1}.{b}.": f"other_layers.{2 * s + b}." for s in range(4) for b in range(2)}
YOPO_COPIES |= {"conv1.": "layer_one.", "linear.": "other_layers.8."}


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def statistics(where: str, numbers: models.Statistics) -> dict[str, Tensor]:
    return {f"{where}.{key}": torch.tensor(values) for key, values in zip(("mean", "std"), numbers, strict=True)}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ResNet-18s an eighth as wide: the same names, 64 times faster."""
    for name in ("preact_resnet18", "postact_resnet18"):
        monkeypatch.setitem(models.MODELS, name, replace(models.MODELS[name], width=8))


CASES: dict[str, tuple[str, str, Foreign, Any]] = {  # -> our name, arch, the network, what the file holds
    "ATAS": ("preact_resnet18", "shared", Foreign(statistics=models.IMAGENET), lambda s: prefixed("1.", s)),
    "ATAS, wide": ("wrn16_1", "shared", Foreign(**WIDE, statistics=models.IMAGENET), lambda s: prefixed("1.", s)),
    "fast_adversarial": ("preact_resnet18", "fast_adversarial", Foreign(statistics=models.CIFAR10), dict),
    "robust_overfitting": (
        "preact_resnet18",
        "robust_overfitting",
        Foreign(activated=True, statistics=models.CIFAR10),
        lambda s: {"state_dict": prefixed("module.", s), "test_robust_acc": 0.5},
    ),
    "GradAlign": (
        "preact_resnet18",
        "gradalign",
        Foreign(last_norm=None, copies=GRADALIGN_COPIES),
        lambda s: {"last": s, "best": {key: torch.zeros_like(tensor) for key, tensor in s.items()}},
    ),
    "SSAT": (
        "preact_resnet18",
        "ssat",
        Foreign(last_norm=None, activated=True, statistics=models.SSAT_10),
        lambda s: statistics("0", models.SSAT_10) | prefixed("1.", s),
    ),
    "YOPO": (
        "preact_resnet18",
        "yopo",
        Foreign("other_layer{}.{}", linear="linear.fc", last_norm=None, activated=True, copies=YOPO_COPIES),
        lambda s: {"epoch": 36, "state_dict": s},
    ),
    "ATTA": ("wrn16_1", "atta", Foreign(**WIDE, dead="sub_block1"), dict),
    "NuAT": (
        "postact_resnet18",
        "nuat",
        Foreign(postact=True, relu_before_sum=True, last_norm=None),
        lambda s: {"state_dict": s, "optimizer": {"state": {}}},
    ),
    "NuAT, wide": ("wrn16_1", "nuat", Foreign(last_norm="bn1", bias=True, strided="conv2", widths=NARROW), dict),
    "SubAT": (
        "preact_resnet18",
        "subat",
        Foreign(activated=True, statistics=models.SUBAT_10),
        lambda s: prefixed("module.", statistics("normalize", models.SUBAT_10) | s),
    ),
    "SDI": ("postact_resnet18", "sdi_pgi", Foreign(postact=True, last_norm=None), dict),
    "SDI, pre-activation": ("preact_resnet18", "sdi_pgi", Foreign(activated=True, last_norm=None), dict),
    "PGI": (
        "postact_resnet18",
        "sdi_pgi",
        Foreign(postact=True, last_norm=None),
        lambda s: prefixed("module.", s),
    ),
    "PGI, wide": (
        "wrn16_1",
        "sdi_pgi",
        Foreign(**WIDE, dead="sub_block1"),
        lambda s: prefixed("module.", s),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_loaded_network_computes_what_its_authors_network_computes(case, tmp_path):
    name, arch, foreign, wrap = CASES[case]
    state, x = foreign.state(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.save(wrap(state), tmp_path / "theirs.pt")
    network = load(tmp_path / "theirs.pt", name, 10, arch)
    expected = foreign.logits(state, x)
    assert not network.training
    # float32 rounding, in units of the largest logit; a wrong rule is 0.05 or more, std 0.2470 for 0.2471 1e-4
    assert (network(x) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("arch,wrap", [("shared", ("1.", None)), ("fast_adversarial", ("module.", "state_dict"))])
def test_imagenet_checkpoints_have_torchvisions_names(arch, wrap, tmp_path):
    import torchvision

    theirs, (prefix, part) = torchvision.models.resnet18(num_classes=10).eval(), wrap
    state, x = prefixed(prefix, theirs.state_dict()), torch.rand(2, 3, 64, 64)
    torch.save({part: state, "arch": "resnet18"} if part else state, tmp_path / "theirs.pt")
    network = load(tmp_path / "theirs.pt", "resnet18", 10, arch)
    torch.testing.assert_close(network(x), theirs(models.Normalize(3)(x)))


def test_gradaligns_best_part_can_be_asked_for(tmp_path):
    name, arch, foreign, wrap = CASES["GradAlign"]
    torch.save(wrap(foreign.state()), tmp_path / "theirs.pt")
    best = load(tmp_path / "theirs.pt", name, 10, arch, part="best")
    assert best.stem[1].weight.abs().max() == 0
    with pytest.raises(BadInput, match="no part 'final'. It holds last, best"):
        load(tmp_path / "theirs.pt", name, 10, arch, part="final")


def refused(tmp_path: Any, content: Any, *asked: Any) -> str:
    torch.save(content, tmp_path / "theirs.pt")
    with pytest.raises(BadInput) as caught:
        load(tmp_path / "theirs.pt", *asked)
    return str(caught.value)


def test_another_architecture_is_refused_with_the_keys_that_differ_and_the_archs_that_fit(tmp_path):
    state = CASES["GradAlign"][2].state()
    message = refused(tmp_path, state, "preact_resnet18", 10, "fast_adversarial")
    assert "bn.weight is missing; bn.bias is missing; bn.running_mean is missing; and " in message
    assert message.endswith("It fits preact_resnet18 for 10 classes (arch gradalign).")
    message = refused(tmp_path, state, "wrn16_1", 10, "atta")
    assert "conv1.weight is (8, 3, 3, 3), not (16, 3, 3, 3); block1.layer.0.bn1.weight is missing" in message
    state = CASES["SDI"][2].state()
    message = refused(tmp_path, state, "preact_resnet18", 10, "sdi_pgi")
    assert "layer2.0.bn1.weight is (16,), not (8,)" in message
    assert message.endswith("It fits postact_resnet18 for 10 classes (arch nuat or sdi_pgi).")


def test_a_network_for_other_classes_is_refused_with_the_number_it_is_for(tmp_path):
    message = refused(tmp_path, CASES["fast_adversarial"][2].state(), "preact_resnet18", 100, "fast_adversarial")
    assert "linear.weight is (10, 64), not (100, 64)" in message
    assert "preact_resnet18 for 10 classes (arch shared or fast_adversarial or" in message


def test_a_missing_or_an_extra_key_is_refused(tmp_path):
    state = CASES["fast_adversarial"][2].state()
    message = refused(tmp_path, state | {"layer5.weight": torch.ones(1)}, "preact_resnet18", 10, "fast_adversarial")
    assert "classes: layer5.weight is extra. It fits no network" in message
    del state["layer3.1.bn2.running_var"]
    message = refused(tmp_path, state, "preact_resnet18", 10, "fast_adversarial")
    assert "classes: layer3.1.bn2.running_var is missing. It fits no network" in message


def test_a_file_of_torch_before_its_batchnorm_counted_is_read(tmp_path):
    state = CASES["fast_adversarial"][2].state()
    old = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(old, tmp_path / "theirs.pt")
    network = load(tmp_path / "theirs.pt", "preact_resnet18", 10, "fast_adversarial")
    assert torch.equal(network.stem[1].weight, state["conv1.weight"])


def test_spare_tensors_are_ignored_for_the_arch_that_writes_them_alone(tmp_path):
    state = CASES["ATTA"][2].state()
    message = refused(tmp_path, state, "wrn16_1", 10, "robust_overfitting")
    assert "sub_block1.layer.0.conv1.weight is extra" in message
    assert message.endswith("(arch yopo or atta or sdi_pgi).")


class Malicious:
    def __reduce__(self) -> Any:
        return print, ("executed",)


@pytest.mark.parametrize(
    "content,message",
    [
        ({"state_dict": Malicious()}, "is no file of plain tensors"),
        ({"epoch": 3, "optimizer": {}}, "neither by itself nor under state_dict, model, last"),
        (torch.ones(3), "holds no state dict"),
        ({}, "holds no state dict"),
    ],
)
def test_what_holds_no_weights_is_refused_and_never_executed(content, message, tmp_path, capsys):
    assert message in refused(tmp_path, content, "preact_tiny", 10)
    assert "executed" not in capsys.readouterr().out


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small:
        for name, content in members.items():
            small.writestr(name, bytes(2**26) if name.endswith("data/0") else content)


def flipped_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((64,), 1.5).numpy().tobytes()) + 9] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil,message",
    [
        (lambda path: path.write_bytes(b"<!DOCTYPE html><title>Sign in</title>"), "plain tensors. It is a web page"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "It is a Git-LFS pointer"),
        (lambda path: path.write_bytes(bytes(9000)), "It begins with zeros alone"),
        (lambda path: path.write_bytes(path.read_bytes()[:-300]), "is no file of plain tensors, or damaged"),
        (lambda path: path.write_bytes(pickle.dumps({"a": print})), "is no file of plain tensors"),
        (lambda path: torch.save({"a": os.system}, path), "it needs posix.system, which is code"),
        (compressed, "says that it unpacks to 67,"),
        (flipped_bit, "is damaged: the CRC-32"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "must be a file, but it is a pipe"),
        (lambda path: (path.unlink(), path.mkdir()), "must be a file, but it is a folder"),
        (lambda path: (path.unlink(), path.symlink_to(path)), "Too many levels of symbolic links"),
    ],
)
def test_no_refusal_repeats_torchs_advice_to_run_what_is_in_the_file(spoil, message, tmp_path):
    path = tmp_path / "theirs.pt"
    torch.save({"conv1.weight": torch.full((64,), 1.5)}, path)
    spoil(path)
    with pytest.raises(BadInput) as caught:
        read(path)
    assert message in str(caught.value)
    assert not any(word in str(caught.value) for word in ("weights_only", "trust", "torch.load", "safe_globals"))


def test_a_file_that_is_missing_or_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(BadInput, match="cannot read .*No such file"):
        load(tmp_path / "none.pt", "preact_tiny", 10)
    for content in (b"", b"<html>not found</html>", b"PK\x03\x04 cut off"):
        (tmp_path / "page.pt").write_bytes(content)
        with pytest.raises(BadInput, match="is no file of plain tensors"):
            load(tmp_path / "page.pt", "preact_tiny", 10)


def test_a_file_of_ours_is_read_as_theirs_are(tmp_path):
    network = models.build("preact_tiny", 3, 10, "ssat").eval()
    save_file(network.state_dict(), tmp_path / "weights.bin")  # known by its first bytes
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(load(tmp_path / "weights.bin", "preact_tiny", 10, "ssat")(x), network(x))


STATE = {"conv1.weight": torch.ones(2, 1, 3, 3), "linear.weight": torch.ones(10, 2), "linear.bias": torch.zeros(10)}
TWIN = {key: 2 * tensor for key, tensor in STATE.items()}
KINDS: dict[str, tuple[Any, str, str]] = {  # -> what the file holds, the entry that is taken, the prefix that is cut
    "plain": (STATE, "", ""),
    "DataParallel": (prefixed("module.", STATE), "", "module."),
    "twice": (prefixed("module.module.", STATE), "", "module.module."),
    "compiled": (prefixed("_orig_mod.", STATE), "", "_orig_mod."),
    "compiled in DataParallel": (prefixed("module._orig_mod.", STATE), "", "module._orig_mod."),
    "Lightning": ({"state_dict": prefixed("model.", STATE), "epoch": 3, "loops": {}}, "state_dict", "model."),
    "net": ({"net": prefixed("module.", STATE), "acc": 91.2}, "net", "module."),
    "model_state_dict": ({"model_state_dict": STATE, "optimizer_state_dict": {}}, "model_state_dict", ""),
    "nested": ({"model": {"state_dict": STATE}}, "model.state_dict", ""),
    "behind a normalisation": (prefixed("1.", STATE), "", "1."),
    "with a normalisation": (statistics("0", models.CIFAR10) | prefixed("1.", STATE), "", "1."),
    "buffers mu and sigma": (
        {"mu": torch.tensor([0.1]), "sigma": torch.tensor([0.2]), **prefixed("model.", STATE)},
        "",
        "model.",
    ),
    "robustness": (
        {
            "model": {
                "module.normalizer.new_mean": torch.tensor([0.1]),
                "module.normalizer.new_std": torch.tensor([0.2]),
                **prefixed("module.model.", STATE),
                **prefixed("module.attacker.model.", STATE),
            },
            "epoch": 3,
        },
        "model",
        "module.model.",
    ),
    "an average beside it": ({"state_dict": STATE, "state_dict_ema": TWIN}, "state_dict", ""),
    "the average first": ({"model_ema": TWIN, "model": STATE}, "model", ""),
    "the average in the same": ({**prefixed("model.", STATE), **prefixed("ema.", TWIN)}, "", "model."),
    "torch's AveragedModel": ({"n_averaged": torch.tensor(9), **prefixed("module.", STATE)}, "", "module."),
    "an average alone": ({"ema": STATE, "step": 7}, "ema", ""),
}
KINDS["numpy's numbers, arguments and a path beside it"] = (
    {
        "net": STATE,
        "acc": np.float64(91.2),
        "history": np.arange(3.0),
        "args": Namespace(lr=0.1, out=Path("x")),
        "best": {"epoch": np.int64(3)},
    },
    "net",
    "",
)
NORMALISED = ("with a normalisation", "buffers mu and sigma", "robustness")


@pytest.mark.parametrize("old", [False, True], ids=["zip", "older format"])
@pytest.mark.parametrize("kind", KINDS)
def test_wrappers_are_taken_off_and_named(kind, old, tmp_path):
    content, entry, prefix = KINDS[kind]
    torch.save(content, tmp_path / "theirs.pth.tar", _use_new_zipfile_serialization=not old)
    found = read(tmp_path / "theirs.pth.tar")
    assert found.weights.keys() == STATE.keys()
    assert all(torch.equal(found.weights[key], STATE[key]) for key in STATE)
    assert (found.entry, found.prefix) == (entry, prefix)
    assert set(found.statistics) == ({"mean", "std"} if kind in NORMALISED else set())


@pytest.mark.parametrize("kind", ["an average beside it", "the average first", "the average in the same"])
def test_the_average_is_named_and_can_be_asked_for(kind, tmp_path):
    torch.save(KINDS[kind][0], tmp_path / "theirs.pt")
    (other,) = read(tmp_path / "theirs.pt").others
    found = read(tmp_path / "theirs.pt", other)
    assert torch.equal(found.weights["linear.weight"], TWIN["linear.weight"])


def test_of_two_networks_in_a_file_nobody_is_taken_unasked(tmp_path):
    torch.save({"teacher": STATE, "student": TWIN}, tmp_path / "theirs.pt")
    with pytest.raises(BadInput, match="holds several state dicts, teacher, student. Name the one that is meant"):
        read(tmp_path / "theirs.pt")
    assert read(tmp_path / "theirs.pt", "student").entry == "student"


@pytest.mark.parametrize("student", [{"state_dict": TWIN}, {"model": TWIN, "epoch": 3}, {"a": {"b": TWIN}}])
def test_nor_is_one_for_lying_higher_in_the_file(student, tmp_path):
    torch.save({"teacher": STATE, "student": student}, tmp_path / "theirs.pt")
    with pytest.raises(BadInput, match="holds several state dicts, teacher, student.*Name the one that is meant"):
        read(tmp_path / "theirs.pt")
    assert read(tmp_path / "theirs.pt", "teacher").entry == "teacher"


def test_a_part_is_named_in_full_where_several_have_the_word(tmp_path):
    content = {"model": {"last": STATE, "best": TWIN}, "old": {"last": TWIN}}
    torch.save(content, tmp_path / "theirs.pt")
    for part, several in {"last": "model.last, old.last", "model": "model.last, model.best"}.items():
        with pytest.raises(BadInput, match=f"called '{part}': {several}. Name one of them in full"):
            read(tmp_path / "theirs.pt", part)
    for part, entry in {"old": "old.last", "best": "model.best", "model.last": "model.last"}.items():
        assert read(tmp_path / "theirs.pt", part).entry == entry
    torch.save({"model": STATE, "old": {"model": TWIN}}, tmp_path / "theirs.pt")
    found = read(tmp_path / "theirs.pt", "model")
    assert found.entry == "model" and torch.equal(found.weights["linear.weight"], STATE["linear.weight"])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_is_computed_with_in_float32(kind, tmp_path):
    torch.save({key: tensor.to(kind) for key, tensor in STATE.items()}, tmp_path / "theirs.pt")
    found = read(tmp_path / "theirs.pt")
    assert {tensor.dtype for tensor in found.weights.values()} == {torch.float32}
    assert found.kinds == (str(kind).removeprefix("torch."),)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(value, tmp_path):
    torch.save({**STATE, "linear.bias": torch.full((10,), value)}, tmp_path / "theirs.pt")
    with pytest.raises(BadInput, match=r"theirs.pt: linear.bias hold what is no number.*before the training diverged"):
        read(tmp_path / "theirs.pt")


@pytest.mark.parametrize("old", [False, True], ids=["zip", "older format"])
def test_tensors_without_numbers_are_refused_by_name(old, tmp_path):
    content = {**STATE, "linear.bias": torch.zeros(10, device="meta")}
    torch.save(content, tmp_path / "theirs.pt", _use_new_zipfile_serialization=not old)
    with pytest.raises(BadInput, match=r"theirs.pt: linear.bias has a shape and no numbers \(device meta\)"):
        read(tmp_path / "theirs.pt")


def test_a_whole_pickled_network_is_refused_with_what_writes_its_weights(tmp_path):
    for old, content in ((False, nn.Sequential(nn.Linear(2, 2))), (True, {"net": nn.Linear(2, 2)})):
        torch.save(content, tmp_path / "theirs.pt", _use_new_zipfile_serialization=not old)
        with pytest.raises(BadInput) as caught:
            read(tmp_path / "theirs.pt")
        assert "is a whole pickled network (torch.nn.modules." in str(caught.value)
        assert "torch.save(network.state_dict(), 'weights.pt')" in str(caught.value)
        assert not any(word in str(caught.value) for word in ("weights_only", "trust", "torch.load", "safe_globals"))


def test_a_torchscript_archive_and_a_tar_are_named(tmp_path):
    with warnings.catch_warnings(action="ignore"):  # torch has deprecated them
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "theirs.pt")
    with pytest.raises(BadInput, match="it is a TorchScript archive"):
        read(tmp_path / "theirs.pt")
    with tarfile.open(tmp_path / "theirs.pth.tar", "w") as tar:
        tar.add(tmp_path / "theirs.pt", "inner.pt")
    with pytest.raises(BadInput, match="is a tar archive: unpack it"):
        read(tmp_path / "theirs.pth.tar")


def arrays(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, a=np.zeros((500, 500)))


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as whole:
        whole.writestr("theirs.pt", b"weights")


@pytest.mark.parametrize(
    "make,message",
    [
        (arrays, "it is an archive of numpy arrays (.npz). Write them as tensors: torch.save("),
        (
            lambda path: path.write_bytes(gzip.compress(b"weights")),
            "It is packed by gzip: unpack it, and name the file",
        ),
        (zipped, "it is a zip archive of theirs.pt. Unpack it"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n" + bytes(99)), r"It begins with b'\x89PNG\r\n"),
    ],
)
def test_what_downloading_again_would_not_mend_is_called_what_it_is(make, message, tmp_path):
    make(tmp_path / "theirs.pt")
    with pytest.raises(BadInput) as caught:
        read(tmp_path / "theirs.pt")
    assert message in str(caught.value) and "Download" not in str(caught.value)


def test_damaged_safetensors_are_refused(tmp_path):
    save_file(STATE, tmp_path / "theirs.safetensors")
    content = (tmp_path / "theirs.safetensors").read_bytes()
    (tmp_path / "theirs.safetensors").write_bytes(content[:-8])
    with pytest.raises(BadInput, match="is damaged safetensors .*Download it again"):
        read(tmp_path / "theirs.safetensors")
