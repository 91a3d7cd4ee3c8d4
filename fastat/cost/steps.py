"""What a step of every method costs: counted passes, FLOPs, state and relative seconds, as results/tables/cost."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import methods
from fastat.cost import passes
from fastat.machine.files import atomic
from fastat.networks import models
from fastat.report.methods import row

SHORT = {
    "forward": "F", "input_backward": "Bx", "parameter_backward": "Bw", "joint_backward": "Bxw", "double_backward": "D",
    "stem_forward": "f1", "stem_input_backward": "b1x", "stem_parameter_backward": "b1w",
}  # fmt: skip


def measure(repeats: int) -> list[dict[str, Any]]:
    """A row per method: passes and seconds on preact_tiny and digits' shape, FLOPs and state as on CIFAR10.

    repeats: timed steps of each method.
    """
    torch.manual_seed(0)
    small: dict[str, passes.Rehearsal] = {}
    rows: list[dict[str, Any]] = []
    for name in methods.ours():
        build, cycle = partial(methods.build, name), range(getattr(methods.module(name), "CYCLE", 1))
        tiny = models.build("preact_tiny", 1, 10).to(memory_format=torch.channels_last)
        small[name] = passes.rehearse(build, tiny, (1, 8, 8), n_train=640, batch_size=64)
        with torch.device("meta"):
            cifar_net = models.build("preact_resnet18", 3, 10)
        large = passes.rehearse(build, cifar_net, (3, 32, 32), pad=4, n_train=50_000)
        counted = passes.count_passes(tiny, 64, [small[name].step(number) for number in cycle])
        batches = [replace(large.batch, number=number) for number in cycle]
        gflop = passes.mean_flops(large.method, batches, large.train) / 128 / 1e9
        state = passes.state_bytes(large.method)
        rows.append({"method": name, **counted, "gflop_per_image": gflop, "state_mb": state / 1e6})
        rows[-1]["state_bytes_per_image"] = state / 50_000
    taken = passes.seconds({name: one.step() for name, one in small.items()}, repeats)
    return [{**one, "seconds_over_clean": taken[one["method"]] / taken["clean"]} for one in rows]


def write_table(rows: list[dict[str, Any]], out: Path) -> None:
    """Write the cost table, `out`.csv and .md; rows as `python -m fastat cost` makes them."""
    rows = sorted(rows, key=lambda one: row(one["method"]))
    table = pd.DataFrame(rows)
    clean = float(table.loc[table["method"] == "clean", "gflop_per_image"].iloc[0])
    pretty = pd.DataFrame(
        {
            "method": table["method"],
            "passes per batch": [
                " + ".join(f"{one[kind]:g} {short}" for kind, short in SHORT.items() if one.get(kind)) for one in rows
            ],
            "GFLOP per image": [f"{v:.2f}" for v in table["gflop_per_image"]],
            "x clean": [f"{v / clean:.2f}" for v in table["gflop_per_image"]],
            "state, MB": [f"{v:.1f}" for v in table["state_mb"]],
            "state, bytes per image": [f"{v:.0f}" for v in table["state_bytes_per_image"]],
            "seconds x clean": [f"{v:.2f}" for v in table["seconds_over_clean"]],
        }
    )
    text = (
        "Passes are counted (F forward; B backward to x the input, w the weights, xw both; D double backward; f1, b1 "
        "the first layer alone). FLOPs by torch's formulas and state as on CIFAR10: PreActResNet-18, 50,000 images in "
        "40x40 frames, eps 8/255, default parameters. Seconds: preact_tiny on 8x8 images, batch 64, median, in turns.\n"
    )
    for ending, content in {
        "csv": table.to_csv(index=False),
        "md": f"{pretty.to_markdown(index=False, disable_numparse=True)}\n\n{text}",
    }.items():
        with atomic(Path(f"{out}.{ending}")) as partial:
            partial.write_text(content, encoding="utf-8")
