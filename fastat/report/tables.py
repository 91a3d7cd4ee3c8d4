"""Tables I-V and the supplement, ours beside the paper's. pandas, never torch.

NAME.csv has every number, NAME.md a line per cell for reading, NAME.tex the paper's layout.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fastat.config.attack_names import is_name, parse
from fastat.config.grid import load_config
from fastat.config.recipe import resolve
from fastat.config.spec import EXTERNAL, RunSpec
from fastat.machine.files import atomic
from fastat.report import sanity, statistics
from fastat.report.markup import in_latex, markdown, one_line
from fastat.report.methods import REFERENCE, SLOW, of_family, row
from fastat.report.results import PLACE, Results, are_there, cells, first_eps, labels, paper, published
from fastat.report.tidy import CELL, RUN

HEADINGS = {
    "clean": "clean", "fgsm": "FGSM", "pgd10": "PGD10", "pgd50": "PGD50", "aa": "AA", "train_seconds": "train s",
    "robust_train_loss": "train loss", "peak_memory_mb": "memory MB",
    "best_clean": "clean, best", "best_pgd10": "PGD10, best", "best_pgd50": "PGD50, best", "best_aa": "AA, best",
    "best_epoch": "best epoch",
}  # fmt: skip
COLUMNS = {1: ["clean", "pgd10", "pgd50", "aa", "train_seconds"], 2: ["aa"]}
BEST_COLUMNS = {1: ["best_clean", "best_pgd50", "best_aa", "best_epoch"], 2: ["best_aa"]}  # where images were held out
ACCURACIES = ("clean", "fgsm", "pgd10", "pgd50", "aa")
SETTINGS = {  # of Table IV, by gamma (255ths) or c, and what config/paper.csv calls them
    "gamma 12": "atas/gamma12", "gamma 14": "atas/gamma14", "16, 0.01": "atas", "gamma 18": "atas/gamma18",
    "gamma 20": "atas/gamma20", "c 0.005": "atas/c005", "c 0.007": "atas/c007", "c 0.02": "atas/c02",
    "c 0.04": "atas/c04",
}  # fmt: skip
Marks = dict[tuple[str, ...], str]  # a cell and a metric -> `best` or `second`


def write_all(results: Results, table1_eps: dict[str, str], out: Path) -> None:
    """Write table1 ... table5 and supplement into the folder `out`, as .csv, .md and .tex.

    table1_eps: data set -> the eps that Table I shows; of one without runs there, the middle one of its runs.
    """
    runs = suspected(in_order(results.runs))
    main = runs[~runs["ablation"] & (runs["method"] != EXTERNAL)]
    marks, of_all = ranked(results.correct.merge(main[RUN], on=RUN)), ranked(results.correct)
    held_out = bool(runs["best_epoch"].notna().any())
    columns = {number: [*COLUMNS[number], *(BEST_COLUMNS[number] if held_out else ())] for number in COLUMNS}
    shown = first_eps(main, table1_eps)
    one = summary(main[main["eps"] == main["dataset"].map(shown)], columns[1])
    two = summary(main, columns[2])
    others = [name for name, eps in shown.items() if table1_eps.get(name, eps) != eps]
    none = f"At the middle eps, as no run is at that of `table1_eps`: {', '.join(others)}. " if others else ""
    note = SUSPECT if runs["masking"].any() else ""
    every = [*(name for name in HEADINGS if held_out or not name.startswith("best_")), *results.attacks]
    by_name = "".join(f" `{name}`: {parse(name).in_words()}." for name in results.attacks)
    note += HELD_OUT if held_out else ""
    attacked = summary(runs[runs["subset"].isna()], every)
    write_table(out / "table1", one, readable(one, columns[1], marks), none + note + CAPTIONS[1], by_model(one, marks))
    write_table(out / "table2", two, readable(two, columns[2], marks), note + CAPTIONS[2], by_eps(two, marks))
    write_table(
        out / "supplement", attacked, readable(attacked, every, of_all), note + CAPTIONS["supplement"] + by_name
    )
    for number, table in ((3, table3(runs)), (4, table4(runs)), (5, table5())):
        write_table(out / f"table{number}", table, table.map(text), CAPTIONS[number])


def write_table(
    out: Path,
    table: pd.DataFrame,
    pretty: pd.DataFrame,
    caption: str,
    layout: list[tuple[str, pd.DataFrame]] | None = None,
) -> None:
    """Write out.csv (`table`), .md (`pretty`) and .tex (`layout`: titled parts; default: `pretty`)."""
    body = markdown(pretty) if len(pretty) else "Nothing was run."
    body = body.replace("{best}", "**").replace("{second}", "_")
    for ending, content in {
        "csv": table.to_csv(index=False),
        "md": f"{body}\n\n{caption}\n",
        "tex": latex(layout or [("", pretty)], caption + EMPTY if layout else caption),
    }.items():
        with atomic(Path(f"{out}.{ending}")) as partial:
            partial.write_text(content, encoding="utf-8")


LEGEND = (
    "Mean and standard deviation over seeds (their number: seeds, and in brackets where fewer have it); AA: with the "
    "number of attacked images n and the 95 % interval that so many leave (Wilson; other seeds are attacked on the "
    "same ones), - where it was not asked for. CO, by seed: the epoch in which catastrophic overfitting began, `end` "
    "where robustness was lost to the end, `never` where there was none before and PGD10 came to no lasting third "
    "of FGSM, `while` where it was over, - none. train PGD10: on training images, of the first seed: last epoch "
    "(the best, its epoch). Seconds are a clock's, whatever else the machine did."
)
LEGEND += " Masking suspected: checks of results/sanity.csv that failed (docs/warnings.md)."
SUSPECT = "† The network failed a check for masked gradients, so that its number may be too high. "
HELD_OUT = "`best`: the weights of the epoch with the highest PGD10 accuracy on training images that were held out. "
EMPTY = " Empty: not run, or not measured."
BEST = (
    "Bold: the best fast method, underlined (in Markdown: italic): the second, only where the 95 % interval of the "
    "difference to the next, on the same images and seeds, leaves out 0; with one seed that knows of the images alone."
)
CAPTIONS: dict[int | str, str] = {
    1: "Accuracy in % on test images, last epoch, at one eps per data set (Table I of the ATAS paper). "
    f"{LEGEND} {BEST}",
    2: f"AutoAttack accuracy in % on test images, last epoch, by eps (Table II of the ATAS paper). {LEGEND} {BEST}",
    3: "Table III of the ATAS paper: the ratio mean(G^2)/mean(G)^2 of ATAS, G an image's largest gradient norm in "
    "training (its square root is Eq. 10 for beta = 0), and losses under PGD10 on training images at the last epoch "
    "of ATTA and ATAS, paired by seed: mean and standard deviation over seeds, n seeds.",
    4: "Table IV of the ATAS paper: ATAS with other gamma (left) and c (right), AutoAttack accuracy in %. Columns are "
    "gamma/c in 255ths at eps 8/255 and c of the paper's code; on other data sets both are in proportion to those of "
    "`paper`, without which there is no row. Mean and standard deviation over seeds (and of how many, if fewer).",
    5: "Table V of the ATAS paper: lambda of FGSM-GA, as the recipes have it.",
    "supplement": f"Every metric at every eps, what the paper leaves to its supplement. {LEGEND} {BEST}",
}  # fmt: skip


# Numbers


def summary(runs: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """One line per cell: mean and standard deviation over seeds, how many, and the paper's value where it has one."""
    if runs.empty:
        return pd.DataFrame(columns=[*CELL, "seeds"])
    fell = ("collapse_epoch", "collapsed_at_end", "robustness_lost")
    collapse = [co(*one) for one in zip(*(runs[name] for name in fell), strict=True)]
    ended = np.where(runs["diverged"] == 1, "diverged", collapse)
    known = np.where(runs["method"] == EXTERNAL, "", ended)  # of a training elsewhere nobody knows
    there = pd.Series(known, runs.index).where(are_there(runs))  # nor of what was left out
    by, found = runs.assign(co=there).groupby(CELL, sort=False), cells(runs, metrics)
    table = found[["seeds", "diverged", "cause", "left_out", "unverified"]].assign(
        hardware=found["hardware"].map(" and ".join),
        masking=by["masking"].agg(lambda v: "; ".join(sorted(set(v) - {""}))),
        collapsed_at_end=found["collapsed_at_end"],
        collapsed_for_a_while=found["collapsed_for_a_while"],
        collapse=by["co"].agg(lambda texts: ", ".join(texts.dropna())),
    )
    for name in ("train_pgd10_last", "train_pgd10_best", "train_pgd10_best_epoch"):
        table[name] = by[name].first()
    for metric in metrics:
        columns = [metric, f"{metric}_std", *(("aa_n", "aa_low", "aa_high") if metric == "aa" else ())]
        columns += [f"{metric}_seeds"] if is_accuracy(metric) else []
        table[columns] = found[columns]
        if is_name(metric):
            table[f"{metric}_n"] = by[f"{metric}_n"].max()
    return table.reset_index().pipe(beside_paper, metrics)


