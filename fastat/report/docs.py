"""The generated part of docs/methods/NAME.md and of the README: from the code, the recipes and kept tables."""

import pandas as pd

from fastat import ROOT
from fastat.machine.files import atomic
from fastat.report.results import PLACE, paper

MARK = "<!-- made by `make docs` from here on -->\n"
RESULTS = ROOT / "docs/results"  # the tables of the run that the documentation speaks of


def renew(described: dict[str, str]) -> None:
    """Renew every page of docs/methods; `described`: method -> its docstring and recipes as text."""
    for name, text in described.items():
        path = ROOT / f"docs/methods/{name}.md"
        with atomic(path) as partial:
            partial.write_text(page(path.read_text(), name, text))

    readme = ROOT / "README.md"
    with atomic(readme) as partial:
        partial.write_text(with_table(readme.read_text()))


def with_table(readme: str) -> str:
    """The README, with the kept Table I between its marks."""
    before, first, rest = readme.partition("<!-- table I: made by `make docs` -->\n")
    _, last, after = rest.partition("<!-- end of table I -->\n")
    return f"{before}{first}{(RESULTS / 'table1.md').read_text()}{last}{after}"


def page(old: str, name: str, described: str) -> str:
    """The page, with everything below the mark made anew."""
    written, mark, _ = old.partition(MARK)
    if not mark:
        raise ValueError(f"docs/methods/{name}.md has no line {MARK.strip()!r}")
    parts = [
        f"## The file\n\n[methods/{name}.py](../../methods/{name}.py)\n\n```text\n{described}\n```\n",
        f"## Departures\n\n{departures(name)}\n",
        f"## Cost\n\n{rows('cost.md', 'method', name)}\n\nThe legend is under [the whole table](../results/cost.md).\n",
        f"## On digits\n\n{rows('table1.md', 'method', name)}\n\nMore in [Table I](../results/table1.md) and "
        f"[Table II](../results/table2.md).\n",
        f"## In the ATAS paper\n\n{published(name)}\n",
    ]
    return f"{written}{MARK}\n" + "\n".join(parts)


def rows(file: str, column: str, name: str) -> str:
    """The lines of a Markdown table whose `column` is the method or one of its variants."""
    lines = [line for line in (RESULTS / file).read_text().splitlines() if line.startswith("|")]
    at = [cell.strip() for cell in lines[0].split("|")].index(column)
    mine = [line for line in lines[2:] if line.split("|")[at].strip().split("/")[0] == name]
    return "\n".join([*lines[:2], *mine]) if mine else "Not in the default workflow."


def departures(name: str) -> str:
    """The lines of docs/departures.md that name the method."""
    lines = [line for line in (ROOT / "docs/departures.md").read_text().splitlines() if line.startswith("|")]
    mine = [line for line in lines[2:] if name in line.split("|")[1].replace(",", " ").split()]
    return "\n".join([*lines[:2], *mine]) if mine else "None of its own; see [all](../departures.md)."


def published(name: str) -> str:
    """The paper's numbers of the method: clean, PGD10, PGD50 and AutoAttack accuracy in %."""
    mine = paper()[(paper()["method"] == name) & paper()["metric"].isin(["clean", "pgd10", "pgd50", "aa"])]
    if mine.empty:
        return "Not in its tables."
    numbers = mine.drop_duplicates([*PLACE, "metric"])
    wide = numbers.pivot(index=["dataset", "model", "eps_255", "eps"], columns="metric", values="value")
    wide = wide.reindex(columns=["clean", "pgd10", "pgd50", "aa"]).reset_index().drop(columns="eps_255")
    texts = wide.map(lambda cell: "" if pd.isna(cell) else str(cell))
    return texts.to_markdown(index=False, disable_numparse=True)
