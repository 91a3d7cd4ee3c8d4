"""The documentation says what the code does now."""

import re

import pytest

import methods
from fastat import ROOT
from fastat.config.recipe import method_names
from fastat.config.schema import read_yaml
from fastat.report import docs, figures


@pytest.mark.parametrize("name", method_names())
def test_every_method_has_a_page_and_its_generated_part_is_current(name):
    text = (ROOT / f"docs/methods/{name}.md").read_text()
    assert docs.page(text, name, methods.describe(name)) == text, "run: make docs"


def test_the_readmes_table_is_five_columns_of_the_kept_one():
    text = (ROOT / "README.md").read_text()
    assert docs.with_table(text) == text, "run: make docs"
    lines = [line for line in text.splitlines() if line.startswith("| atas |")]
    assert len(lines) == 1 and lines[0].count("|") == 6


def test_the_readmes_picture_is_of_the_kept_trainings(tmp_path):
    figures.write_picture(docs.RESULTS / "collapse.csv", tmp_path / "collapse.svg")
    kept, made = (folder / "collapse.svg" for folder in (docs.RESULTS, tmp_path))
    assert len(kept.read_text().splitlines()) == len(made.read_text().splitlines()), "run: make docs"
    assert "](docs/results/collapse.svg)" in (ROOT / "README.md").read_text()


def test_every_page_is_on_the_map_and_no_link_leads_nowhere():
    text = (ROOT / "docs/README.md").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name == "README.md" or f"]({path.name})" in text, path.name
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "config/README.md",
    ):
        for link in re.findall(r"\]\(\s*([^)#\s]+)[^)]*\)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page}: {link}"


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
