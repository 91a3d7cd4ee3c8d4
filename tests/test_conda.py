"""`--use-conda` through a stand-in for conda: environments are solved, made, entered, and pip finds the locks."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from fastat import ROOT

pytest.importorskip("rattler", reason="no py-rattler here (pip install py-rattler): --use-conda is not tried")

PYTHON = f'#!/bin/sh\n[ -z "$CONDA_PREFIX" ] || echo "$@" >> "$CONDA_PREFIX/ran"\nexec {sys.executable} "$@"\n'
PACKAGES = {"python": ("3.11.9", {"bin/python": PYTHON}), "pip": ("25.0", {}), "conda": ("25.1.0", {})}


def package(name: str, version: str, files: dict[str, str]) -> tuple[bytes, dict]:
    """A conda package for every platform, and its line of repodata.json."""
    record = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": [], "subdir": "noarch"}
    paths = [
        {
            "_path": path,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "size_in_bytes": len(text),
        }
        for path, text in files.items()
    ]
    inside = {
        "info/index.json": json.dumps({**record, "noarch": "generic"}),
        "info/files": "".join(f"{path}\n" for path in files),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
        **files,
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:bz2") as tar:
        for path, text in inside.items():
            about = tarfile.TarInfo(path)
            about.size, about.mode = len(text.encode()), 0o755
            tar.addfile(about, io.BytesIO(text.encode()))
    content = out.getvalue()
    sums = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content).hexdigest(),
        "size": len(content),
    }
    return content, {**record, "noarch": "generic", **sums}


@pytest.fixture(scope="module")
def conda(tmp_path_factory) -> dict[str, str]:
    """An environment in which there is a conda with a channel of three packages."""
    root = tmp_path_factory.mktemp("conda")
    lines = {}
    for subdir in ("noarch", "linux-64"):
        (root / "channel" / subdir).mkdir(parents=True)
    for name, (version, files) in PACKAGES.items():
        content, line = package(name, version, files)
        (root / f"channel/noarch/{name}-{version}-0.tar.bz2").write_bytes(content)
        lines[f"{name}-{version}-0.tar.bz2"] = line
    for subdir, found in (("noarch", lines), ("linux-64", {})):
        repodata = {"info": {"subdir": subdir}, "packages": found, "packages.conda": {}}
        (root / f"channel/{subdir}/repodata.json").write_text(json.dumps(repodata))
    (root / "bin").mkdir()
    (root / "bin/activate").write_text('export CONDA_PREFIX="$1"; export PATH="$1/bin:$PATH"\n')
    (root / "bin/conda").write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/stand_in_conda.py "$@"\n')
    (root / "bin/conda").chmod(0o755)
    path = f"{root}/bin{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "CONDA_ROOT": str(root), "CHANNEL": str(root / "channel")}


def locked() -> list[str]:
    """The packages of both locks, as pip reads them on Linux."""
    texts = ((ROOT / f"requirements/{part}.lock").read_text() for part in ("torch", "suite"))
    return re.findall(r"^([a-z0-9-]+==[^ ;]+)", "\n".join(texts), re.MULTILINE)


def installed(prefix: Path) -> list[str]:
    return [re.split("[ ;]", line)[0] for line in (prefix / "pip.txt").read_text().splitlines()]


def test_environment_yml_is_solved_and_its_pip_reads_every_pin_of_the_locks(conda, tmp_path):
    command = ["conda", "env", "create", "--file", str(ROOT / "environment.yml"), "--prefix", str(tmp_path / "made")]
    subprocess.run(command, env=conda, check=True, cwd=tmp_path)
    assert installed(tmp_path / "made") == locked()
    assert {path.name.rpartition("-")[0] for path in (tmp_path / "made/conda-meta").glob("*.json")} == {
        f"{name}-{version}" for name, (version, _) in PACKAGES.items()
    }


def test_jobs_of_use_conda_run_in_an_environment_of_the_locks(conda, tmp_path):
    """In another folder than the clone's: Snakemake copies the environment's file there, away from the locks."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--directory", str(tmp_path), "--use-conda"]
    command += ["--workflow-profile", str(ROOT / "profiles/default"), "--configfile", str(ROOT / "config/smoke.yaml")]
    command += ["--", "results/data/digits.safetensors"]
    done = subprocess.run(command, env=conda, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (prefix,) = {path.parent for path in (tmp_path / ".snakemake/conda").glob("*/pip.txt")}
    assert installed(prefix) == locked()
    assert "-m fastat data --dataset digits" in (prefix / "ran").read_text()
    assert (tmp_path / "results/data/digits.safetensors").is_file()