def beside_paper(table: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """`paper_METRIC` for the metrics of which the paper has a number."""
    keys = pd.MultiIndex.from_frame(table[PLACE].assign(method=labels(table)))
    for metric in metrics:
        numbers = published(metric).reindex(keys).to_numpy()
        if pd.notna(numbers).any():
            table[f"paper_{metric}"] = numbers
    return table


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by data set, network, rising eps, and the methods as the paper has them."""
    keys = ["dataset", "model", "eps_255", "method", "variant", "seed"]
    order: dict[Any, Any] = {"method": row, "seed": int}
    return table.sort_values(
        keys, key=lambda values: values.map(order[values.name]) if values.name in order else values, ignore_index=True
    )


def suspected(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with `masking`: which of the sanity panel's checks failed, or ''."""
    panel = sanity.panel(runs)
    failed = panel[panel["holds"] == 0].groupby(RUN)["check"].agg("; ".join).rename("masking")
    return runs.merge(failed.reset_index(), on=RUN, how="left").fillna({"masking": ""})


def co(first: float, at_end: float, lost: float) -> str:
    """`12 end`: robustness lost to the end; `12 never`: it never came; `12 while`: lost and regained; `-`: neither."""
    if pd.isna(first):
        return "-"
    return f"{int(first)} {'while' if at_end != 1 else 'never' if lost == 0 else 'end'}"


def is_accuracy(metric: str) -> bool:
    """Whether it says what withstands an attack, of the suites or by name."""
    return metric in ACCURACIES or is_name(metric)


def ranked(correct: pd.DataFrame) -> Marks:
    """(*cell, metric) -> `best` or `second` of the fast methods, where it stands out from the next one (see BEST)."""
    shown = [attack for attack in correct["attack"].unique() if is_accuracy(attack)]
    rows = correct[correct["attack"].isin(shown) & ~correct["method"].isin([EXTERNAL, *of_family(REFERENCE, SLOW)])]
    marks: Marks = {}
    for key, part in rows.groupby([*PLACE, "attack"]):
        assert isinstance(key, tuple)
        held = statistics.by_cell(part)
        order = sorted(held, key=lambda cell: -sum(bits.mean() for bits, _ in held[cell].values()) / len(held[cell]))
        for word, one, other in zip(("best", "second"), order, order[1:], strict=False):
            found = statistics.compare(held[one], held[other])
            if found is None or not found["low"] > 0:
                break
            marks[tuple(map(str, (*key[:3], *one, key[3])))] = word
    return marks


# Tables III, IV and V


def table3(runs: pd.DataFrame) -> pd.DataFrame:
    """Ratio, and the losses of ATTA and ATAS, by data set, network and eps."""
    mine = runs[(runs["method"] == "atas") & (runs["variant"] == "paper")]
    lines = []
    for cell, part in mine.groupby(PLACE, sort=False):
        assert isinstance(cell, tuple)
        line: dict[str, Any] = dict(zip(PLACE, cell, strict=True))
        for name, metric in (("ratio", "ratio"), ("gap", "loss_gap"), ("quotient", "loss_quotient")):
            each = part[metric].mask(part["diverged"] == 1)
            line |= {name: each.mean(), f"{name} std": each.std(ddof=1), f"n {name}": each.count()}
            line[f"{name}, paper"] = published(metric).get((*cell, "atas"), math.nan)
        line["why empty"] = "" if line["n gap"] else "no run of ATTA with the same seed, or no loss"
        lines.append(line)
    names = ["ratio", "ratio std", "n ratio", "ratio, paper", "gap", "gap std", "n gap", "gap, paper", "quotient"]
    return pd.DataFrame(lines, columns=[*PLACE, *names, "quotient std", "quotient, paper", "why empty"])


def table4(runs: pd.DataFrame) -> pd.DataFrame:
    """AutoAttack accuracy of ATAS by gamma and c, a row per data set, network and eps, and the paper's below.

    The settings are those of the recipes, in proportion to `paper` there, which stands for Table IV's 16/255 and 0.01.
    """
    mine = runs[(runs["method"] == "atas") & runs["swept"]].dropna(subset=["gamma_over_c", "c"])
    theirs = published("aa")
    lines = []
    for cell, part in mine.groupby(PLACE, sort=False):
        assert isinstance(cell, tuple)
        own = part[part["variant"] == "paper"][["gamma_over_c", "c"]]
        if own.empty or part["variant"].nunique() < 2:
            continue
        parts = part[["gamma_over_c", "c"]] / own.iloc[0]
        part = part.assign(setting=[setting(16 * gamma, 0.01 * c) for gamma, c in parts.itertuples(index=False)])
        line: dict[str, Any] = dict(zip(PLACE, cell, strict=True))
        attacked = part.dropna(subset=["aa"]).groupby("setting")["aa"]
        most = int(attacked.count().max()) if len(attacked) else 0
        ours = {
            str(name): show(v.mean(), v.std(ddof=1)) + (f" ({len(v)})" if len(v) < most else "") for name, v in attacked
        }
        lines.append({**line, "whose": "ours", "seeds": str(most), **ours})
        printed = {name: show(theirs.get((*cell, label), math.nan), math.nan) for name, label in SETTINGS.items()}
        if any(printed.values()):
            lines.append({**line, "whose": "paper", "seeds": "1", **printed})
    others = sorted({name for line in lines for name in line} - {*PLACE, "whose", "seeds", *SETTINGS})
    return pd.DataFrame(lines, columns=[*PLACE, "whose", "seeds", *SETTINGS, *others], dtype=object).fillna("")


def setting(gamma: float, c: float) -> str:
    """What differs from the paper's 16/255 and 0.01: `gamma 12`, `c 0.005`, or both."""
    differs = {"gamma": f"{gamma:.4g}", "c": f"{c:.4g}"}.items() - {"gamma": "16", "c": "0.01"}.items()
    return ", ".join(f"{name} {value}" for name, value in sorted(differs, reverse=True)) or "16, 0.01"


def table5() -> pd.DataFrame:
    """lambda of FGSM-GA: ours and the paper's, from the recipes."""
    config = load_config()
    lines = []
    for line in paper()[paper()["metric"] == "lam"].to_dict("records"):
        spec = RunSpec(line["dataset"], line["model"], line["eps_255"], "fgsm_ga", "paper", 0)
        lam = resolve(spec, config).params["lam"]
        lines.append({**{key: line[key] for key in PLACE}, "lambda": lam, "paper": line["value"]})
    return pd.DataFrame(lines)


# Texts


def readable(table: pd.DataFrame, metrics: list[str], marks: Marks) -> pd.DataFrame:
    """The table as people read it: one text per cell, and only columns that say something."""
    if table.empty:
        return pd.DataFrame(columns=["dataset", "model", "eps", "method", "seeds"])
    pretty = table[["dataset", "model", "eps"]].assign(method=labels(table), seeds=table["seeds"].astype(str))
    for metric in metrics:
        texts = list(marked(table, metric, marks))
        heading = HEADINGS.get(metric, metric)
        counted = metric == "aa" or is_name(metric)
        sizes: list[int] = table[f"{metric}_n"].dropna().astype(int).unique().tolist() if counted else []
        if len(sizes) == 1:
            heading += f" (n = {sizes[0]})"
        if metric == "aa":
            texts = with_interval(table, texts)
        if len(sizes) > 1:
            numbers = table[f"{metric}_n"]
            texts = [t if t in ("", "-") else f"{t}, n = {n:.0f}" for t, n in zip(texts, numbers, strict=True)]
        if is_accuracy(metric):
            texts = of_seeds(table, metric, texts)
        if metric == "train_seconds":
            mixed = table["hardware"].str.contains(" and ")
            texts = [why if other else t for t, other, why in zip(texts, mixed, table["hardware"], strict=True)]
        pretty[heading] = texts
        if f"paper_{metric}" in table:
            pretty[f"{HEADINGS[metric]}, paper"] = [show(v, math.nan) for v in table[f"paper_{metric}"]]
    if "train_seconds" in metrics and table["hardware"].nunique() > 1:
        pretty["hardware"] = table["hardware"]
    pretty["CO"] = table["collapse"]
    last = table[["train_pgd10_last", "train_pgd10_best", "train_pgd10_best_epoch"]]
    pretty["train PGD10"] = [
        "" if pd.isna(now) else f"{now:.0f} ({best:.0f}, {epoch:.0f})"
        for now, best, epoch in last.itertuples(index=False)
    ]
    if table["left_out"].any():
        pretty["left out"] = table["left_out"]
    if table["unverified"].any():
        pretty["unverified"] = [f"{n} seeds" if n else "" for n in table["unverified"]]
    if table["masking"].any():
        pretty["masking suspected"] = table["masking"]
    if table["diverged"].any():
        pretty["diverged"] = [
            f"{n}: {why}" if n else "" for n, why in zip(table["diverged"], table["cause"], strict=True)
        ]
    return pretty


def with_interval(table: pd.DataFrame, texts: list[str]) -> list[str]:
    """AutoAttack's numbers with their interval; `-`: nobody asked for one."""
    columns = (table[name] for name in ("aa_low", "aa_high", "diverged", "left_out"))
    return [
        f"{text} [{low:.0f}, {high:.0f}]" if text else "" if diverged or left_out else "-"
        for text, low, high, diverged, left_out in zip(texts, *columns, strict=True)
    ]


def of_seeds(table: pd.DataFrame, metric: str, texts: list[str]) -> list[str]:
    """The texts, and of how many seeds they are, if not of all that did not diverge."""
    columns = (table[name] for name in (f"{metric}_seeds", "seeds", "diverged"))
    return [
        f"{text} ({n} seed{'s' * (n != 1)})" if 0 < n < seeds - diverged else text
        for text, n, seeds, diverged in zip(texts, *columns, strict=True)
    ]


def marked(table: pd.DataFrame, metric: str, marks: Marks) -> Iterator[str]:
    """Mean and spread of each row, within {best} or {second} where it is, and † where masking is suspected."""
    cells = table[CELL].itertuples(index=False, name=None)
    columns = (table[name] for name in (metric, f"{metric}_std", "masking"))
    for cell, mean, std, suspected in zip(cells, *columns, strict=True):
        mark = f"{{{marks[(*cell, metric)]}}}" if (*cell, metric) in marks else ""
        dagger = "†" if suspected and is_accuracy(metric) and pd.notna(mean) else ""
        yield f"{mark}{show(mean, std)}{mark}{dagger}"


def in_layout(table: pd.DataFrame, metric: str, marks: Marks) -> dict[str, str]:
    """Method -> its text in the paper's layout, which has no column to say that it diverged or was left out."""
    reasons = table["diverged"].map(lambda n: "diverged" if n else "").where(table["left_out"] == "", "left out")
    texts = zip(labels(table), marked(table, metric, marks), reasons, strict=True)
    return {name: shown or reason for name, shown, reason in texts}


def by_model(table: pd.DataFrame, marks: Marks) -> list[tuple[str, pd.DataFrame]]:
    """Table I's layout: a part per data set and eps, a row per method, the columns of each network side by side."""
    parts = []
    for (dataset, eps), part in table.groupby(["dataset", "eps"], sort=False):
        columns = {}
        for model, rows in part.groupby("model", sort=False):
            for metric in COLUMNS[1]:
                key = f"{model}: {HEADINGS[metric]}"
                columns[key] = in_layout(rows, metric, marks)
            columns[f"{model}: seeds"] = dict(zip(labels(rows), rows["seeds"].astype(str), strict=True))
        parts.append((f"{dataset}, eps = {eps}", as_rows(part, columns)))
    return parts


def by_eps(table: pd.DataFrame, marks: Marks) -> list[tuple[str, pd.DataFrame]]:
    """Table II's layout: a part for small and one for large networks; a row per method, a column per data and eps."""
    parts = []
    large = table["model"].str.contains("wrn|50")
    for title, rows in (("small networks", table[~large]), ("large networks", table[large])):
        columns = {}
        for (dataset, model, eps), part in rows.groupby(PLACE, sort=False):
            columns[f"{dataset} {model} {eps}"] = in_layout(part, "aa", marks)
        if columns:
            parts.append((title, as_rows(rows, columns)))
    return parts


def as_rows(table: pd.DataFrame, columns: dict[str, dict[str, str]]) -> pd.DataFrame:
    """A row per method, empty where a column has none."""
    methods = sorted(set(labels(table)), key=lambda label: (row(label.split("/")[0]), label))
    texts = {heading: [column.get(label, "") for label in methods] for heading, column in columns.items()}
    return pd.DataFrame({"method": methods, **texts})


def latex(parts: list[tuple[str, pd.DataFrame]], caption: str) -> str:
    """A table environment that needs the packages booktabs and graphicx: as wide as the page."""
    pieces = []
    for title, pretty in parts:
        escaped = pretty.map(marked_up)
        escaped.columns = [marked_up(str(name)) for name in pretty.columns]
        body = escaped.to_latex(index=False, column_format="l" * len(pretty.columns))
        wide = f"\\resizebox{{\\ifdim\\width>\\linewidth \\linewidth\\else\\width\\fi}}{{!}}{{%\n{body}}}"
        pieces.append(f"{marked_up(title)}\\par\n{wide}\n" if title else f"{wide}\n")
    body = "\\par\\medskip\n".join(pieces)
    return f"\\begin{{table}}\n\\caption{{{marked_up(caption)}}}\n{body}\\end{{table}}\n"


def marked_up(plain: str) -> str:
    """LaTeX of a text, with its marks."""
    plain = one_line(plain)
    found = re.fullmatch(r"(.*?)\{(best|second)\}(.*?)\{\2\}(.*)", plain)
    before, word, inner, after = found.groups() if found else ("", "", plain, "")
    before, inner, after = map(in_latex, (before, inner, after))
    return f"{before}\\{'textbf' if word == 'best' else 'underline'}{{{inner}}}{after}" if word else inner


def text(value: Any) -> str:
    """A number with three digits, a text as it is, nothing for NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3g}"
    return str(value)


def show(mean: float, std: float) -> str:
    """`63.1 ± 0.8`; without a spread for one seed; empty for none, never a zero."""
    if pd.isna(mean):
        return ""
    return f"{mean:.1f}" if pd.isna(std) else f"{mean:.1f} ± {std:.1f}"
