"""results/report/index.html: every result on one page that needs no network. pandas, never torch.

DataTables (out of the package itables) makes the tables, Plotly the plots; both are read from the installed packages
and travel inside the page. The page's own parts are in page_assets/: page.html, page.css, page.js.
"""

import base64
import gzip
import hashlib
import json
import math
import re
from importlib.metadata import distribution
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fastat.config import catalog
from fastat.config.attack_names import parse
from fastat.errors import BadInput
from fastat.machine.files import atomic
from fastat.report import claims, figure_data, pairs, sanity, verdicts
from fastat.report.contents import FIGURES
from fastat.report.methods import colour
from fastat.report.results import ALWAYS, RIVAL, Results, cells, complete, once, read, read_rows
from fastat.report.tidy import CELL, RUN

CURVES = {"pgd10": "train_pgd10_acc", "fgsm": "train_fgsm_acc", "loss": "train_pgd10_loss"}
UNSAID = ("evaluations", "seal")  # of the evidence: in evidence.jsonl
DECIMALS = {"pgd10": 1, "fgsm": 1, "loss": 3}
MEANS = [  # of the seeds, in the leaderboard
    "clean", "pgd10", "pgd50", "aa", "train_pgd10_last", "train_pgd10_best", "best_pgd50", "best_aa", "best_epoch",
]  # fmt: skip
DPI, SCREEN = 150, 112  # of the figures' files; pixels of the page that an inch takes
PRINTED = re.compile(r"fig(\d+)")  # a figure of the paper's
SURFACE_POINTS = 1_000_000  # about 6 MB of page; landscapes beyond are left out, and the page says how many

TABLES = {
    "verdicts.csv": verdicts.COLUMNS, "claims.csv": claims.COLUMNS, "pairs.csv": pairs.COLUMNS,
    "sanity.csv": sanity.COLUMNS, "figures/surfaces.csv": figure_data.SURFACE,
}  # fmt: skip
NUMBERS = {
    "epoch", "n", "paper", "ours", "std", "n_seeds", "n_images", "low", "high", "gap", "p", "difference", "only_a",
    "only_b", "p_adjusted", "more_seeds", "more_images", "limit", "holds", "u", "w", "loss", "value",
}  # fmt: skip


def write_html(results: Path, figures: Path, out: Path) -> None:
    """Write the page `out` from the tables in `results` and the pictures in `figures`, whichever are there.

    What is missing, empty or damaged leaves its section empty, with the reason on the page.
    """
    found = read(results)
    notes = list(found.notes)
    tables = {name: read_table(results / name, columns, notes) for name, columns in TABLES.items()}
    judged = tables["verdicts.csv"]
    papers = judged[judged["table"] != RIVAL]  # another benchmark's numbers are in reproduction.md, with what ails them
    board = leaderboard(found.runs, papers, tables["sanity.csv"], found.attacks)
    runs = numbered(found.runs)
    facts, listed = interned(found, notes)
    surfaces = landscapes(tables["figures/surfaces.csv"], board, notes)
    data = {
        "cells": packed(board),
        "runs": packed(runs[list(dict.fromkeys(["cell", "seed", *found.metrics, "device", "aa_n", "cause", *ALWAYS]))]),
        "attacks": [{"name": name, "words": parse(name).in_words()} for name in found.attacks],
        "curves": curves(found),
        "facts": facts,
        "evidence": listed,
        "verdicts": packed(papers),
        "sanity": packed(with_cells(tables["sanity.csv"], runs)),
        "pairs": packed(tables["pairs.csv"]),
        "surfaces": surfaces,
    }
    pictures = gallery(figures, results / "figures", notes)
    text = html(data, tables["claims.csv"], pictures, summary(found, board), found.problems, notes)
    with atomic(out) as partial:
        partial.write_text(text, encoding="utf-8")


def read_table(path: Path, columns: list[str], notes: list[str]) -> pd.DataFrame:
    """The rows of a CSV file, none without its cell's name or twice; every departure adds a sentence to `notes`."""
    numbers = sorted(NUMBERS.intersection(columns))
    try:
        rows = read_rows(path, columns, numbers)
    except BadInput as error:
        notes.append(f"{error}: what is made from it is missing here.")
        return pd.DataFrame({name: pd.Series(dtype=float if name in numbers else object) for name in columns})
    return once(complete(rows, path.name, notes).reset_index(drop=True), columns, path.name, notes)


# From rows to the page's data


