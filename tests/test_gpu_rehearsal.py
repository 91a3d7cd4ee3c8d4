"""benchmarks/gpu.py from end to end on a CPU, so that no minute of a GPU goes into finding its faults."""

import csv
import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from fastat import ROOT


@pytest.fixture
def images(tmp_path):
    """Ten classes of noise, each on its own grey."""
    rng, path = np.random.default_rng(0), tmp_path / "images.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for part, n in (("train", 40), ("test", 5)):
            for label, k in ((label, k) for label in range(10) for k in range(n)):
                file = io.BytesIO()
                pixels = (rng.random((32, 32, 3)) * 60 + 18 * label).astype("uint8")
                Image.fromarray(pixels).save(file, "JPEG")
                entry = tarfile.TarInfo(f"{part}/c{label}/{k}.jpg")
                entry.size = file.tell()
                file.seek(0)
                tar.addfile(entry, file)
    return path


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_stage_leaves_its_table(images, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--out", str(out), "--images", str(images), "--tiny"]
    command += ["--device", "cpu", "--methods", "atas,fgsm_rs", "--precisions", "float32,bf16"]
    stages = ("--stage", "contract+resume,step,replay,graph,train", "--seconds", "600")
    subprocess.run([*command, *stages], cwd=ROOT, check=True, timeout=600)
    assert not (out / "failed.csv").exists() and not (out / "train.csv").exists()
    assert {row["outcome"] for row in rows(out / "contract.csv")} == {"passed", "skipped"}
    once, again, stopped, in_the_middle = (row["weights"] for row in rows(out / "resume.csv"))
    assert once == again == stopped and in_the_middle == "True"
    assert len(rows(out / "step.csv")) == 2 * (4 + 1) and all(
        float(row["step_ms"]) > 0 for row in rows(out / "step.csv")
    )
    assert {row["why"] for row in rows(out / "graph.csv")} == {"a CPU has no CUDA graphs"}
    replayed = rows(out / "replay.csv")
    assert [row["method"] for row in replayed] == ["atas", "fgsm_rs"]
    for row in replayed:
        same = (row[key] for key in ("same_weights", "same_log", "same_instances", "stopped", "same_resumed"))
        assert set(same) == {"True"} and (row["graphs"], row["why"]) == ("", "")  # a CPU has none
    summary = (out / "summary.md").read_text()
    assert "eps8/atas/paper/seed0: finished" in summary and "'aa':" in summary
    assert "eps16/fgsm_rs/paper/seed0: finished" in summary
    again = subprocess.run([*command, "--stage", "step"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert len(rows(out / "step.csv")) == 2 * (4 + 1), again.stdout  # what is measured is not measured again
