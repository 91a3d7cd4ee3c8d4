"""The wheel: built and installed without a network, it does from an empty folder what the clone does."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fastat import ROOT, __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def locked() -> dict[str, str]:
    """Package -> version of both locks."""
    texts = [(ROOT / f"requirements/{part}.lock").read_text() for part in ("torch", "suite")]
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", "\n".join(texts), re.MULTILINE))


def test_every_dependency_s_range_has_the_version_that_is_locked():
    for text in (*PROJECT["dependencies"], *EXTRAS["slurm"], *EXTRAS["dev"]):
        wanted = Requirement(text)
        assert wanted.specifier.contains(locked()[canonicalize_name(wanted.name)]), text


def test_what_the_locks_are_made_from_is_what_the_package_and_its_extras_ask_for():
    texts = [(ROOT / f"requirements/{part}.in").read_text() for part in ("torch", "suite")]
    asked = {canonicalize_name(name) for text in texts for name in re.findall(r"^[A-Za-z][\w-]*", text, re.MULTILINE)}
    ours = (*PROJECT["dependencies"], *EXTRAS["slurm"], *EXTRAS["dev"])
    assert asked == {canonicalize_name(Requirement(text).name) for text in ours} - {"setuptools"}  # pip-tools brings it


def test_every_way_to_install_checks_hashes_but_for_the_choice_that_makes_a_lock():
    lines = [
        line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line and "$(BIN)" in line
    ]
    clone = [line for line in lines if line.endswith(" -e .")]  # and nothing else
    assert len(clone) == 1 and {"--no-deps", "--no-build-isolation"} <= set(clone[0].split())
    lines.remove(clone[0])
    assert len(lines) == 4
    assert [("--require-hashes" in line, "--dry-run" in line) for line in lines].count((False, False)) == 0


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that the wheel of this clone was installed into."""
    there = {one.name for one in metadata.distributions()}
    for needed in ("pip", "setuptools"):
        if needed not in there:
            pytest.skip(f"no {needed} in this environment: the wheel cannot be built")
    clone, folder = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("installed")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "-q"]
    build = [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(clone / "dist"), str(clone)]
    subprocess.run(build, check=True)
    (wheel,) = (clone / "dist").glob("*.whl")
    subprocess.run([*pip, "install", *offline, "--target", str(folder), str(wheel)], check=True)
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.endswith(".py")} == {
            str(path.relative_to(ROOT)) for part in ("fastat", "methods") for path in (ROOT / part).rglob("*.py")
        }
    return folder


def said(installed: Path, empty: Path, *arguments: str, code: int = 0) -> str:
    """What the installed command says in an empty folder."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, str(installed / "bin/fastat"), *arguments]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_command_works_in_an_empty_folder(installed, tmp_path):
    assert said(installed, tmp_path, "--version").startswith(f"fastat {__version__}, torch ")
    assert said(installed, tmp_path, "check").endswith("runs: the config is good\n")
    smoke = said(installed, tmp_path, "where", "config/smoke.yaml").strip()
    assert smoke.startswith(str(installed)) and Path(smoke).read_bytes() == (ROOT / "config/smoke.yaml").read_bytes()
    assert said(installed, tmp_path, "check", "--configfile", smoke).endswith("runs: the config is good\n")
    assert "ATAS.py:52,64" in said(installed, tmp_path, "methods", "atas")
    run = "digits/preact_tiny/eps77/atas/paper/seed0"
    assert "methods/atas.py:" in said(installed, tmp_path, "recipe", run)
    assert not list(tmp_path.iterdir())


def test_what_writes_into_a_clone_says_so(installed, tmp_path):
    assert "it writes into a clone of fastat" in said(installed, tmp_path, "new-method", "mine", code=2)
    assert "it writes into a clone of fastat" in said(installed, tmp_path, "docs", code=2)


def test_the_installed_snakefile_plans_the_same_grid(installed, tmp_path):
    snakefile = said(installed, tmp_path, "where", "Snakefile").strip()
    smoke = said(installed, tmp_path, "where", "config/smoke.yaml").strip()
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--snakefile", snakefile]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command += ["--configfile", smoke]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"^train +2$", done.stdout + done.stderr, re.MULTILINE)


def test_make_refuses_a_python_that_is_too_old_and_leaves_no_environment(tmp_path):
    versions = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))
    old = [path for path in versions if int(path.parts[-3].split(".")[1]) < 11]
    old += [Path(found) for name in ("python3.9", "python3.10") if (found := shutil.which(name, path="/usr/bin"))]
    if not old:
        pytest.skip("no Python older than 3.11 is here")
    for name in ("Makefile", "requirements", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(["make", f"PYTHON={old[0]}", ".venv/made"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and not (tmp_path / ".venv").exists()
    assert f"{old[0]} is Python 3." in done.stderr and "make PYTHON=python3.11 .venv/made" in done.stderr
