"""Rubbish in, one sentence out: random damage to configs, recipes and the files of runs, and what came of it.

    python benchmarks/fuzz.py configs 20000 --seed 0
    python benchmarks/fuzz.py recipes 5000
    python benchmarks/fuzz.py rows 5000 --results results    # damages copies of two of its finished runs

A config or recipe must be taken or refused (BadInput). Of damaged files every number that is still gathered must be the
one that was gathered before. Prints the counts, and each fault once; exit code 1 if there is any.
"""

import argparse
import json
import logging
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from fastat.config.grid import check_config, load_config, overlay
from fastat.config.recipe import Recipe, resolve
from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.report import tidy

RUBBISH: list[Any] = [
    None, 0, -1, 1, 2.5, 50.0, 1e300, 10**400, float("nan"), float("inf"), True, False, "", "x", "77/255", "8", "1 eps",
    "0.5*eps", "-3/255", "5e-4", "off", "{best}", "é\u202e", [], [1], ["a"], [None],
    [[0, 1], [30, 0]], {}, {"by_eps": 3},
    {"by_eps": {77: 1}}, {"by_model": {"other": 1}}, {"by_model": {"other": {"by_eps": {77: 2}}}}, {1: 2}, b"x", (1, 2),
]  # fmt: skip
TOP = [
    "grid",
    "extra_grid",
    "table1_eps",
    "evaluation",
    "numerics",
    "device",
    "runs_per_gpu",
    "cuda_graphs",
    "processes",
]
OF_EVALUATION = ["batch_size", "pgd_step", "pgd_restarts", "seed", "autoattack", "attacks", "datasets", "nope"]
OF_SCHEDULE = ["kind", "lr", "milestones", "factor", "cycle_momentum", "points", "momentum_points", "nope"]
NAME = "digits/preact_tiny/eps77/atas/paper/seed0"


def main() -> int:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("configs", "recipes", "rows"))
    parser.add_argument("n", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("results"))
    args = parser.parse_args()
    logging.disable()
    dice = random.Random(args.seed)
    counts: Counter[str] = Counter()
    faults: dict[str, str] = {}
    trials = {"configs": configs, "recipes": recipes, "rows": lambda dice: rows(dice, args.results)}[args.what](dice)
    for _ in range(args.n):
        words, trial = next(trials)
        try:
            counts[trial()] += 1
        except BadInput:
            counts["refused"] += 1
        except Exception as error:  # what this looks for
            faults.setdefault(f"{type(error).__name__}: {error}"[:160], str(words))
            counts["FAULT"] += 1
    print(args.what, dict(counts))
    for fault, words in faults.items():
        print(f"  {fault}\n    from {words}")
    return int(bool(faults))


def configs(dice: random.Random):
    """Configs with one or two rubbish values somewhere."""
    base, fields = load_config(), list(Recipe.__dataclass_fields__)
    block = {"dataset": "digits", "model": "preact_tiny", "eps": "77/255", "method": "atas", "seed": 0}

    def spoilt() -> dict[str, Any]:
        kind = dice.choice(["top", "recipe", "recipe", "schedule", "params", "block", "evaluation", "attack"])
        rubbish, whose = dice.choice(RUBBISH), dice.choice(["every", "atas", "atas/paper", "atas/c04", "nuat", "nope"])
        if kind == "top":
            return {dice.choice([*TOP, "data_dir", "recipes", "nope"]): rubbish}
        if kind == "block":
            return {"grid": [block | {dice.choice([*block, "nope"]): rubbish}]}
        if kind == "evaluation":
            return {"evaluation": {dice.choice(OF_EVALUATION): rubbish}}
        if kind == "attack":
            return {"evaluation": {"autoattack": {dice.choice(["n_images", "batch_size", "nope"]): rubbish}}}
        fields_of = {
            "recipe": {dice.choice([*fields, "nope"]): rubbish},
            "schedule": {
                "schedule": {dice.choice(OF_SCHEDULE): rubbish, dice.choice(OF_SCHEDULE): dice.choice(RUBBISH)}
            },
            "params": {"params": {dice.choice(["alpha", "gamma_over_c", "c", "beta", "nope"]): rubbish}},
        }[kind]
        return {"recipes": {dice.choice(["digits", "digits", "digit"]): {whose: fields_of}}}

    def check(config: dict[str, Any]) -> str:
        check_config(config)
        return "taken"

    while True:
        change = spoilt()
        if dice.random() < 0.3:
            change = overlay(change, spoilt())
        config = overlay(base, change)
        yield change, lambda config=config: check(config)


