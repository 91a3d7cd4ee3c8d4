"""benchmarks/photos.py from end to end on made-up images, so that no minute of a GPU goes into finding its faults."""

import csv
import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from fastat import ROOT

COMMAND = [sys.executable, str(ROOT / "benchmarks/photos.py")]


@pytest.fixture
def images(tmp_path):
    """Ten classes of noise, each on its own grey."""
    rng, path = np.random.default_rng(0), tmp_path / "images.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for part, n in (("train", 20), ("test", 1)):
            for label, k in ((label, k) for label in range(10) for k in range(n)):
                file = io.BytesIO()
                Image.fromarray((rng.random((32, 32, 3)) * 60 + 18 * label).astype("uint8")).save(file, "JPEG")
                entry = tarfile.TarInfo(f"{part}/c{label}/{k}.jpg")
                entry.size = file.tell()
                file.seek(0)
                tar.addfile(entry, file)
    return path


def searched(images, out, *options):
    """The search, and its rows."""
    command = [*COMMAND, "--out", str(out), "--images", str(images), *options]
    done = subprocess.run(command, cwd=ROOT, check=True, timeout=300, capture_output=True, text=True)
    table = out / "settings.csv"
    rows = list(csv.DictReader(io.StringIO(table.read_text()))) if table.exists() else []
    return done.stdout, rows


def test_a_row_a_training_and_none_twice(images, tmp_path):
    options = ("--settings", "w4_b11_s2:100:2:0.1:50:plain:16,c4_8:100:1:0.1:50:crop:8:fgsm_rs+atas", "--at-once", "2")
    said, rows = searched(images, tmp_path / "out", *options)
    assert [
        (row["method"], row["epochs_done"], row["collapsed"]) for row in sorted(rows, key=lambda row: row["method"])
    ] == [
        ("atas", "1", "never"),
        ("fgsm_rs", "1", "never"),
        ("fgsm_rs/fgsm", "2", "never"),
    ]
    assert all(0 <= float(row[f"held_out_{name}"]) <= 100 for row in rows for name in ("clean", "fgsm", "pgd10"))
    assert "3 trainings ended, 0 were cut" in said
    again, the_same = searched(images, tmp_path / "out", *options)
    assert the_same == rows and "3 trainings ended, 0 were cut" in again


def test_where_the_first_collapsed_the_others_follow(images, tmp_path):
    """A row of a collapsed training stands in for one; nothing is trained again, and of the others each once."""
    out = tmp_path / "out"
    options = ("--settings", "w4_b11_s2:100:1:0.1:50:plain:16", "--after", "fgsm_rs,pgd10")
    _, (row,) = searched(images, out, *options)
    text = (out / "settings.csv").read_text().replace(",never,", ",at the end,")
    (out / "settings.csv").write_text(text)
    _, rows = searched(images, out, *options)
    assert [one["method"] for one in rows] == ["fgsm_rs/fgsm", "fgsm_rs", "pgd10"] and row["collapsed"] == "never"


def test_the_time_limit_keeps_the_epochs_of_what_it_cuts(images, tmp_path):
    settings = "w4_b11_s2:100:5000:0.1:50:plain:16"
    said, rows = searched(images, tmp_path / "out", "--settings", settings, "--seconds", "25")
    assert not rows and "0 trainings ended, 1 were cut" in said
    assert "cut: w4_b11_s2-100-5000-0.1-50-plain-16-fgsm_rs+fgsm-0 " in said
    epochs = list(csv.DictReader(io.StringIO((tmp_path / "out/epochs.csv").read_text())))
    assert [row["epoch"] for row in epochs] == [str(n + 1) for n in range(len(epochs))]
    assert epochs and all(0 <= float(row["pgd10_acc"]) <= 1 for row in epochs)


@pytest.mark.parametrize(
    "setting", ["tiny:100:1:0.1:50:plain:16", "w4_b11_s2:100:1:0.1:50:flip:16", "w4_b11_s2:100:x:fgsm_rs"]
)
def test_what_is_no_setting_is_refused_before_the_images_are_read(tmp_path, setting):
    command = [*COMMAND, "--out", str(tmp_path / "out"), "--images", "none.tar", "--settings", setting]
    done = subprocess.run(command, cwd=ROOT, timeout=100, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr and setting in done.stderr
