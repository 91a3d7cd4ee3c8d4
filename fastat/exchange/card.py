"""What an exported run says of itself: README.md, a model card, and robustbench.json. Facts alone; never torch."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fastat import __version__
from fastat.config import catalog
from fastat.config.attack_names import WITHOUT_APGD_T, is_name, parse, parts_for
from fastat.config.method_files import title
from fastat.config.recipe import method_names
from fastat.config.spec import RunSpec
from fastat.exchange.citation import paper_of
from fastat.report import sanity
from fastat.report.markup import code, in_markdown, one_line
from fastat.report.methods import called
from fastat.report.results import of_rows
from fastat.report.statistics import wilson
from fastat.report.tidy import MEASURED, Number, apart, evaluated
from fastat.report.verify import Checked
from fastat.training import collapse
from fastat.units import eps_text

HARDNESS = ("clean", "fgsm", "pgd10", "pgd50", "aa")  # the order of the table; other attacks follow
NAMES = {"fgsm": "FGSM", "pgd10": "PGD10", "pgd50": "PGD50", "aa": "AutoAttack"}
CHECKS = ("noise", "far", "gradient", "inside", "robust_train_loss")  # numbers of the sanity panel, no accuracies
LINF = "L-infinity"
SAID = {"commit": "git_commit", "device": "device", "numerics": "numerics"}  # row of the card -> key of run.json


@dataclass(frozen=True)
class Score:
    """An accuracy in % on n images, with the 95 % interval that so few leave. epoch: `last` or `best`."""

    attack: str
    epoch: str
    value: float
    low: float
    high: float
    n: int


def scores(run: Checked) -> list[Score]:
    """The accuracies of a run, easiest attack first, those of the best epoch last."""
    found = []
    for metric, _, value, n in evaluated(run.rows):
        epoch = "best" if metric.startswith("best_") else "last"
        attack = metric.removeprefix("best_")
        if attack not in CHECKS and not attack.startswith("broken_"):
            percent, images = float(str(value)), int(str(n))
            found.append(Score(attack, epoch, percent, *wilson(percent, images), images))
    rank = {attack: k for k, attack in enumerate(HARDNESS)}
    return sorted(found, key=lambda one: (one.epoch == "best", rank.get(one.attack, len(rank)), one.attack))


def panel(spec: RunSpec, numbers: list[Number]) -> tuple[str, list[str]]:
    """The sanity panel's word on the run, and the checks that failed. numbers: what tidy.py makes of it."""
    who = [*{**spec.wildcards, "eps": eps_text(spec.eps_255)}.values()]
    rows = [[*who, *(None if value == "" else value for value in row)] for row in numbers]
    found = sanity.panel(of_rows(pd.DataFrame(rows, columns=MEASURED)).runs)
    word = str(found["verdict"].iloc[0]) if len(found) else "not measured"
    return word, found.loc[found["holds"] == 0, "check"].astype(str).tolist()


def robustbench_json(spec: RunSpec, run: Checked, of_network: str) -> str:
    """The run in the form of RobustBench's model_info: only what is known; who submits it adds what is not.

    Accuracies there are on test images as they are: of other images it has none.
    """
    assert run.about is not None
    recipe = run.about["recipe"]
    paper, by = paper_of(spec.method), {one.attack: one for one in scores(run) if one.epoch == "last"}
    of_paper = {"link": paper.link, "name": paper.title, "authors": paper.authors} if paper else {}
    entry: dict[str, Any] = {**of_paper, **({"additional_data": False} if is_ours(spec) else {})}
    entry |= {"number_forward_passes": 1, "dataset": spec.dataset, **({"venue": paper.venue} if paper else {})}
    entry |= {"architecture": of_network, "eps": eps_text(spec.eps_255)}
    named = {"clean": "clean_acc", "aa": "autoattack_acc"}
    entry |= {name: f"{by[attack].value:.2f}" for attack, name in named.items() if attack in by and not apart(recipe)}
    how = f"trained by fastat {__version__}, method {called(spec.method, spec.variant)}, seed {spec.seed}"
    note = (
        f"One network, {how}." if is_ours(spec) else f"A network trained elsewhere, attacked by fastat {__version__}."
    )
    if apart(recipe):
        note += f" It was attacked on {images_of(recipe)}: its accuracy on test images as they are is not known."
    elif "aa" in by and "clean" in by and by["aa"].n != by["clean"].n:
        note += f" AutoAttack on {by['aa'].n} of {by['clean'].n} test images."
    return json.dumps({**entry, "footnote": note}, indent=2) + "\n"