def leaderboard(
    runs: pd.DataFrame, verdicts: pd.DataFrame, sanity: pd.DataFrame, attacks: list[str] | None = None
) -> pd.DataFrame:
    """A row per cell, in the order of its runs: means over its seeds, and what there is to say against them.

    attacks: those by name that have columns.
    """
    means = [*MEANS, *(attacks or [])]
    by, found = runs.groupby(CELL, sort=False), cells(runs, [*means, "train_seconds"])
    several = found["hardware"].map(len) > 1
    shown = found[["seeds", "diverged", *(f"{m}{end}" for m in means for end in ("", "_std", "_seeds"))]].assign(
        aa_low=found["aa_low"],
        aa_high=found["aa_high"],
        aa_n=found["aa_n"],
        train_seconds=found["train_seconds"],
        peak_memory_mb=by["peak_memory_mb"].max(),
        hardware=found["hardware"].map(" + ".join),
        why_no_seconds=np.where(several, "the seeds ran on different hardware", ""),
        best_first=by["train_pgd10_best_epoch"].min(),
        best_last=by["train_pgd10_best_epoch"].max(),
        collapsed_at_end=found["collapsed_at_end"],
        collapsed_for_a_while=found["collapsed_for_a_while"],
        collapse_epoch=by["collapse_epoch"].min(),
        cause=found["cause"],
    )
    shown.insert(0, "eps_255", by["eps_255"].first())
    shown = shown.reset_index()
    shown["colour"] = [colour(*cell) for cell in zip(shown["method"], shown["variant"], strict=True)]
    return shown.join(beside_paper(shown, verdicts)).join(checked(shown, numbered(runs), sanity))


