"""A file of any kind that is cut, flipped or emptied: refused or made again, and never another number."""

import csv
import random
import shutil
from pathlib import Path

import pytest

from tests.faults import harness
from tests.faults.harness import RUN, STAGES, TRIED, content, run, stopped_at


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def flipped(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]


def digit(content: bytes, draw: random.Random) -> bytes:
    """Another digit: what stays a number."""
    at = draw.choice([k for k, byte in enumerate(content) if chr(byte).isdigit()])
    return content[:at] + bytes([48 + (content[at] - 47) % 10]) + content[at + 1 :]


def emptied(content: bytes, draw: random.Random) -> bytes:
    return b""


def zeroed(content: bytes, draw: random.Random) -> bytes:
    """As a file system leaves it whose machine lost power."""
    return bytes(len(content))


DAMAGES = (cut, flipped, digit, emptied, zeroed)
RESULTS = [  # a file of each kind, and the stages that are begun after it was damaged
    *((f"{RUN}/{name}", ("tidy", "figure-data", "judge", "page")) for name in ("run.json", "log.csv", *harness.FILES)),
    *(
        (f"{RUN}/eval/{name}", ("tidy", "figure-data", "judge", "page"))
        for name in ("whitebox.csv", "whitebox.json", "autoattack.csv", "autoattack.json", "steps.csv", "surfaces.csv")
    ),
    ("results/data/digits.safetensors", ("tidy", "figure-data", "judge", "page")),
    ("results/.hashes.json", ("tidy", "figure-data", "judge", "page")),
    *(
        (f"results/{name}", ("judge", "page"))
        for name in ("measured.csv", "correct.csv", "evidence.jsonl", ".tidy.json")
    ),
    *((f"results/{name}.csv", ("page",)) for name in ("verdicts", "claims", "pairs", "sanity", "figures/surfaces")),
    *((f"results/figures/{name}", ("judge", "draw")) for name in ("curves.csv", "fig07.csv", "about.csv")),
]
TABLES = ("measured.csv", "correct.csv", "verdicts.csv", "claims.csv", "pairs.csv", "sanity.csv")


def numbers(folder: Path) -> set[tuple[str, ...]]:
    """Every row of the tables that has a number of a run, and of the page what stands in its leaderboard."""
    found = set()
    for name in TABLES:
        if (path := folder / "results" / name).exists():
            rows = list(csv.reader(path.read_text(errors="replace").splitlines()))
            found |= {(name, *row) for row in rows[1:] if "left_out" not in row}
    return found


def drawn(folder: Path) -> set[tuple[str, str]]:
    """Every row of figures' data that stands for one run."""
    files = [folder / f"results/figures/{name}.csv" for name in ("curves", "fig10", "surfaces")]
    return {(path.name, line) for path in files for line in path.read_text(errors="replace").splitlines()}


def damaged(name: str, stages: tuple[str, ...], damage, seed: int, whole: Path, folder: Path) -> None:
    shutil.copytree(whole, folder, symlinks=True)
    path, draw = folder / name, random.Random(f"{name} {damage.__name__} {seed}")
    before = path.read_bytes()
    path.write_bytes(damage(before, draw))
    table = path.name in TABLES and path.parent.name == "results"
    for stage in stages:
        done = run(folder, STAGES[stage])
        assert "Traceback" not in done.said, f"{stage}: {done.said}"
        assert done.code in (0, 2), done.said
    TRIED[damage.__name__, name.removeprefix(f"{RUN}/")] += 1
    for row in numbers(folder) - numbers(whole):
        # what was left out leaves blanks and other counts; nothing that was measured may have another value
        assert table or row[0] != "measured.csv" or row[7] in ("unverified",), row
        assert table or row[0] != "correct.csv", row
    if "figure-data" in stages:
        assert drawn(folder) <= drawn(whole)
    if table:  # what was made from it is as before, or was not made
        for other in ("results/tables/table1.csv", "results/tables/supplement.csv"):
            assert (folder / other).read_bytes() == (whole / other).read_bytes()
        if name in page_reads(folder):
            assert before == path.read_bytes() or "is not what" in (folder / "results/report/index.html").read_text()


def page_reads(folder: Path) -> set[str]:
    """What the page is made from."""
    return {f"results/{name}" for name in TABLES if name != "correct.csv"}


QUICK = ["results/measured.csv", f"{RUN}/run.json", f"{RUN}/eval/autoattack.csv"]


@pytest.mark.parametrize("name,stages", [one for one in RESULTS if one[0] in QUICK])
def test_a_digit_that_is_another_becomes_no_number(name, stages, whole, tmp_path):
    damaged(name, [stage for stage in stages if stage in ("tidy", "judge", "page")], digit, 0, whole, tmp_path / "a")


@pytest.mark.faults
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name,stages", RESULTS)
def test_every_kind_of_file_damaged(name, stages, damage, whole, tmp_path):
    for seed in range(2 if damage in (cut, flipped, digit) else 1):
        damaged(name, stages, damage, 1 + seed, whole, tmp_path / str(seed))


@pytest.mark.faults
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "stage,pattern", [("train", "state/state.safetensors"), ("autoattack", "state/autoattack-*.csv")]
)
def test_a_state_that_is_damaged_is_refused_and_removed_the_stage_ends_as_ever(stage, pattern, damage, whole, tmp_path):
    for seed in range(3):
        folder = stopped_at(stage, 0.5, whole, tmp_path / str(seed))
        (path, *_) = sorted((folder / RUN).glob(pattern))
        before, draw = path.read_bytes(), random.Random(f"{stage} {damage.__name__} {seed}")
        path.write_bytes(damage(before, draw))
        done = run(folder, STAGES[stage])
        TRIED[damage.__name__, pattern] += 1
        if done.code:
            assert done.code == 2 and "rm results/runs" in done.said and "Traceback" not in done.said, done.said
            path.unlink()
            assert run(folder, STAGES[stage]).code == 0
        else:
            assert path.name.startswith("autoattack") or damage(before, random.Random(0)) == before
        assert content(folder) == content(whole)