def recipes(dice: random.Random):
    """The JSON of a recipe, with rubbish values, cuts, and characters that do not belong there."""
    good = json.loads(resolve(RunSpec.parse(NAME), load_config()).to_json())

    def check(text: str) -> str:
        recipe = Recipe.from_json(text)
        assert Recipe.from_json(recipe.to_json()) == recipe, "is not what its own JSON says"
        return "taken"

    while True:
        one = json.loads(json.dumps(good))
        for _ in range(dice.choice([1, 1, 2])):
            place = dice.choice([one, one, one["schedule"]]) if isinstance(one.get("schedule"), dict) else one
            place[dice.choice([*place, "nope"])] = dice.choice([r for r in RUBBISH if not isinstance(r, bytes)])
        text = json.dumps(one)
        if dice.random() < 0.2:
            at = dice.randrange(len(text))
            text = dice.choice([text[:at], text[:at] + dice.choice('"{}[],:x\0') + text[at + 1 :], "[" * 10_000])
        yield text[:300], lambda text=text: check(text)


def rows(dice: random.Random, results: Path):
    """Two finished runs, one file of which is damaged."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    whole = [path.parent for path in sorted((results / "runs").rglob("run.json")) if (path.parent / "eval").exists()]
    runs = [folder / "runs" / path.relative_to(results / "runs") for path in whole[:2]]
    for source, run in zip(whole, runs, strict=False):
        shutil.copytree(source, run)
    shutil.copytree(results / "data", folder / "data")
    files = [
        path.relative_to(run)
        for run in runs[:1]
        for path in run.rglob("*")
        if path.is_file() and "state" not in path.parts
    ]

    def numbers() -> dict[tuple[str, ...], str]:
        table = pd.read_csv(folder / "out/measured.csv", dtype=str, keep_default_na=False)
        table = table[~table["metric"].isin(["left_out", "unverified"])]
        return {tuple(row[:-2]): f"{row[-2]} {row[-1]}" for row in table.itertuples(index=False, name=None)}

    def check(path: Path, damage: Any) -> str:
        content = path.read_bytes()
        try:
            damage(path, content)
            tidy.write_all(folder, folder / "out")
            found = numbers()
            assert found.items() <= good.items(), f"other numbers: {sorted(found.items() - good.items())[:3]}"
            return "the same numbers" if found == good else "numbers left out"
        finally:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
            path.write_bytes(content)

    tidy.write_all(folder, folder / "out")
    good = numbers()
    while True:
        which, file = dice.randrange(2), dice.choice(files)
        how = dice.choice(list(DAMAGES))
        other = runs[1 - which] / file
        seed = dice.random()
        damage = lambda path, content, how=how, other=other, seed=seed: DAMAGES[how](  # noqa: E731
            path, content, other, random.Random(seed)
        )
        yield f"{file}: {how} (seed {seed})", lambda path=runs[which] / file, damage=damage: check(path, damage)


def flipped(path: Path, content: bytes, _other: Path, dice: random.Random) -> None:
    """One bit."""
    at = dice.randrange(len(content))
    path.write_bytes(content[:at] + bytes([content[at] ^ (1 << dice.randrange(8))]) + content[at + 1 :])


def cell(path: Path, content: bytes, _other: Path, dice: random.Random) -> None:
    """Something else between two commas."""
    lines = content.split(b"\n")
    at = dice.randrange(len(lines))
    cells = lines[at].split(b",")
    cells[dice.randrange(len(cells))] = dice.choice(
        [b"", b"9", b"-1", b"nan", b"inf", b"1e400", b"x", b"\xff", b'"', b"0.5"]
    )
    path.write_bytes(b"\n".join([*lines[:at], b",".join(cells), *lines[at + 1 :]]))


def lines(path: Path, content: bytes, _other: Path, dice: random.Random) -> None:
    """Lines lost, doubled or in another order."""
    parts = content.split(b"\n")
    at = dice.randrange(len(parts))
    again = {
        "lost": [*parts[:at], *parts[at + 1 :]],
        "doubled": [*parts[: at + 1], *parts[at:]],
        "to the end": [*parts[:at], *parts[at + 1 :], parts[at]],
        "header": parts[:1],
    }
    path.write_bytes(b"\n".join(dice.choice(list(again.values()))))


def folder_instead(path: Path, *_: Any) -> None:
    """A folder of the same name."""
    path.unlink()
    path.mkdir()


def loop(path: Path, *_: Any) -> None:
    """A link to itself."""
    path.unlink()
    os.symlink(path, path)


DAMAGES: dict[str, Any] = {
    "a flipped bit": flipped,
    "another cell": cell,
    "other lines": lines,
    "cut": lambda path, content, _other, dice: path.write_bytes(content[: dice.randrange(len(content))]),
    "empty": lambda path, *_: path.write_bytes(b""),
    "random bytes": lambda path, content, _other, dice: path.write_bytes(dice.randbytes(dice.randrange(2000))),
    "another run's": lambda path, _content, other, _dice: path.write_bytes(other.read_bytes()),
    "lost": lambda path, *_: path.unlink(),
    "a folder": folder_instead,
    "a link to itself": loop,
}

if __name__ == "__main__":
    sys.exit(main())
