"""The recipes of images, conda's environments and pyproject name one Python and the same locks."""

import re
import tomllib

import pytest
import yaml

from fastat import ROOT

PYTHON = ".".join(
    re.findall(r"\d+", tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
)
RECIPES = ("containers/Dockerfile", "containers/fastat.def")
ENVIRONMENTS = {"environment.yml": "", "workflow/envs/fastat.yaml": "${FASTAT_ROOT}/"}  # where the locks lie
LOCKS = ["requirements/torch.lock", "requirements/suite.lock"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_image_has_the_project_s_python_and_its_packages_by_hash(recipe):
    text = (ROOT / recipe).read_text()
    assert re.findall(r"library/python:([\d.]+)-", text) == [PYTHON]
    (line,) = [line for line in text.splitlines() if "torch.lock" in line]
    assert "--require-hashes" in line and "suite.lock" in line
    assert all((ROOT / lock).read_text().count("--hash=sha256:") > 10 for lock in LOCKS)


def test_the_docker_image_lacks_what_git_lacks_and_history():
    ignored = set((ROOT / ".dockerignore").read_text().split())
    assert {".git", ".venv", "results", "figures", "data"} <= ignored


def dependencies(name: str) -> tuple[list[str], list[str]]:
    """What conda installs, and what pip."""
    found = yaml.safe_load((ROOT / name).read_text())["dependencies"]
    (pip,) = [one["pip"] for one in found if isinstance(one, dict)]
    return [one for one in found if isinstance(one, str)], pip


@pytest.mark.parametrize("name,below", ENVIRONMENTS.items())
def test_conda_has_the_project_s_python_and_pip_installs_the_locks(name, below):
    ours, pip = dependencies(name)
    assert f"python={PYTHON}" in ours and "pip" in ours
    assert pip == [f"-r {below}{lock}" for lock in LOCKS]


def test_what_jobs_get_is_what_the_environment_by_hand_has_but_for_conda_itself():
    by_hand, of_jobs = (dependencies(name)[0] for name in ENVIRONMENTS)
    assert [one for one in by_hand if not one.startswith("conda")] == of_jobs


def test_the_snakefile_names_the_image_that_the_recipe_says_how_to_build():
    (image,) = re.findall(r'^container: "(.*)"$', (ROOT / "Snakefile").read_text(), re.MULTILINE)
    assert f"apptainer build {image} containers/fastat.def" in (ROOT / "containers/fastat.def").read_text()
