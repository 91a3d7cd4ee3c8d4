"""The documentation says what the code does now."""

import pytest

import methods
from fastat import ROOT
from fastat.config.recipe import method_names
from fastat.config.schema import read_yaml
from fastat.report import docs


@pytest.mark.parametrize("name", method_names())
def test_every_method_has_a_page_and_its_generated_part_is_current(name):
    text = (ROOT / f"docs/methods/{name}.md").read_text()
    assert docs.page(text, name, methods.describe(name)) == text, "run: make docs"


def test_the_readmes_table_is_the_kept_one():
    text = (ROOT / "README.md").read_text()
    assert docs.with_table(text) == text and "| atas" in text, "run: make docs"


def test_every_departure_names_a_method_or_all():
    lines = [line for line in (ROOT / "docs/departures.md").read_text().splitlines() if line.startswith("|")][2:]
    for line in lines:
        names = line.split("|")[1].replace(",", " ").split()
        assert names[0] == "all" or names[0] in method_names(), line
        assert line.count("|") == 6, line


def test_config_readme_names_every_key_and_every_config():
    text = (ROOT / "config/README.md").read_text()
    for key in read_yaml(ROOT / "workflow/schemas/config.schema.yaml")["properties"]:
        assert f"`{key}`" in text, key
    for path in (ROOT / "config").iterdir():
        assert path.name == "README.md" or f"`{path.name}`" in text, path.name
