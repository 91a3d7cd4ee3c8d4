"""The tiers of evidence: a config each, what it takes, and what its committed results say of the claims. Never torch.

A tier whose results are not there yet is a row all the same: what it would take, and that it was not run.
"""

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fastat import ROOT
from fastat.config.grid import expand, load_config
from fastat.config.spec import EXTERNAL
from fastat.errors import BadInput, did_you_mean
from fastat.report.claims import CLAIMS, readable
from fastat.report.results import Results, are_there, read_rows

DEFAULT = "default"
WORDS = {"holds": "hold", "does not hold": "do not", "undecided": "undecided", "not run": "not run"}
ONE = {"hold": "holds", "do not": "does not"}  # of a single claim
DECIDED = ("hold", "do not", "undecided")


@dataclass(frozen=True)
class Tier:
    """A config, in the order of what it takes; `hours` in words, as planned."""

    name: str
    config: str  # below config/
    hours: str

    @property
    def command(self) -> str:
        """What runs it."""
        return "make demo" if self.name == DEFAULT else f"snakemake --cores all --configfile config/{self.config}"


TIERS = (
    Tier(DEFAULT, "config.yaml", "10 to 20 minutes on two cores"),
    Tier("all", "all.yaml", "some 75 minutes on two cores"),
    Tier("evening", "evening.yaml", "some two hours on two cores"),
    Tier("fashion", "fashion.yaml", "one to two hours on two cores"),
    Tier("night", "photos.yaml", "a night on two cores"),
    Tier("paper", "paper.yaml", "12,300 hours of a V100, by `fastat plan`"),
)


def of_name(name: str) -> Tier:
    """Raises: BadInput if there is no tier of that name."""
    for tier in TIERS:
        if tier.name == name:
            return tier
    known = [tier.name for tier in TIERS]
    raise BadInput(f"--tier: there is no tier {name!r}, known are {', '.join(known)}.{did_you_mean(name, known)}")


def about(found: Results) -> dict[str, Any]:
    """What tier.json says of finished results.

    runs: trained here; data; seconds: of training and evaluation by one process each, without starting them; devices:
    by name.
    """
    seconds, runs = 0.0, found.runs
    runs = runs[are_there(runs)]
    for run in runs["name"]:
        said = found.evidence.get(run) or {}
        evaluations = (said.get("evaluations") or {}).values()
        seconds += (said.get("train_seconds") or 0.0) + sum(one.get("seconds", 0.0) for one in evaluations)
    devices = sorted(set(runs["device"].dropna()))
    data = sorted(set(runs["dataset"]))
    n = int((runs["method"] != EXTERNAL).sum())
    return {"runs": n, "seconds": round(seconds), "data": data, "devices": devices}


def table(folder: Path) -> str:
    """README's table, a row a tier. folder: docs/results."""
    lines = []
    for tier in TIERS:
        path, said = folder / tier.name / "tier.json", "not run"
        specs = expand(load_config([ROOT / "config" / tier.config]))
        data, runs, hours = sorted({spec.dataset for spec in specs}), f"{len(specs):,}", tier.hours
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            data = known["data"]
            runs = f"{known['runs']:,}" + (f" of {runs}" if known["runs"] < len(specs) else "")
            hours = f"{tier.hours}; {known['seconds'] / 3600:.1f} hours of its runs, added up"
            said = f"{counted(claims_of(folder / tier.name))} ([all](docs/results/{tier.name}/claims.md))"
        lines.append([tier.name, f"`{tier.command}`", ", ".join(data), runs, hours, said])
    columns = ["tier", "what runs it", "data", "trainings", "takes", "the paper's 19 claims"]
    return pd.DataFrame(lines, columns=columns).to_markdown(index=False, disable_numparse=True)


def counted(rows: pd.DataFrame) -> str:
    """`digits: 5 hold, 1 does not, 13 undecided`, of each data set."""
    parts = []
    for scale, verdicts in rows.groupby("scale", sort=False)["verdict"]:
        counts = {word: int((verdicts == verdict).sum()) for verdict, word in WORDS.items()}
        shown = {word: n for word, n in counts.items() if n or word in DECIDED}
        parts.append(
            f"{scale}: {', '.join(f'{n} {ONE.get(word, word) if n == 1 else word}' for word, n in shown.items())}"
        )
    return "; ".join(parts)


def claims_by_tier(folder: Path) -> str:
    """Every claim on every tier that was run, and data set, as Markdown. folder: docs/results."""
    columns = {"claim": [claim.text for claim in CLAIMS]}
    for tier in TIERS:
        if not (folder / tier.name / "claims.csv").exists():
            continue
        for scale, rows in claims_of(folder / tier.name).groupby("scale", sort=False):
            texts = {}
            for line in readable(rows).to_dict("records"):
                n = textwrap.shorten(str(line["from"]), 110, placeholder=" ...")
                texts[line["claim"]] = f"**{line['verdict']}** {line['measured']} ({n})".replace("  ", " ")
            columns[f"{tier.name}, {scale}"] = [texts.get(claim.text, "") for claim in CLAIMS]
    body = pd.DataFrame(columns).to_markdown(index=False, disable_numparse=True)
    made = "Made by `make docs` from the tiers' claims.csv, where the statistic of each stands."
    return f"# The claims by tier\n\n{made}\n\n{body}\n"


def claims_of(folder: Path) -> pd.DataFrame:
    """claims.csv of a tier.

    Raises: BadInput if it is missing or damaged.
    """
    columns = ["claim", "text", "where", "scale", "statistic", "value", "low", "high", "p", "verdict", "evidence"]
    try:
        return read_rows(folder / "claims.csv", columns, ["value", "low", "high", "p"])
    except BadInput as error:
        way_out = f"Make it: python -m fastat docs --results FOLDER --tier {folder.name}"
        raise BadInput(f"{folder}: {error}. {way_out}") from error