def images_of(recipe: dict[str, Any]) -> str:
    """Which images were attacked, in words."""
    border = " with a black border (`--protocol released`)" if recipe.get("protocol") == "released" else ""
    return f"{'training' if recipe.get('part') == 'train' else 'test'} images{border}"


def is_ours(spec: RunSpec) -> bool:
    """Whether fastat trained it."""
    return spec.method in method_names()


def readme(spec: RunSpec, run: Checked, facts: dict[str, Any]) -> str:
    """The model card.

    facts: `network` (in words), `files` (name -> what it is), `weights` (name -> sha256), `needs` (what load.py needs),
    `data` (sha256 of the prepared data set), `sanity` (the panel's word and what failed), `logits` (as load.py prints).
    """
    assert run.about is not None
    parts = [
        f"# {called(spec.method, spec.variant)} on {spec.dataset} at eps {eps_text(spec.eps_255)}, seed {spec.seed}",
        origin(spec, run, facts["network"]),
        f"## Numbers\n\n{numbers(run, *facts['sanity'])}",
        f"## Use\n\n{use(spec, facts)}",
        f"## Recipe\n\n{recipe(run.about)}",
        f"## Data\n\n{data(spec, run.about, facts['data'])}",
        f"## What was verified\n\n{verified(run, facts['weights'])}",
        "## Files\n\n" + "\n".join(f"- `{name}`: {text}" for name, text in facts["files"].items()),
        f"## Licence and citation\n\n{licence(spec)}",
    ]
    return "\n\n".join(parts) + "\n"


# The parts of the card


def origin(spec: RunSpec, run: Checked, network: str) -> str:
    """What the network is and where it comes from."""
    about = run.about or {}
    rows = {
        "run": f"`{spec.name}`",
        "network": in_markdown(network)
        + (f", {about['n_parameters']:,} parameters" if "n_parameters" in about else ""),
        "threat model": f"{LINF}, eps {eps_text(spec.eps_255)} of pixels in [0, 1]",
        "method": f"{one_line(title(spec.method))} Recipe `{spec.variant}`." if is_ours(spec) else spec.method,
        "trained": in_markdown(trained(spec, run) if is_ours(spec) else elsewhere(about.get("source"))),
        "made by": in_markdown(in_words(about.get("versions"))),
        **{name: in_markdown(about.get(key) or "") for name, key in SAID.items()},
    }
    return "| | |\n| --- | --- |\n" + "\n".join(f"| {name} | {text} |" for name, text in rows.items() if text)


def in_words(versions: dict[str, Any] | None) -> str:
    """`fastat 2.0, torch 2.14`."""
    return ", ".join(f"{name} {version}" for name, version in (versions or {}).items())


def elsewhere(source: Any) -> str:
    """Where a checkpoint of others comes from. source: of its run.json."""
    known = source if isinstance(source, dict) else {}
    return f"elsewhere; read from {known.get('file', 'a file')}, sha256 {known.get('sha256', 'unknown')}"


def trained(spec: RunSpec, run: Checked) -> str:
    """How long, and what came of it."""
    about = run.about or {}
    if "epochs_done" not in about:
        return ""
    said = f"{about['epochs_done']} epochs in {about.get('train_seconds', 0):.0f} s, {about.get('status')}"
    fgsm, pgd10 = (run.log[f"{attack}_acc"].tolist() for attack in ("fgsm", "pgd10"))
    fell = collapse.detect(fgsm, pgd10, catalog.required(spec.dataset).n_classes)
    if fell.first:
        kept = "at the end" if fell.at_end else "not at the end"
        said += f"; catastrophic overfitting from epoch {fell.first}, {kept}" + (
            ", not robust before" if not fell.lost else ""
        )
    return f"{said}; best of the held-out images at epoch {about['best_epoch']}" if "best_epoch" in about else said


