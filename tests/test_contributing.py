"""CONTRIBUTING.md's lists of files, each tested by doing what it says in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from fastat import ROOT
from tests import fabricate


def files_named(section: str) -> set[str]:
    """The files that the section's list names, each once: lines that begin with a path in backticks."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    assert text, f"CONTRIBUTING.md has no section {section!r}"
    return set(re.findall(r"^- `([^`]+)`", text, re.MULTILINE))


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the files that git knows, or would."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n"):
        if name and (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def made_up(tmp_path_factory) -> Path:
    """A results folder of made-up runs."""
    folder, who = tmp_path_factory.mktemp("results"), fabricate.runs(96, 2)
    fabricate.write(folder, who)
    fabricate.correct(who).to_csv(folder / "correct.csv", index=False)
    return folder


def edit(checkout: Path, section: str, edits: dict[str, list[tuple[str, str]]]) -> None:
    """Change the files that the section names, and no others. path -> [(what stands there, what comes before it)].

    A file that is not there yet is written: [("", its text)].
    """
    assert set(edits) == files_named(section)
    for name, changes in edits.items():
        for mark, added in changes:
            old = (checkout / name).read_text() if mark else ""
            assert not mark or old.count(mark) == 1, f"{name}: {mark!r}"
            (checkout / name).write_text(old.replace(mark, added + mark) if mark else added)


def python(checkout: Path, *words: str) -> str:
    """What `python -m` says there."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def fastat(checkout: Path, *arguments: str) -> str:
    """What `python -m fastat` says there."""
    return python(checkout, "fastat", *arguments)


def own_config(folder: Path, dataset: str, model: str, method: str) -> Path:
    """A config of one's own, of the smallest run."""
    config = folder / "own.yaml"
    config.write_text(
        f"grid: [{{dataset: {dataset}, model: {model}, eps: 77/255, method: {method}, seed: 0}}]\n"
        f"recipes: {{{dataset}: {{every: {{epochs: 1, n_train: 128, n_test: 16}}}}}}\n"
        "evaluation: {autoattack: {n_images: 10, batch_size: 10}}\n"
    )
    return config


def train_and_attack(checkout: Path, dataset: str, model: str) -> None:
    """A smallest run."""
    run, config = f"{dataset}/{model}/eps77/fgsm_rs/paper/seed0", own_config(checkout, dataset, model, "fgsm_rs")
    assert "1 runs: the config is good" in fastat(checkout, "check", "--configfile", str(config))
    fastat(checkout, "data", "--dataset", dataset, "--out", f"results/data/{dataset}.safetensors")
    for verb in (("train",), ("evaluate", "--suite", "whitebox")):
        fastat(checkout, verb[0], "--run", run, "--configfile", str(config), *verb[1:])
    assert "pgd50" in (checkout / f"results/runs/{run}/eval/whitebox.csv").read_text()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but what Python caches."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "cache" not in str(path.relative_to(folder)))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_another_method(checkout, tmp_path_factory):
    before, name = contents(checkout), "demo_method"
    said = fastat(checkout, "new-method", name)
    touched = {path for path, content in contents(checkout).items() if content != before.get(path)}
    assert touched == {path.replace("newone", name) for path in files_named("Another method")}
    assert all(path in said for path in touched) and "newone" not in (checkout / f"methods/{name}.py").read_text()

    assert "failed" not in python(checkout, "pytest", "tests/methods", "-k", name, "-p", "no:cacheprovider")
    folder = tmp_path_factory.mktemp("smoke")
    config = own_config(folder, "digits", "preact_tiny", name)
    python(checkout, "snakemake", "--cores", "2", "--directory", str(folder), "--configfile", str(config))
    assert f"| {name}" in (folder / "results/tables/table2.md").read_text()
    assert name in (folder / "results/report/index.html").read_text()


def test_another_data_set(checkout):
    reader = """def _half(source: Path) -> dict[str, Tensor]:
    return {key: rows[: len(rows) // 2] for key, rows in _digits(source).items()}


"""
    edits = {
        "fastat/config/catalog.py": [('    "fashion_mnist"', '    "half": DatasetFacts((1, 8, 8), 10, 718, 180),\n')],
        "fastat/data/sources.py": [
            ("# Data set, or door", reader),
            ('    "digits": ours(_digits', '    "half": ours(_half, "scikit-learn"),\n'),
        ],
        "config/recipes.yaml": [("  fashion_mnist:\n", "  half: *digits\n")],
        "config/config.yaml": [("digits: 77/255,", "half: 77/255, ")],
    }
    edit(checkout, "Another data set", edits)
    train_and_attack(checkout, "half", "preact_tiny")


def test_another_network(checkout):
    edits = {"fastat/networks/models.py": [('    "preact_small"', '    "narrow": Size("preact", 4, (1, 1)),\n')]}
    edit(checkout, "Another network", edits)
    train_and_attack(checkout, "digits", "narrow")


def test_another_claim(checkout, made_up):
    claim = '''def clean_is_learnt(evidence: Evidence) -> Found:
    """The lowest clean accuracy of ATAS."""
    least = float(evidence.runs_of("atas", needs="clean")["clean"].min())
    return {"value": least, "verdict": "holds" if least > 50 else "does not hold", "evidence": "made up"}


'''
    line = '    Claim("learnt", "ATAS learns", "nowhere", "clean accuracy, %", clean_is_learnt),\n'
    edits = {"fastat/report/claims.py": [("CLAIMS = (\n", claim), ('    Claim(\n        "atas-atta",', line)]}
    edit(checkout, "Another claim", edits)
    fastat(checkout, "judge", "--results", str(made_up))
    found = pd.read_csv(made_up / "claims.csv")
    found = found[found["claim"] == "learnt"]
    assert len(found) == 1 and (found["verdict"] == "holds").all() and found["value"].between(60, 95).all()


def test_another_check(checkout, made_up):
    check = '''def clean_is_high(wide: pd.DataFrame) -> pd.DataFrame:
    """Clean accuracy, in %."""
    clean, _ = values(wide, "clean")
    return judged("clean >= 20", clean, pd.Series(20.0, index=wide.index), -1)


'''
    edits = {
        "fastat/report/sanity.py": [
            ("CHECKS = (\n", check),
            ('    no_more_than("aa <= pgd50"', "    clean_is_high,\n"),
        ],
        "docs/warnings.md": [("| `inside` below", "| `clean >= 20` fails | it learnt nothing | train longer |\n")],
    }
    edit(checkout, "Another check of networks", edits)
    fastat(checkout, "judge", "--results", str(made_up))
    found = pd.read_csv(made_up / "sanity.csv")
    assert (found[found["check"] == "clean >= 20"]["holds"] == 1).all()


def test_another_figure(checkout, made_up):
    gather = '''def newone(grid: Grid) -> Parts:
    """Clean accuracy of every run."""
    yield grid.runs.dropna(subset=["clean"])


'''
    draw = '''def newone(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Clean accuracy by method."""
    figure, ((axes,),) = style.panels(1, 1)
    axes.scatter(rows["method"], rows["clean"])
    return figure, f"Clean accuracy ({style.where(rows)})."


'''
    edits = {
        "fastat/report/contents.py": [('"curves", ', '"newone", ')],
        "fastat/report/figure_data.py": [
            ("# Name: (columns", gather),
            ('    "curves": (', '    "newone": ([*RUN, "clean"], newone),\n'),
        ],
        "fastat/report/figures/__init__.py": [
            ('    "curves": (', '    "newone": (comparisons.newone, "any evaluated run"),\n')
        ],
        "fastat/report/figures/comparisons.py": [("def cost_robustness(", draw)],
        "workflow/report/newone.rst": [("", "Clean accuracy by method.\n")],
    }
    edit(checkout, "Another figure", edits)
    fastat(checkout, "figure-data", "--results", str(made_up))
    out = checkout / "figures"
    fastat(checkout, "draw", "--data", str(made_up / "figures"), "--out", str(out), "--only", "newone")
    assert (out / "newone.txt").read_text().startswith("Clean accuracy (digits, preact_tiny")
    assert (out / "newone.svg").stat().st_size > 1000
    planned = python(checkout, "snakemake", "--dry-run", "--cores", "1", "figures/newone.svg")
    assert "figures/newone.svg" in planned
