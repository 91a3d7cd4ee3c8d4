"""The beginning of another method. tests/test_contributing.py goes on with it."""

import shutil
from pathlib import Path

import pytest
import yaml

from fastat import ROOT
from fastat.cli import main
from fastat.config import new_method
from fastat.config.recipe import method_names
from fastat.errors import BadInput


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but what Python caches."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "cache" not in str(path.relative_to(folder)))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_the_recipe_is_added_as_text_and_changes_no_other():
    text = (ROOT / "config/recipes.yaml").read_text()
    new = new_method.with_recipe(text, "newone")
    assert [line for line in new.splitlines() if line not in text.splitlines()] == ["  newone:"]
    recipes, was = yaml.safe_load(new), yaml.safe_load(text)
    assert list(recipes["methods"]) == [*was["methods"], "newone"] and recipes["datasets"] == was["datasets"]
    assert recipes["methods"].pop("newone")["paper"] == {
        key: [value, "as FGSM-RS"]
        for key, (value, _) in was["methods"]["fgsm_rs"]["paper"].items()
        if not key.startswith("params.")
    }
    assert recipes["methods"] == was["methods"]


@pytest.mark.parametrize(
    "name,message",
    [
        ("Demo", "small letters"),
        ("2fgsm", "first a letter"),
        ("_template", "first a letter"),
        ("../x", "small letters"),
        ("", "small letters"),
        ("class", "no word of Python"),
        ("every", "not `every` or `external`"),
        ("external", "not `every` or `external`"),
        ("atas", "'atas' is taken: there is already methods/atas.py, tests/methods/test_atas.py, docs/methods/atas.md"),
        ("contract", "'contract' is taken: there is already tests/methods/test_contract.py"),
    ],
)
def test_a_bad_or_taken_name_is_refused_and_nothing_is_written(name, message, capsys):
    kept = contents(ROOT / "methods"), contents(ROOT / "tests/methods"), contents(ROOT / "docs/methods")
    recipes = (ROOT / "config/recipes.yaml").read_text()
    assert main(["new-method", name]) == 2
    assert message in capsys.readouterr().err
    assert kept == (contents(ROOT / "methods"), contents(ROOT / "tests/methods"), contents(ROOT / "docs/methods"))
    assert recipes == (ROOT / "config/recipes.yaml").read_text()


def test_a_recipe_left_behind_is_found(tmp_path):
    for path in (*new_method.TEMPLATES.values(), new_method.RECIPES):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    new_method.begin("one_two", tmp_path)
    assert (tmp_path / "docs/methods/one_two.md").read_text().startswith("# ONE-TWO\n")
    for path in new_method.TEMPLATES:
        (tmp_path / path.format(name="one_two")).unlink()
    with pytest.raises(BadInput, match="there is already a recipe in config/recipes.yaml"):
        new_method.begin("one_two", tmp_path)


def test_templates_are_no_methods():
    assert "_template" not in method_names()
