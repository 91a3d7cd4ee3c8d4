"""network.py and load.py of an exported run: its network written out, so that torch alone rebuilds it.

network.py is cut out of our own source, with what it needs and nothing else: it cannot fall behind the code that
trained. A network that is not ours is built by the code that it came from, which the reader needs.
"""

import ast
import functools
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fastat import __version__
from fastat.config.networks import Door, kind_of, shown
from fastat.errors import BadInput
from fastat.networks import models, own

CLASSES = {"preact": "PreActResNet", "wide": "PreActResNet", "postact": "PostActResNet"}  # kind of network -> its class


def network_py(name: str, door: Door, shape: tuple[int, int, int], n_classes: int, arch: str) -> str:
    """The text of network.py, whose `build()` gives the network of this name with weights that mean nothing.

    door: {} of ours. shape: (C, H, W).
    Raises: BadInput for a network that there is not.
    """
    body, module, uses = theirs(door, shape[0], n_classes) if door else (ours(name, shape[0], n_classes, arch), "", [])
    build = f'''def build():
    """{called(name, door, arch)}: x {size(shape)} in [0, 1] -> logits (B, {n_classes})."""
{body}
'''
    head = f'"""{name} without fastat: what it needs of fastat/networks of fastat {__version__} (MIT, see LICENSE)."""'
    return f"{head}\n\n{cut_out(names_in(ast.parse(build)).union(uses), module)}{build}"


def load_py(run: str, shape: tuple[int, int, int], n_classes: int, pinned: dict[str, str]) -> str:
    """The text of load.py. pinned: what portable numerics pin; {} where the evaluation was not portable."""
    started = "".join(f"\n    {key}={value}" for key, value in pinned.items())
    where = (
        f"an x86-64 CPU, with the same torch, in a process started with{started}"
        if pinned
        else ("the same kind of device, with the same torch and as many threads.")
    )
    c, h, w = shape
    return f'''"""{run} without fastat: torch is enough (safetensors for the files of that name).

    network = load()                # or another of the files that README.md names
    logits = network(x)             # x {size(shape)} float32 in [0, 1] -> (B, {n_classes})

To the last bit the logits of its evaluation on {where}
"""

import runpy
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent


def load(file="weights.pt"):
    """The network in eval mode, with the weights of a file that lies here."""
    network = runpy.run_path(str(HERE / "network.py"))["build"]()
    if file.endswith(".pt"):
        state = torch.load(HERE / file, map_location="cpu", weights_only=True)
    else:
        from safetensors.torch import load_file

        state = load_file(HERE / file)
    network.load_state_dict(state)
    return network.to(memory_format=torch.channels_last).eval()


def shown(*files):
    """The first ten logits of one image, from dark to bright."""
    with torch.no_grad():
        logits = load(*files)(torch.linspace(0, 1, {c * h * w}).reshape(1, {c}, {h}, {w}))
    return " ".join(f"{{value:.4f}}" for value in logits[0, :10].tolist())


if __name__ == "__main__":
    print(shown(*sys.argv[1:]))
'''


def size(shape: tuple[int, int, int]) -> str:
    """`(B, 1, 8, 8)`."""
    return f"(B, {', '.join(map(str, shape))})"


def called(name: str, door: Door, arch: str) -> str:
    """A network in a few words: `preact_tiny by the rules of shared`."""
    return f"{name}, {shown(door)}" if door else f"{name} by the rules of {arch}"


# The lines of `build`


def ours(name: str, n_channels: int, n_classes: int, arch: str) -> str:
    """The call of one of our classes, every argument written out.

    Raises: BadInput for an unknown name or arch.
    """
    if arch not in models.ARCHS or name not in models.MODELS or models.MODELS[name].kind not in models.ARCHS[arch]:
        raise BadInput(f"there is no network {name!r} of arch {arch!r} in fastat/networks/models.py of this version")
    one = models.MODELS[name]
    known = models.ARCHS[arch][one.kind]
    statistics = known.statistics_of(n_classes)
    rules = literal(replace(known, statistics=statistics, cifar100=None))
    last = {"n_channels": str(n_channels), "n_classes": str(n_classes), "rules": rules}
    if one.kind == "torchvision":
        return call("TorchvisionResNet", {"name": json.dumps(name), **last})
    first = {"width": one.width, "blocks": one.blocks, "stem_stride": one.stem_stride}
    first |= {"stem_width": one.stem_width} if CLASSES[one.kind] == "PreActResNet" else {}
    return call(CLASSES[one.kind], {**{key: str(value) for key, value in first.items()}, **last})


