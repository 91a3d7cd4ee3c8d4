"""At which size does training on photographs collapse? Small networks, few of CIFAR10's images; held-out ones judge.

    python benchmarks/photos.py --out FOLDER --images cifar10-jpeg.tar.gz --device cuda --at-once 12 --seconds 200
    python benchmarks/photos.py --out FOLDER --images cifar10-jpeg.tar.gz --settings w64_b111_s2:2000:60:0.2:64:plain:16

Each setting of WANTED, most promising first, is trained by FGSM without random start, which collapses soonest; where it
did, by the methods of AFTER as well. No test image is seen: the images are the first of the training part; the last
1,000 of it, which nothing is trained on, judge. FOLDER/settings.csv has a row for each training that ended, and what is
there is not trained again; FOLDER/epochs.csv has the epochs of all, of those that the time limit cut as well.

A setting is NETWORK:IMAGES:EPOCHS:LR:BATCH:AUGMENTATION:EPS, or that with :METHOD+METHOD where others are wanted first.
NETWORK: w16_b111_s1 is `preact_tiny`, of width 16, one block in each of three stages, first convolution with stride 1;
c16_32 has convolutions of 16 and of 32 filters, and one linear layer on all that they see, no BatchNorm (one layer of 4
filters is known to collapse: Andriushchenko and Flammarion 2020). AUGMENTATION: plain, or crop (pad 4, mirror). EPS in
255ths. The learning rate rises and falls in a triangle, as in the other small tiers.
"""

import argparse
import csv
import logging
import multiprocessing
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import numpy as np
import torch
import yaml
from torch import nn

import fastat
from fastat.attacks import fgsm, pgd
from fastat.data import prepared
from fastat.library import Diverged
from fastat.machine.seeds import generator
from fastat.networks import models
from fastat.training import collapse

DATASET = "cifar10_jpeg"
SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from Python 3.11.4 on
FIRST = "fgsm_rs/fgsm"
AFTER = ("n_fgsm", "fgsm_pgi", "atta", "pgd10")
SOON = ("fgsm_rs", "atas")  # where FGSM collapsed, these before another setting, those of AFTER behind all settings
HELD_OUT = 1000  # images, the last of the training part: every class has its share of them
WANTED = """
w32_b111_s1:5000:60:0.3:64:plain:16:fgsm_rs+atas
w64_b111_s2:10000:40:0.3:64:plain:16:fgsm_rs+atas+fgsm_rs/fgsm+n_fgsm+fgsm_pgi+atta
w64_b111_s2:10000:40:0.5:64:plain:16:fgsm_rs
w16_b2222_s1:10000:25:0.2:128:plain:16:fgsm_rs+atas
w64_b2222_s2:10000:25:0.2:128:crop:16
w64_b2222_s2:5000:40:0.2:128:plain:16
w64_b111_s2:10000:25:0.3:64:plain:16
w64_b2222_s1:10000:20:0.2:128:crop:16
w64_b2222_s2:10000:20:0.3:64:plain:16
w32_b2222_s2:10000:25:0.3:128:plain:16
w128_b111_s2:5000:40:0.3:128:plain:16
w64_b2222_s2:5000:40:0.3:128:plain:8
w64_b2222_s2:20000:12:0.3:128:plain:16
w32_b111_s1:5000:40:0.3:64:plain:16
w64_b2222_s1:5000:30:0.3:128:plain:16
w64_b2222_s2:2000:80:0.2:64:plain:16
w64_b2222_s1:10000:20:0.2:128:plain:8
w64_b111_s2:5000:40:0.3:32:plain:16
w16_b2222_s1:10000:20:0.3:128:plain:16
w128_b111_s2:10000:20:0.3:128:crop:16
w64_b2222_s2:5000:40:0.1:64:plain:12
w64_b111_s2:2000:80:0.1:64:plain:16
w16_b111_s1:5000:40:0.5:64:plain:16
w64_b111_s2:10000:25:0.3:128:plain:8
c16:10000:12:0.01:64:plain:8
"""


