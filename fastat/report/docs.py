"""The generated part of docs/methods/NAME.md and of the README: from the code, the recipes and kept tables."""

import shutil
from pathlib import Path

import pandas as pd

from fastat import ROOT
from fastat.errors import BadInput
from fastat.machine.files import atomic, write_json
from fastat.report import kept, tiers
from fastat.report.methods import place
from fastat.report.results import PLACE, Results, paper, read, rival, rival_methods
from fastat.report.tidy import RUN
from fastat.report.tiers import DEFAULT, of_name

MARK = "<!-- made by `make docs` from here on -->\n"
RESULTS = ROOT / "docs/results"  # a folder a tier, and what belongs to none: cost, Table V, the curves of the picture
KEPT = ("table1", "table2", "table3", "table4", "supplement")
RIVALS = ROOT / "docs/fastat-benchmark.md"
OF_NONE = ("table5", "cost")
PICTURED_TIER, PICTURED_EPS, PICTURED = "fashion", "77/255", ("fgsm_rs", "atas")


def keep(results: Path, tier: str) -> None:
    """Take what the documentation shows of a finished tier into docs/results/TIER.

    Tables, claims, what `agree` compares others' runs with, and tier.json: how many runs and seconds, and of what. Of
    the default also what belongs to no tier; of PICTURED_TIER the curves of README's picture.
    Raises: BadInput, with nothing taken, if one of them is missing.
    """
    folder, is_default = RESULTS / of_name(tier).name, tier == DEFAULT
    files = {results / f"tables/{name}.{ending}": folder for name in KEPT for ending in ("md", "csv")}
    files |= {results / f"claims.{ending}": folder for ending in ("md", "csv")}
    files |= {results / f"tables/{name}.{ending}": RESULTS for name in OF_NONE * is_default for ending in ("md", "csv")}
    if absent := [path for path in files if not path.is_file() or not path.stat().st_size]:
        raise BadInput(f"there is no {absent[0]}, or it is empty. Run the workflow of {tier} to its end first")
    mine = kept.load(results)
    found = read(results, needs=("measured.csv",))
    curves = pictured(found) if tier == PICTURED_TIER else None
    kept.write(mine, folder)
    for path, there in files.items():
        shutil.copy(path, there)
    write_json(folder / "tier.json", tiers.about(found))
    if curves is not None:
        with atomic(RESULTS / "collapse.csv") as partial:
            curves.to_csv(partial, index=False, float_format="%.6g")


def pictured(found: Results) -> pd.DataFrame:
    """The curves of README's picture.

    Raises: BadInput if a method of it has none.
    """
    runs = found.runs[found.runs["method"].isin(PICTURED) & (found.runs["variant"] == "paper")]
    runs = runs[runs["eps"] == PICTURED_EPS].sort_values("method", key=lambda name: name.map(place))
    if absent := [name for name in PICTURED if name not in set(runs["method"])]:
        raise BadInput(f"README's picture needs {' and '.join(absent)} at {PICTURED_EPS}. Run the tier to its end")
    return runs[RUN].join(found.by_epoch("train_fgsm_acc", "train_pgd10_acc"))


def renew(described: dict[str, str]) -> None:
    """Renew README's tables and picture, the claims by tier, FastAT_Benchmark's page, and those of docs/methods.

    described: method -> its docstring and recipes as text.
    Raises: BadInput, with nothing written, if a page or a table is missing or not as it should be.
    """
    from fastat.report import figures  # here, for matplotlib takes a second to load

    pages = {ROOT / f"docs/methods/{name}.md": (name, text) for name, text in described.items()}
    renewed = {path: page(written(path), name, text) for path, (name, text) in pages.items()}
    readme = ROOT / "README.md"
    renewed[readme] = with_tables(written(readme))
    renewed[RESULTS / "claims-by-tier.md"] = tiers.claims_by_tier(RESULTS)
    renewed[RIVALS] = beside_rival(written(RIVALS))
    for path, text in renewed.items():
        with atomic(path) as partial:
            partial.write_text(text, encoding="utf-8")
    figures.write_picture(RESULTS / "collapse.csv", RESULTS / "collapse.svg")