def numbered(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with `cell`, the number of their cell in the leaderboard."""
    return runs.assign(cell=runs.groupby(CELL, sort=False).ngroup())


def beside_paper(cells: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """The verdict of each cell in the paper's variant: that of its hardest attack that was measured."""
    rank = {metric: k for k, metric in enumerate(["aa", "pgd50", "pgd10", "clean"])}
    judged = verdicts[verdicts["metric"].isin(list(rank)) & verdicts["ours"].notna()].astype({"metric": str})
    judged = judged.assign(rank=judged["metric"].map(rank)).sort_values("rank", kind="stable")
    judged = judged.drop_duplicates(CELL[:4]).assign(variant="paper").astype(dict.fromkeys(CELL, str))
    best = judged.set_index(CELL)[["verdict", "metric", "paper", "gap"]].rename(columns={"metric": "verdict_metric"})
    return best.reindex(pd.MultiIndex.from_frame(cells[CELL])).set_axis(cells.index)


def checked(cells: pd.DataFrame, runs: pd.DataFrame, sanity: pd.DataFrame) -> pd.DataFrame:
    """The runs' sanity verdicts: the one verdict of all, or how many have each."""
    each = with_cells(sanity, runs).drop_duplicates(["cell", "seed"])
    said = each.groupby("cell")["verdict"].agg(
        lambda found: (
            ", ".join(f"{text} {n} of {len(found)}" for text, n in sorted(found.value_counts().items()))
            if found.nunique() > 1
            else found.iloc[0]
        )
    )
    return said.reindex(cells.index).rename("sanity").to_frame()


def with_cells(rows: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Rows that name a run of ours, with the number of its cell in place of its name."""
    numbers = runs.drop_duplicates(RUN)[[*RUN, "cell"]]
    return rows.astype(dict.fromkeys(RUN, str)).merge(numbers, on=RUN).drop(columns=CELL)


def curves(results: Results) -> list[dict[str, list[float | None]]]:
    """Per run: `epoch`, and for each of CURVES the values at these epochs, rounded, None where there is none."""
    found: list[dict[str, list[float | None]]] = [{} for _ in range(len(results.runs))]
    rows = results.by_epoch(*CURVES.values())
    starts = np.flatnonzero(np.diff(rows.index.to_numpy(), prepend=-1))
    ends = np.append(starts, len(rows))[1:]
    lists: dict[str, list[float | None]] = {"epoch": plain(rows["epoch"])}
    for name, metric in CURVES.items():
        if rows[metric].notna().any():
            lists[name] = plain(rows[metric].round(DECIMALS[name]))
    for run, start, end in zip(rows.index[starts], starts, ends, strict=True):
        found[run] = {name: values[start:end] for name, values in lists.items()}
    return found


def interned(results: Results, notes: list[str]) -> tuple[list[list[Any]], list[list[int] | None]]:
    """All different (key, value) of the run.json files, and per run which of them are its own (None: no run.json).

    Runs share most of what is to say about them; said once, ten thousand runs stay a few MB.
    """
    facts: dict[str, int] = {}
    listed: list[list[int] | None] = []
    for name in results.runs["name"]:
        about = results.evidence.get(name)
        listed.append(
            None
            if about is None
            else [facts.setdefault(json.dumps(pair), len(facts)) for pair in about.items() if pair[0] not in UNSAID]
        )
    if results.evidence and (without := sum(one is None for one in listed)):
        notes.append(f"{without} of {len(listed)} runs have no line in evidence.jsonl.")
    return [json.loads(fact) for fact in facts], listed


def landscapes(points: pd.DataFrame, cells: pd.DataFrame, notes: list[str]) -> list[dict[str, Any]]:
    """The loss surfaces as grids: cell, seed, epoch (None: last), group, n, u, w and z by w and u, nats.

    The means come first, then single images, until SURFACE_POINTS are reached.
    """
    numbers = cells[CELL].reset_index(names="cell")
    points = points.astype(dict.fromkeys([*RUN, "group"], str)).merge(numbers, on=CELL)
    points["last"] = points["group"] != "mean"
    parts = list(points.groupby(["last", "group", "cell", "seed", "epoch"], dropna=False, sort=True))
    found, total = [], 0
    for _, part in parts:
        if total + len(part) > SURFACE_POINTS:
            break
        total += len(part)
        first = part.iloc[0]
        epoch = None if pd.isna(first["epoch"]) else int(first["epoch"])
        grid = part.drop_duplicates(["u", "w"]).pivot(index="w", columns="u", values="loss")
        found.append(
            {
                "cell": int(first["cell"]), "seed": first["seed"], "epoch": epoch, "group": first["group"],
                "n": plain(part["n"].head(1))[0], "u": grid.columns.tolist(), "w": grid.index.tolist(),
                "z": [plain(pd.Series(row)) for row in grid.round(3).to_numpy()],
            }
        )  # fmt: skip
    if len(found) < len(parts):
        notes.append(
            f"{len(found)} of {len(parts)} loss landscapes are on the page, means first: together they stay below "
            f"{SURFACE_POINTS:,} points. The others are in figures/surfaces.csv."
        )
    return found


def plain(column: pd.Series) -> list[Any]:
    """The values for JSON: what is not finite becomes None, whole numbers lose their point."""
    values = (value if math.isfinite(value) else None for value in column.tolist())
    return [int(value) if value is not None and value == int(value) else value for value in values]


def packed(rows: pd.DataFrame) -> dict[str, list[Any]]:
    """A table as {columns, rows}; numbers to five digits, None where there is none."""
    lists = []
    for name in rows:
        column = rows[name]
        if pd.api.types.is_numeric_dtype(column):
            lists.append(plain(column.map(lambda value: float(f"{value:.5g}"))))
        else:
            lists.append([None if pd.isna(value) else str(value) for value in column])
    return {"columns": list(map(str, rows.columns)), "rows": [list(row) for row in zip(*lists, strict=True)]}


def summary(results: Results, board: pd.DataFrame) -> dict[str, Any]:
    """What the head of the page says."""
    runs = results.runs
    ended = runs[runs["diverged"] != 1]
    return {
        "runs": len(runs),
        "cells": len(board),
        "diverged": int(runs["diverged"].sum()),
        "collapsed_at_end": int(ended["collapsed_at_end"].sum()),
        "collapsed_for_a_while": int(ended["collapsed_for_a_while"].sum()),
        "datasets": sorted(set(runs["dataset"])),
        "own": own_data(results),
        "hardware": sorted(set(runs["device"].dropna())),
        "commits": sorted(
            {short(str(about["git_commit"])) for about in results.evidence.values() if about.get("git_commit")}
        ),
    }


def own_data(results: Results) -> list[str]:
    """What was measured of each data set of the user's own, in a line: as its runs say it."""
    said = {name.partition("/")[0]: about.get("data") for name, about in results.evidence.items()}
    return [
        catalog.in_words(name, about)
        for name, about in sorted(said.items())
        if name not in catalog.CATALOG and isinstance(about, dict) and catalog.from_json(about)
    ]


def short(commit: str) -> str:
    """The first nine digits of a commit, with what else was said of it (`-dirty`)."""
    return re.sub(r"^(\w{9})\w*", r"\1", commit)


# The page


def gallery(figures: Path, data: Path, notes: list[str]) -> list[dict[str, str]]:
    """Every picture of the folder: name, title, caption, width and data URI; of .svg and .png the smaller one.

    The paper's first, in its order, then those of contents.py; none that is left of an earlier config. data: the folder
    of what they are drawn from.
    """
    names = sorted({path.stem for ending in ("svg", "png") for path in figures.glob(f"*.{ending}")}, key=order)
    if not names:
        notes.append(f"There is no picture in {figures.name}/.")
    shown = []
    for name in names:
        paths = [path for ending in ("svg", "png") if (path := figures / f"{name}.{ending}").exists()]
        picture = min(paths, key=lambda path: path.stat().st_size)
        kind = {".svg": "image/svg+xml", ".png": "image/png"}[picture.suffix]
        words = figures / f"{name}.txt"
        caption = words.read_text(encoding="utf-8").strip() if words.exists() else ""
        if not caption.startswith("Nothing to draw") and without_rows(data / f"{name}.csv"):
            notes.append(f"{picture.name} is left of an earlier config, and is not shown: {name}.csv has no rows now.")
            continue
        shown.append(
            {
                "name": name,
                "title": titled(name),
                "width": f"{width}px" if (width := pixels(figures / f"{name}.png")) else "auto",
                "caption": caption,
                "source": f"data:{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}",
            }
        )
    return shown


def without_rows(table: Path) -> bool:
    """Whether a CSV file is there and has none but its first line."""
    try:
        with open(table, encoding="utf-8", errors="replace") as lines:
            return len(list(islice(lines, 2))) == 1
    except OSError:
        return False


def order(name: str) -> tuple[bool, int, str]:
    """A sorting key: the paper's figures, then ours, then any others."""
    return not PRINTED.fullmatch(name), FIGURES.index(name) if name in FIGURES else len(FIGURES), name


def titled(name: str) -> str:
    """`fig04` -> `Figure 4`, `accuracy_by_eps` -> `Accuracy by eps`."""
    printed = PRINTED.fullmatch(name)
    return f"Figure {int(printed[1])}" if printed else name.replace("_", " ").capitalize()


def pixels(png: Path) -> int:
    """How wide a figure is shown, so that letters are as large in all of them; 0 where its file does not say."""
    try:
        head = png.read_bytes()[:24]
    except OSError:
        return 0
    wide = int.from_bytes(head[16:20]) if head[:4] == b"\x89PNG" else 0
    return round(SCREEN * wide / DPI) if wide > DPI else 0


def html(
    data: dict[str, Any],
    claims: pd.DataFrame,
    figures: list[dict[str, str]],
    about: dict[str, Any],
    problems: pd.DataFrame,
    notes: list[str],
) -> str:
    """The page as text. Jinja escapes every value; only our own files, the libraries and the JSON go in as they are."""
    assets = Path(__file__).parent / "page_assets"
    environment = Environment(
        loader=FileSystemLoader(assets),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, plotly = with_datatables((assets / "page.js").read_text(encoding="utf-8")), library("plotly", PLOTLY)
    return environment.get_template("page.html").render(
        about=about,
        notes=notes,
        problems=problems.to_dict("records"),
        claims=claims.astype(object).where(claims.notna(), None).to_dict("records"),
        held=claims["verdict"].value_counts().to_dict(),
        figures=figures,
        hashes=" ".join(f"'sha256-{digest(text)}'" for text in (script, plotly)),
        css=(assets / "page.css").read_text(encoding="utf-8"),
        script=script,
        plotly=base64.b64encode(gzip.compress(plotly.encode(), mtime=0)).decode(),
        data=inert(json.dumps(data, separators=(",", ":"), allow_nan=False)),
    )


DATATABLES, PLOTLY = "itables/html/dt_bundle.js", "plotly/package_data/plotly.min.js"


def library(package: str, path: str) -> str:
    """The text of a file of an installed package, without importing it.

    Raises: importlib.metadata.PackageNotFoundError if the package is not installed.
    """
    return Path(str(distribution(package).locate_file(path))).read_text(encoding="utf-8")


def with_datatables(script: str) -> str:
    """Our script as a function of jQuery, behind the bundle that brings jQuery with DataTables.

    The bundle is a module that exports; a script inside a page cannot be imported from, so the export becomes a call.
    """
    bundle, exports = re.subn(
        r"export\s*\{[^}]*?\b(\w+) as jQuery\b[^}]*\};?", r"const jQueryOfPage=\1;", library("itables", DATATABLES)
    )
    if exports != 1:
        raise ValueError(f"{DATATABLES} exports no jQuery; take the pinned version of itables.")
    text = f"{bundle}\n(function ($) {{\n{script}\n}})(jQueryOfPage);\n"
    return text.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def digest(text: str) -> str:
    """What a Content-Security-Policy calls a script by."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def inert(text: str) -> str:
    """JSON that no HTML parser can see an end of the script in."""
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
