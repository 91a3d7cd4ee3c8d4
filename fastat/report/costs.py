"""The cost table: counted passes, FLOPs, state and relative seconds of every method. pandas, never torch."""

from pathlib import Path
from typing import Any

import pandas as pd

from fastat.machine.files import atomic
from fastat.report.tables import ORDER

PASSES = {
    "forward": "F", "input_backward": "Bx", "parameter_backward": "Bw", "joint_backward": "Bxw", "double_backward": "D",
    "stem_forward": "f1", "stem_input_backward": "b1x", "stem_parameter_backward": "b1w",
}  # fmt: skip


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """Write the cost table, `out`.csv and .md; rows as `python -m fastat cost` makes them."""
    rank = {name: k for k, name in enumerate(ORDER)}
    rows = sorted(rows, key=lambda row: (rank.get(row["method"], len(rank)), row["method"]))
    table = pd.DataFrame(rows)
    clean = float(table.loc[table["method"] == "clean", "gflop_per_image"].iloc[0])
    pretty = pd.DataFrame(
        {
            "method": table["method"],
            "passes per batch": [
                " + ".join(f"{row[kind]:g} {short}" for kind, short in PASSES.items() if row.get(kind)) for row in rows
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
            partial.write_text(content)