@dataclass(frozen=True)
class Setting:
    """All but the method. eps in 255ths."""

    network: str
    n_train: int
    epochs: int
    lr: float
    batch_size: int
    augmentation: str
    eps: int

    @classmethod
    def parse(cls, text: str) -> "Setting":
        """Of a text as the command line takes it, without methods; SystemExit if it is none."""
        if not re.fullmatch(r"(w\d+_b\d+_s\d|c\d+(_\d+)*):\d+:\d+:[\d.]+:\d+:(plain|crop):\d+", text):
            raise SystemExit(f"a setting is as w64_b111_s2:2000:60:0.2:64:plain:16 (see --help), got {text}")
        network, n_train, epochs, lr, batch, augmentation, eps = text.split(":")
        return cls(network, int(n_train), int(epochs), float(lr), int(batch), augmentation, int(eps))


Job = tuple[Setting, str]  # and a method


def jobs_of(text: str) -> list[Job]:
    """SETTING with FIRST, or SETTING:METHOD+METHOD."""
    parts = text.split(":")
    setting = Setting.parse(":".join(parts[:7]))
    return [(setting, method) for method in (parts[7].split("+") if len(parts) == 8 else [FIRST])]


def main() -> None:
    """Prepare the images, train, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for tables and the prepared images")
    parser.add_argument("--images", type=Path, required=True, help="a tar of train/CLASS/*.jpg and test/CLASS/*.jpg")
    parser.add_argument("--settings", default=WANTED, help="with commas (default: WANTED)")
    parser.add_argument("--after", default=",".join(SOON + AFTER), help="what is trained where a first one collapsed")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--at-once", type=int, default=1, help="trainings at a time")
    parser.add_argument("--seconds", type=float, default=1e9, help="then all are stopped")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    ends = time.monotonic() + args.seconds
    (args.out / "epochs").mkdir(parents=True, exist_ok=True)
    wanted = [job for text in re.split(r"[\s,]+", args.settings.strip()) for job in jobs_of(text)]
    after = [method for method in args.after.split(",") if method]
    images = images_for(args.out, args.images, max(setting.n_train for setting, _ in wanted))
    table = args.out / "settings.csv"
    with multiprocessing.get_context("spawn").Pool(
        args.at_once, ready, (args.out, args.device, args.seed, *images)
    ) as pool:
        search(pool, args.at_once, table, wanted, after, args.seed, ends)
    print(summed_up(args.out))


def images_for(out: Path, tar: Path, n_train: int) -> tuple[np.ndarray, ...]:
    """The first n_train images of the training part and their labels, and those that are held out, with theirs."""
    path = out / f"{DATASET}.safetensors"
    if not path.exists():
        with tarfile.open(tar) as archive:
            archive.extractall(out / "images", **SAFELY)
        folder = next(path.parent for path in sorted((out / "images").rglob("train")) if path.is_dir())
        config = out / "photos.yaml"
        config.write_text(yaml.safe_dump({"datasets": {DATASET: {"folder": str(folder.resolve())}}}), encoding="utf-8")
        options = ("--dataset", DATASET, "--out", str(path.resolve()), "--configfile", str(config.resolve()))
        subprocess.run([sys.executable, "-m", "fastat", "data", *options], cwd=ROOT, check=True)
    arrays = prepared.read(path).arrays
    x, y = arrays["train_images"], arrays["train_labels"]
    n_held = min(HELD_OUT, len(x) // 5)
    if n_train > len(x) - n_held:
        raise SystemExit(f"{n_train} images asked for; {len(x) - n_held} are left beside those that are held out")
    return x[:n_train], y[:n_train], x[-n_held:], y[-n_held:]


def search(pool: Any, at_once: int, table: Path, wanted: list[Job], after: list[str], seed: int, ends: float) -> None:
    """Train what is wanted, in its order, and where it collapsed the methods `after`, until the time is over."""
    waiting = list(wanted)
    running: dict[Job, Any] = {}

    def ended(job: Job, row: Mapping[str, object]) -> None:
        if job in wanted and has_collapsed(row):
            more = [(job[0], method) for method in after]
            waiting.extend(new for new in more if new not in waiting and new not in wanted)
            waiting.sort(key=rank)

    while (waiting or running) and time.monotonic() < ends:
        while waiting and len(running) < at_once:
            job = waiting.pop(0)
            if row := row_of(table, *job, seed):
                ended(job, row)
            else:
                running[job] = pool.apply_async(trained, job)
        for job in [job for job, result in running.items() if result.ready()]:
            try:
                found = running.pop(job).get()
            except Exception as error:  # whatever it is: no minute of a device is lost to one training
                print(f"{text_of(*job, seed)} failed: {type(error).__name__}: {error}", flush=True)
                continue
            write_row(table, found)
            ended(job, found)
        time.sleep(0.1)


def has_collapsed(row: Mapping[str, Any]) -> bool:
    """By the suite's rule, or just now: what begins in the last two epochs, the rule does not tell from a dip."""
    return row["collapsed"] != "never" or 3 * float(row["train_pgd10"]) < float(row["train_fgsm"])


