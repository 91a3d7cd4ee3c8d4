"""The commands of the pages on one's own data, network, method, recipe and results, run as they stand there.

Of a page, a fenced block whose first line is `# NAME` becomes that file, and the lines of a `console` block that begin
with `$ ` are run, one after the other, in a folder with small made-up inputs. The lines below a command must be in what
it says, in that order; `...` stands for anything.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from fastat import ROOT
from fastat.networks import models

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./-]+\.\w+)\n")  # the first line of a block that is a file


def images(folder: Path, sizes: dict[str, int], side: int) -> None:
    """Made-up class folders: as many JPEG files of side x side pixels in each as `sizes` says."""
    rng = np.random.default_rng(0)
    for name, n in sizes.items():
        (folder / name).mkdir(parents=True)
        for k in range(n):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k:04}.jpg")


def own_data(folder: Path) -> None:
    """What docs/own-data.md speaks of."""
    images(folder / "photos/train", {"bird": 16, "cat": 16, "dog": 16}, 16)
    images(folder / "photos/test", {"bird": 4, "cat": 4, "dog": 4}, 16)
    images(folder / "unsorted", {"bird": 12, "cat": 12, "dog": 12}, 10)
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), np.arange(40) % 4
    np.savez_compressed(folder / "mine.npz", images=pixels, labels=labels)


def checkpoints(folder: Path) -> None:
    """What docs/checkpoints.md speaks of: a linear network by least squares, behind (x - 0.5) / 0.25 and as it is."""
    digits = load_digits()
    x, y = digits.data / 16, np.eye(10)[digits.target] - 0.1

    def fitted(seen: np.ndarray) -> dict[str, torch.Tensor]:
        solved = np.linalg.lstsq(np.hstack([seen, np.ones((len(seen), 1))]), 10 * y, rcond=1e-4)[0]
        weight, bias = (torch.tensor(part, dtype=torch.float32).contiguous() for part in (solved[:-1].T, solved[-1]))
        return {"fc.weight": weight, "fc.bias": bias}

    theirs = {f"module.{key}": tensor for key, tensor in fitted((x - 0.5) / 0.25).items()}
    torch.save({"epoch": 3, "state_dict": theirs}, folder / "theirs.pth.tar")
    torch.save({"model": fitted(x), "model_ema": fitted(x)}, folder / "averaged.pt")
    torch.save(models.build("postact_tiny", 1, 10, "nuat").state_dict(), folder / "postact.pt")


def nothing(_folder: Path) -> None:
    """The page makes its files itself."""


PAGES: dict[str, Callable[[Path], None]] = {  # page -> what makes the inputs it speaks of
    "attacks.md": nothing,
    "checkpoints.md": checkpoints,
    "export.md": nothing,
    "own-data.md": own_data,
    "own-method.md": nothing,
    "own-network.md": nothing,
    "own-recipe.md": nothing,
}


def commands(page: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command of a page with the lines below it; the files between them are written as they come."""
    for kind, text in FENCE.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        if named := FILE.match(text):
            (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / named[1]).write_text(text, encoding="utf-8")
        if kind == "console":
            for block in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, *shown = block.splitlines()
                yield command, [line for line in shown if line.strip()]


def run(command: str, folder: Path) -> str:
    """What a command says, as in the folder of the checkout; its results lie in `folder`.

    pip installs there, too, without a network: from what is beside, by the build backend that the environment has.
    """
    site = str(folder / "site-packages")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}", "OMP_NUM_THREADS": "1"}
    environment |= {"PIP_TARGET": site, "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    if command.startswith("snakemake "):
        command = command.replace("snakemake ", f"snakemake --snakefile {shlex.quote(str(ROOT / 'Snakefile'))} ", 1)
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"$ {command}\n{(done.stdout + done.stderr)[-3000:]}"
    return done.stdout + done.stderr


def pattern(lines: list[str]) -> re.Pattern[str]:
    """What a command's output must have in it: these lines in this order, spaces as many as there are."""
    parts = (r"\s+".join(map(re.escape, line.split())).replace(re.escape("..."), ".*") for line in lines)
    return re.compile(r"(?:.*\n)*?.*".join(parts))


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_it_says(page, tmp_path):
    if page == "own-method.md" and not {"pip", "setuptools"} <= {one.name for one in metadata.distributions()}:
        pytest.skip("no pip or no setuptools in this environment: the page's package cannot be installed")
    PAGES[page](tmp_path)
    n = 0
    for n, (command, shown) in enumerate(commands(page, tmp_path), 1):  # noqa: B007 (counted)
        said = run(command, tmp_path)
        assert pattern(shown).search(said), f"$ {command}\nsays\n{said[-3000:]}\nnot\n" + "\n".join(shown)
    assert n, f"docs/{page} has no command"