def call(name: str, arguments: dict[str, str]) -> str:
    """`return NAME(...)`, an argument a line."""
    lines = "".join(f"        {key}={value},\n" for key, value in arguments.items())
    return f"    return {name}(\n{lines}    )"


def literal(rules: models.Rules) -> str:
    """What departs from the defaults, less how weights are drawn: they are loaded."""
    said = {one.name: (getattr(rules, one.name), one.default) for one in fields(rules) if one.name != "init"}
    lines = [
        f"            {key}={json.dumps(value) if isinstance(value, str) else repr(value)},\n"
        for key, (value, default) in said.items()
        if value != default
    ]
    return f"Rules(\n{''.join(lines)}        )" if lines else "Rules()"


def theirs(door: Door, n_channels: int, n_classes: int) -> tuple[str, str, list[str]]:
    """The lines that build a network which is not ours, the module that they import, and the names of ours they use."""
    kind, args = kind_of(door), door.get("args", {})
    module, _, attribute = door[kind].partition(":")
    given: dict[str, dict[str, Any]] = {
        "timm": {"pretrained": False, "num_classes": n_classes, "in_chans": n_channels},
        "torchvision": {"weights": None, "num_classes": n_classes},
        "factory": {"n_channels": n_channels, "n_classes": n_classes},
    }
    calls = {"timm": "timm.create_model", "torchvision": "torchvision.models.get_model"}
    said = [] if kind == "factory" else [json.dumps(door[kind])]
    said += [f"{key}={value!r}" for key, value in {**given[kind], **args}.items()]
    call, imported = calls.get(kind, f"{module}.{attribute}"), module if kind == "factory" else kind
    lines = [f"network = {call}({', '.join(said)})", "usual_layout(network)"]
    if (stated := door.get("normalise")) is None:
        return indented([*lines, "return network"]), imported, []
    statistics = own.STATISTICS[stated] if isinstance(stated, str) else tuple(tuple(stated[k]) for k in ("mean", "std"))
    lines.append(f"return Normalised(network, Normalize({n_channels}, {statistics!r}))")
    return indented(lines), imported, ["Normalised", "Normalize"]


def indented(lines: list[str]) -> str:
    """As the body of a function."""
    return "\n".join(f"    {line}" for line in lines)


# Our source


@functools.cache
def definitions() -> tuple[dict[str, str], dict[str, Any]]:
    """Name -> its text, and name -> its node, of all that fastat/networks/models.py and own.py define, in order."""
    texts: dict[str, str] = {}
    nodes: dict[str, Any] = {}
    for module in (models, own):
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        lines = source.splitlines()
        for node in ast.parse(source).body:
            for name in defined_by(node):
                first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
                texts.setdefault(name, "\n".join(lines[first - 1 : node.end_lineno]))
                nodes.setdefault(name, node)
    return texts, nodes


def defined_by(node: ast.stmt) -> list[str]:
    """The names that a statement of a module gives a meaning."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def names_in(node: ast.AST) -> set[str]:
    """Every name that is used somewhere in it."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def cut_out(wanted: set[str], module: str) -> str:
    """The definitions of these names and of all that they use, in the order of the source, behind their imports.

    module: another one to be imported, '' of none.
    """
    texts, nodes = definitions()
    found: set[str] = set()
    while new := (wanted & nodes.keys()) - found:
        found |= new
        wanted = wanted | {name for one in new for name in names_in(nodes[one])}
    modules: dict[str, list[str]] = {}  # '' of what is imported whole
    said = ""
    for name in (name for name in texts if name in found):
        node = nodes[name]
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            said = f"{said.rstrip()}\n\n\n{texts[name]}\n\n\n"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules.setdefault(getattr(node, "module", ""), []).append(name)
        else:
            said += f"{texts[name]}\n"
    ours = [name for module in modules if module.startswith("fastat") for name in modules[module]]
    stubs = "".join(f"{name} = ValueError\n" for name in ours if name == "BadInput")
    top = f"{import_lines(modules, module)}\n{stubs}".rstrip() + "\n" * (3 if said.startswith("\n") else 2)
    return f"{top}{said.strip()}\n\n\n"


def import_lines(modules: dict[str, list[str]], module: str) -> str:
    """The imports of the standard library, an empty line, and the others. modules: '' has what is imported whole."""
    lines = [f"import {name}" for name in sorted([*modules.get("", []), *[module] * bool(module)])]
    froms = sorted(module for module in modules if module and not module.startswith("fastat"))
    lines += [f"from {module} import {', '.join(sorted(modules[module]))}" for module in froms]
    library = [line for line in lines if line.split()[1] == module or line.split()[1].startswith("torch")]
    return "\n".join([*(line for line in lines if line not in library), "", *library, ""])