def rank(job: Job) -> int:
    """What comes first."""
    return 0 if job[1] in SOON else 2 + AFTER.index(job[1]) if job[1] in AFTER else 1


# ---- in a process of its own

HERE: dict[str, Any] = {}  # what `ready` was given


def ready(out: Path, device: str, seed: int, *images: np.ndarray) -> None:
    """A process that trains: one thread, the images in its memory."""
    torch.set_num_threads(1)
    HERE.update(out=out, device=device, seed=seed, images=[torch.from_numpy(array) for array in images])


def trained(setting: Setting, method: str) -> dict[str, object]:
    """Train one network and attack it on the held-out images: a row of the table."""
    (x, y, x_held, y_held), device, eps = HERE["images"], HERE["device"], setting.eps / 255
    network = built(setting.network, x.shape[1:], HERE["seed"])
    name, _, variant = method.partition("/")
    lines = logging.FileHandler(HERE["out"] / "epochs" / f"{text_of(setting, method, HERE['seed'])}.log", "w", "utf-8")
    trainer = logging.getLogger("fastat.training.trainer")
    trainer.setLevel(logging.INFO)
    trainer.addHandler(lines)
    started = time.perf_counter()
    try:
        net, log = fastat.train(
            name, x[: setting.n_train], y[: setting.n_train], network, eps=eps, variant=variant or "paper",
            epochs=setting.epochs, schedule={"kind": "triangular", "lr": setting.lr}, batch_size=setting.batch_size,
            pad=4 if setting.augmentation == "crop" else 0, flip=setting.augmentation == "crop", monitor_images=128,
            precision="tf32", seed=HERE["seed"], device=device,
        )  # fmt: skip
        judged = on_held_out(net, x_held, y_held, eps, device)
    except Diverged as diverged:
        log, judged = diverged.log, {}
    finally:
        trainer.removeHandler(lines)
        lines.close()
    seconds = round(time.perf_counter() - started, 1)
    return {**key_of(setting, method, HERE["seed"]), **said(log), **judged, "seconds": seconds, "device": device}


def built(network: str, shape: torch.Size, seed: int) -> str | nn.Module:
    """What `fastat.train` takes: the name of a network that was made one of ours, or a module for images (C, H, W)."""
    if network.startswith("c"):
        torch.manual_seed(seed)
        return convolutions([int(n) for n in network[1:].split("_")], *shape)
    width, blocks, stride = (part[1:] for part in network.split("_"))
    size = models.Size("preact", int(width), tuple(int(n) for n in blocks), stem_stride=int(stride))
    models.MODELS[network] = size
    return network


