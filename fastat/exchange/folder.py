"""One finished run as a folder that needs no fastat: weights, loader, model card, evidence (docs/export.md)."""

import io
import os
import runpy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from fastat import ROOT
from fastat.config import catalog
from fastat.config.networks import Door, kind_of
from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.evaluation.run import Finished
from fastat.exchange import card, citation, contents, source
from fastat.machine import files, numerics, seals
from fastat.report import tidy, verify
from fastat.report.verify import PACKED, Checked

EPOCHS = {"weights.safetensors": "the last epoch's weights, twice", "best.safetensors": "the best epoch's, twice"}
TRIED = 16  # made-up images on which the logits must be equal
WORDS = {  # what is written besides weights and evidence
    "load.py": "gives the network",
    "network.py": "its definition",
    "README.md": "this card",
    "robustbench.json": "the facts, in the form of RobustBench's model_info",
    "CITATION.bib": "BibTeX",
    "LICENSE": "of the code",
    "evidence/": "the run as fastat has it: run.json, what that names, every verdict in eval/",
    contents.SUMS: "of every file here",
}


def write(spec: RunSpec, results: Path, out: Path, config: dict[str, Any] | None, door: Door) -> str:
    """Write the folder `out`, whole or not at all; a line that says what is in it.

    config: what the run should be; None: whatever it says it is. door: how a network that is not ours is built.
    Raises: BadInput if the folder has something in it, or the run is unfinished, unverified or damaged.
    """
    out = Path(os.path.abspath(out))
    vacant(out)
    run = contents.believed(spec.name, verify.Checker(results, config, full=True))
    assert run.about is not None
    if run.about["status"] == "diverged":
        raise BadInput(f"{spec.name} diverged ({run.about['cause']}): it has no network to give to others.")
    if run.left_out:
        absent = ", ".join(run.left_out)
        raise BadInput(f"{spec.name} came without {absent}: they must be here. {card.how_to_get(spec.dataset)}")
    finished = Finished(spec, results, torch.device("cpu"), door)
    with in_place_of(out) as folder:
        for file in finished.weights:
            write_weights(finished.folder / file, folder)
        write_evidence(spec, results, run, folder / "evidence")
        write_code(finished, run, folder)
        write_words(finished, run, folder, tried(finished, folder))
        contents.write_sums(folder)
        n, size = contents.totals(folder)
    return f"{out}: {spec.name}, {n} files, {size}. load.py gives the logits of fastat to the last bit."


def vacant(out: Path) -> None:
    """Raises: BadInput if there is something at this path."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise BadInput(f"--out {out} must be a folder, and it is a file or a link. Name another one.")
    if out.is_dir() and any(out.iterdir()):
        raise BadInput(f"--out {out} has something in it, and nothing is written over. Name another one, or empty it.")


@contextmanager
def in_place_of(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends well, and is removed else."""
    for left in contents.abandoned(out.parent):
        shutil.rmtree(left, ignore_errors=True)
    partial = contents.beside(out)
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.replace(out)
    except OSError as error:
        if error.errno not in files.WAYS_OUT or files.elsewhere(error, partial):
            raise
        raise files.unwritable(str(out), error.errno) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_weights(path: Path, folder: Path) -> None:
    """Copy a file of weights as it is, and as the plain state dict that torch.load reads."""
    contents.copy(path, folder / path.name)
    held = io.BytesIO()  # into a path, torch.save writes the path's name
    torch.save(load_file(path), held)
    (folder / f"{path.stem}.pt").write_bytes(held.getvalue())


def write_evidence(spec: RunSpec, results: Path, run: Checked, folder: Path) -> None:
    """Copy what proves the numbers, and say what of the run does not come along."""
    along = contents.evidence(results, run, with_weights=False)
    for file in along:
        contents.copy(results / "runs" / spec.name / file, folder / file)
    files.write_json(folder / PACKED, contents.packed(spec, results, run, [*along, *contents.WEIGHTS]))


def write_code(run: Finished, checked: Checked, folder: Path) -> None:
    """Write network.py, load.py and their licence."""
    facts, (door, arch) = catalog.required(run.spec.dataset), built_by(run)
    kept = {about.get("numerics") for about in checked.sidecars.values()} or {run.about.get("numerics")}
    texts = {
        "network.py": source.network_py(run.spec.model, door, facts.shape, facts.n_classes, arch),
        "load.py": source.load_py(
            run.spec.name, facts.shape, facts.n_classes, numerics.PINNED if kept == {"portable"} else {}
        ),
        "LICENSE": (ROOT / "LICENSE").read_text(encoding="utf-8"),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def built_by(run: Finished) -> tuple[Door, str]:
    """How its network is built: the door of one that is not ours, and whose rules it has of ours.

    Of a checkpoint that was trained elsewhere run.json says what was `found` of it.
    Raises: BadInput for one that pools as its authors do on padded images: no network of ours does.
    """
    found, recipe = run.about.get("found") or {}, run.about["recipe"]
    if recipe.get("protocol") == "released":
        raise BadInput(
            f"{run.spec.name} was evaluated by the protocol `released`, on padded images, and its network pools for "
            "these. Evaluate it by the usual one, and export that."
        )
    stated = {"normalise": found["normalise"]} if run.door and found.get("normalise") else {}
    return {**run.door, **stated}, found.get("arch") or recipe.get("arch") or "shared"


def tried(run: Finished, folder: Path) -> str:
    """What load.py prints; it was run, and gave the logits of our own network to the last bit, of every file.

    Raises: BadInput if it gave others.
    """
    shape = catalog.required(run.spec.dataset).shape
    x = torch.rand((TRIED, *shape), generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    loader = runpy.run_path(str(folder / "load.py"))
    for file in run.weights:
        with torch.no_grad():
            ours = run.network(file)(x)
            for name in (file, f"{Path(file).stem}.pt"):
                if not torch.equal(loader["load"](name)(x), ours):
                    raise BadInput(f"{run.spec.name}: load.py gives other logits of {name} than fastat does.")
    return str(loader["shown"]())


def write_words(run: Finished, checked: Checked, folder: Path, logits: str) -> None:
    """Write README.md, robustbench.json and CITATION.bib."""
    spec, network = run.spec, source.called(run.spec.model, *built_by(run))
    facts = {
        "network": network,
        "files": {
            **{f"{Path(file).stem}.safetensors, {Path(file).stem}.pt": EPOCHS[file] for file in run.weights},
            **WORDS,
        },
        "weights": run.weights,
        "needs": needs(run),
        "data": seals.read(folder / "evidence" / PACKED)["data"],
        "sanity": card.panel(spec, tidy.gather(run.folder, replace(checked)).numbers),
        "logits": logits,
    }
    texts = {
        "README.md": card.readme(spec, checked, facts),
        "robustbench.json": card.robustbench_json(spec, checked, spec.model),
        "CITATION.bib": citation.bibtex(spec.method),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def needs(run: Finished) -> str:
    """What load.py needs, in words."""
    if run.door and kind_of(run.door) == "factory":
        hashed = run.about.get("network") or {}
        module = run.door["factory"].partition(":")[0]
        return f"torch and the module `{module}` (sha256 `{hashed.get(module, 'unknown')}`) on PYTHONPATH"
    library = f" and {kind_of(run.door)}" if run.door else ""
    return f"torch{library} (safetensors for the files of that name)"