def numbers(run: Checked, verdict: str, failed: list[str]) -> str:
    """The table of accuracies with what is not the standard, the sanity panel, and the protocols."""
    assert run.about is not None
    attacks = {one.attack for one in scores(run)}
    parts = parts_for(catalog.required(RunSpec.parse(run.name).dataset).n_classes)
    rows = [
        f"| {one.epoch} | {NAMES.get(one.attack, one.attack)} | {one.value:.2f} | {one.low:.1f} to {one.high:.1f} "
        f"| {one.n} |"
        for one in scores(run)
    ]
    if not rows:
        return "It was not attacked."
    table = f"Accuracy on {images_of(run.about['recipe'])}.\n\n"
    table += "| epoch | attack | accuracy in % | 95 % interval | images |\n| --- | --- | --- | --- | --- |"
    why = f" ({'; '.join(failed)})" if failed else ""
    said = "\n".join([table, *rows])
    said += "".join(f"\n\n`{name}`: {parse(name).in_words()}." for name in sorted(attacks) if is_name(name))
    few = "apgd-t" not in parts and any(name == "aa" or name.startswith("autoattack") for name in attacks)
    said += f"\n\n{WITHOUT_APGD_T}." if few else ""
    said += "\n\nThe interval is Wilson's, of so many images; of other seeds it says nothing.\n\n"
    said += f"Sanity: **{verdict}**{why}, by the checks for masked gradients in fastat's docs/warnings.md.\n\n"
    said += "Protocols, by file of `evidence/eval`:\n\n"
    lines = [
        f"- {name}: {code(json.dumps(about['protocol']))}, "
        + in_markdown(f"numerics {about.get('numerics')}, {in_words(about.get('versions'))}")
        for name, about in run.sidecars.items()
        if "correct" in run.rows.get(name, {})
    ]
    return said + "\n".join(lines)


def use(spec: RunSpec, facts: dict[str, Any]) -> str:
    """How it is loaded, and how it goes back into fastat."""
    return f"""`load.py` needs {facts["needs"]}, not fastat:

```python
from load import load

network = load()  # in eval mode: pixels in [0, 1] -> logits
```

`python load.py` prints the first ten logits of one image, from dark to bright. They were, here:

```text
{facts["logits"]}
```

`sha256sum -c SHA256SUMS` checks the files. With fastat, `python -m fastat import FOLDER` puts the run back into
`results`, as `{spec.name}`, for `verify`, `evaluate` and the report."""


def recipe(about: dict[str, Any]) -> str:
    """Every value of the training."""
    said = {"recipe": about.get("recipe"), **({"config": about["config"]} if about.get("config") else {})}
    return (
        f"Every value; `config` has those of the method.\n\n```json\n{json.dumps(said, indent=1, sort_keys=True)}\n```"
    )


def data(spec: RunSpec, about: dict[str, Any], sha256: str) -> str:
    """What it was trained and attacked on, and how one gets it."""
    found = catalog.facts(spec.dataset)
    said, n = about.get("data") or {}, about.get("recipe") or {}
    n_train = n.get("n_train") or (found.n_train if found else "all")
    n_test = n.get("n_test") or (found.n_test if found else "all")
    words = catalog.in_words(spec.dataset, said).partition(": ")[2].rstrip(".") if "shape" in said else ""
    shown = f" ({in_markdown(words)})" if words else ""
    chosen = " No test image was used to train or to choose." if is_ours(spec) else ""
    some = f" Of the training images it saw D_{spec.subset[0]}^{spec.subset[1]} alone." if spec.subset else ""
    some += f" Of them `hold_out` {n['hold_out']} chose the best epoch." if n.get("hold_out") else ""
    return f"""`{spec.dataset}`{shown}: {n_train} training and {n_test} test images.{some}{chosen}

- sha256 of the prepared data set: `{sha256}`
- `data_sha256` of the run: {code(about.get("data_sha256"))}

{how_to_get(spec.dataset)}"""


def how_to_get(dataset: str, results: Path = Path("results")) -> str:
    """How a data set is prepared, in a sentence or two."""
    if dataset in catalog.CATALOG:
        out = shlex.quote(str(results / f"data/{dataset}.safetensors"))
        return f"The data are not part of this. Prepare them: `python -m fastat data --dataset {dataset} --out {out}`"
    return f"The data are their owner's, and not part of this. Prepare them with the config that names `{dataset}`."


def verified(run: Checked, weights: dict[str, str]) -> str:
    """What was held against what before anything was written."""
    assert run.about is not None
    lines = "\n".join(f"- `{file}`: sha256 `{found}`" for file, found in weights.items())
    return f"""`fastat verify` read every byte. run.json carries the seal of its own content, `{run.about.get("seal")}`.
What it names, and what the evaluations name, has the sha256 that they say; every attack has every image, with the
labels of the data. Then `load.py` was run: its logits and those of fastat's own network were equal to the last bit.

{lines}

Hashes show that files belong together, not who made them."""


def licence(spec: RunSpec) -> str:
    """Whose what is."""
    theirs = " and the paper of its method" if paper_of(spec.method) else ""
    return f"""`network.py` and `load.py` are code of fastat {__version__} (MIT, `LICENSE`). The licence of the weights
is for those to state who publish them; the data have their own. `CITATION.bib` has fastat{theirs}."""