def convolutions(filters: list[int], channels: int, height: int, width: int) -> nn.Module:
    """3x3 convolutions with ReLU, all but the first with stride 2, and a linear layer on the whole last map."""
    layers: list[nn.Module] = [models.Normalize(channels)]
    for place, n in enumerate(filters):
        layers += [nn.Conv2d(filters[place - 1] if place else channels, n, 3, 2 if place else 1, 1), nn.ReLU()]
    pixels = -(-height // 2 ** (len(filters) - 1)) * -(-width // 2 ** (len(filters) - 1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(filters[-1] * pixels, 10))


def on_held_out(net: nn.Module, x: torch.Tensor, y: torch.Tensor, eps: float, device: str) -> dict[str, object]:
    """Clean, FGSM and PGD10 accuracy in % on (n, C, H, W) uint8 images that nothing was trained on."""
    right = {"clean": 0, "fgsm": 0, "pgd10": 0}
    rng = generator(torch.device(device), 0, "held_out")
    for some, labels in zip(x.split(250), y.split(250), strict=True):
        pixels, classes = some.to(device).float() / 255, labels.to(device)
        with torch.no_grad():
            right["clean"] += int((net(pixels).argmax(1) == classes).sum())
        right["fgsm"] += int(fgsm(net, pixels, classes, eps).correct.sum())
        many = pgd(net, pixels, classes, eps=eps, alpha=eps / 5, n_steps=10, rng=rng)
        right["pgd10"] += int(many.correct.sum())
    return {f"held_out_{name}": round(100 * n / len(y), 1) for name, n in right.items()}


# ---- tables


def key_of(setting: Setting, method: str, seed: int) -> dict[str, object]:
    """What names a row."""
    return {**asdict(setting), "method": method, "seed": seed}


def text_of(setting: Setting, method: str, seed: int) -> str:
    """What names a file."""
    return "-".join(str(value) for value in key_of(setting, method, seed).values()).replace("/", "+")


def said(log: list[dict[str, Any]]) -> dict[str, object]:
    """Of the rows of a log: collapse by the suite's rule, the last accuracies on the watched training images in %."""
    fgsm_acc, pgd10_acc = ([row[f"{attack}_acc"] for row in log] for attack in ("fgsm", "pgd10"))
    found = collapse.detect(fgsm_acc, pgd10_acc, 10)
    word = "at the end" if found.at_end else "for a while" if found.for_a_while else "never"
    last = {f"train_{name}": round(100 * log[-1][f"{name}_acc"], 1) for name in ("clean", "fgsm", "pgd10")}
    most = round(100 * max(pgd10_acc), 1)
    return {"epochs_done": len(log), "collapsed": word, "epoch": found.first or "", **last, "train_pgd10_most": most}


def row_of(table: Path, setting: Setting, method: str, seed: int) -> dict[str, str] | None:
    """The table's row of this training; None if there is none."""
    wanted = {name: str(value) for name, value in key_of(setting, method, seed).items()}
    return next((row for row in read_rows(table) if wanted.items() <= row.items()), None)


def read_rows(table: Path) -> list[dict[str, str]]:
    """A table's rows; none where there is no table."""
    if not table.exists():
        return []
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


COLUMNS = [
    "network", "n_train", "epochs", "lr", "batch_size", "augmentation", "eps", "method", "seed", "epochs_done",
    "collapsed", "epoch", "train_clean", "train_fgsm", "train_pgd10", "train_pgd10_most", "held_out_clean",
    "held_out_fgsm", "held_out_pgd10", "seconds", "device",
]  # fmt: skip
EPOCH = ["training", "epoch", "lr", "loss", "clean_acc", "fgsm_acc", "pgd10_acc", "alpha_255", "seconds"]


def write_row(table: Path, row: Mapping[str, object]) -> None:
    """Add a row, and show it."""
    new = not table.exists()
    with open(table, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(" ".join(str(row.get(name, "")) for name in COLUMNS), flush=True)


def summed_up(out: Path) -> str:
    """The table, and the last epoch of every training that was cut. Writes epochs.csv."""
    rows, epochs = read_rows(out / "settings.csv"), epochs_of(out / "epochs")
    with open(out / "epochs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, EPOCH, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(epochs)
    ended = {text_of(Setting.parse(setting_text(row)), row["method"], int(row["seed"])) for row in rows}
    cut = {row["training"]: row for row in epochs if row["training"] not in ended}  # the last of each
    lines = [f"{len(rows)} trainings ended, {len(cut)} were cut", ",".join(COLUMNS)]
    lines += [",".join(row[name] for name in COLUMNS) for row in rows]
    return "\n".join([*lines, *("cut: " + " ".join(row.get(name, "") for name in EPOCH) for row in cut.values())])


def epochs_of(folder: Path) -> list[dict[str, str]]:
    """Every epoch of every training, from the lines that its log has."""
    rows = []
    for path in sorted(folder.glob("*.log")):
        for line in (line for line in path.read_text("utf-8").splitlines() if "seconds=" in line):  # whole ones
            row = dict(word.split("=") for word in line.split())
            rows.append({**row, "training": path.stem, "epoch": row["epoch"].partition("/")[0]})
    return rows


def setting_text(row: Mapping[str, str]) -> str:
    """The setting of a row, as the command line takes it."""
    return ":".join(row[name] for name in list(Setting.__annotations__))


if __name__ == "__main__":
    main()