def written(path: Path) -> str:
    """The text of a file of the documentation.

    Raises: BadInput if it is not there.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        template = " Begin it from docs/methods/_template.md" if path.parent.name == "methods" else ""
        raise BadInput(f"cannot read {path} ({error}).{template}") from error


def lines_of_table(path: Path) -> list[str]:
    """The lines of a Markdown table.

    Raises: BadInput if there is none.
    """
    lines = [line for line in written(path).splitlines() if line.startswith("|")]
    if len(lines) < 2:
        raise BadInput(f"{path} holds no table. Make it: python -m fastat docs --results FOLDER")
    return lines


def column(path: Path, cells: list[str], heading: str) -> int:
    """Which of the cells of a table's first line begins with `heading`.

    Raises: BadInput if none does.
    """
    for k, cell in enumerate(cells):
        if cell.startswith(heading):
            return k
    raise BadInput(f"{path} has no column {heading!r}. Make it: python -m fastat docs --results FOLDER")


def with_tables(readme: str) -> str:
    """The README, with two tables between their marks: Table I of `all`, of the ATAS paper's methods, and the tiers."""
    of_paper = {*paper()["method"], "clean", "fgsm_rs/fgsm"}
    tables = {
        "results": columns(of_paper, "all/table1.md", "method", "clean", "PGD50", "AA", "CO"),
        "tiers": tiers.table(RESULTS),
    }
    for name, table in tables.items():
        before, first, rest = readme.partition(f"<!-- {name}: made by `make docs` -->\n")
        _, last, after = rest.partition(f"<!-- end of {name} -->\n")
        if not last:
            raise BadInput(f"README.md has no lines that begin and end its {name}: {first.strip() or name}")
        readme = f"{before}{first}{table}\n{last}{after}"
    return readme


def on_digits(name: str) -> str:
    """The method's lines in the tables of the default, if it has some, and of every method's tier."""
    default, every = (rows(f"{tier}/table1.md", name, "") for tier in ("default", "all"))
    shown = {
        default: "More in [Table I](../results/default/table1.md) and [Table II](../results/default/table2.md).",
        every: "Beside [every other method](../results/all/table1.md), three seeds, AutoAttack on all 360 test images.",
    }
    return "\n".join(f"{table}\n\n{said}\n" for table, said in shown.items() if table)


def columns(methods: set[str], file: str, *names: str) -> str:
    """The columns of a Markdown table whose headings begin with these names, and the lines of these methods."""
    lines = lines_of_table(RESULTS / file)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    at = [column(RESULTS / file, cells[0], name) for name in names]
    mine, whole = at[names.index("method")], len(cells[0])
    shown = [*cells[:2], *(row for row in cells[2:] if len(row) == whole and row[mine] in methods)]
    return "\n".join(f"| {' | '.join(row[k] for k in at)} |" for row in shown)


def page(old: str, name: str, described: str) -> str:
    """The page, with everything below the mark made anew."""
    written, mark, _ = old.partition(MARK)
    if not mark:
        raise BadInput(f"docs/methods/{name}.md has no line {MARK.strip()!r}")
    parts = [
        f"## The file\n\n[methods/{name}.py](../../methods/{name}.py)\n\n```text\n{described}\n```\n",
        f"## Departures\n\n{departures(name)}\n",
        f"## Cost\n\n{rows('cost.md', name)}\n\nThe legend is under [the whole table](../results/cost.md).\n",
        f"## On digits\n\n{on_digits(name)}",
        f"## In the ATAS paper\n\n{published(name)}\n",
    ]
    return f"{written}{MARK}\n" + "\n".join(parts)


def beside_rival(old: str) -> str:
    """The page of FastAT_Benchmark, with a line a method below the mark: what it runs, what we run, its numbers."""
    written, mark, _ = old.partition(MARK)
    if not mark:
        raise BadInput(f"{RIVALS} has no line {MARK.strip()!r}")
    told = rival_methods().reset_index().rename(columns={"method": "our recipe", "runs": "it runs", "here": "we run"})
    told = told.set_index("name").rename_axis("there")
    numbers = rival().assign(metric=rival()["metric"].str.removeprefix("best_"))
    numbers["text"] = [f"{mean:.2f} ± {std:.2f}" for mean, std in zip(numbers["value"], numbers["std"], strict=True)]
    wide = numbers.pivot(index="method", columns=["dataset", "metric"], values="text").reindex(rival_methods().index)
    wide = wide.set_axis([" ".join(pair) for pair in wide.columns], axis=1).set_axis(told.index)
    first, second = (table.to_markdown(disable_numparse=True) for table in (told, wide))
    between = "## Its numbers\n\nMean ± standard deviation of three seeds, in %."
    return f"{written}{MARK}\n{first}\n\n{between}\n\n{second}\n"


def rows(file: str, name: str, none: str = "Not in the table that is kept: `python -m fastat cost --out cost`.") -> str:
    """The lines of a Markdown table whose `method` is the method or one of its variants; `none` if there are none."""
    lines = lines_of_table(RESULTS / file)
    at = column(RESULTS / file, [cell.strip() for cell in lines[0].split("|")], "method")
    cells = ((line, line.split("|")) for line in lines[2:])
    mine = [line for line, row in cells if at < len(row) and row[at].strip().split("/")[0] == name]
    return "\n".join([*lines[:2], *mine]) if mine else none


def departures(name: str) -> str:
    """The lines of docs/departures.md that name the method."""
    lines = [
        line for line in (ROOT / "docs/departures.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")
    ]
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
