"""The documentation says what the code does now."""

import json
import re

import pandas as pd
import pytest

import methods
from fastat import ROOT
from fastat.config.recipe import method_names
from fastat.config.schema import read_yaml
from fastat.errors import BadInput
from fastat.report import claims, docs, figures, results, tables, tidy, tiers
from tests import fabricate


@pytest.mark.parametrize("name", method_names())
def test_every_method_has_a_page_and_its_generated_part_is_current(name):
    text = (ROOT / f"docs/methods/{name}.md").read_text()
    assert docs.page(text, name, methods.describe(name)) == text, "run: make docs"


def test_the_readmes_tables_are_five_columns_of_the_kept_one_and_the_tiers():
    text = (ROOT / "README.md").read_text()
    assert docs.with_tables(text) == text, "run: make docs"
    lines = [line for line in text.splitlines() if line.startswith("| atas |")]
    assert len(lines) == 1 and lines[0].count("|") == 6


def test_the_rival_s_page_has_a_line_per_method_and_is_current():
    text = docs.RIVALS.read_text()
    assert docs.beside_rival(text) == text, "run: make docs"
    lines = [line for line in text.splitlines() if line.startswith("| nu_at ")]
    assert len(lines) == 2 and "attacks in train mode" in lines[0] and "50.10 ± 0.18" in lines[1]


def test_the_claims_by_tier_are_those_of_the_kept_tiers():
    assert (docs.RESULTS / "claims-by-tier.md").read_text() == tiers.claims_by_tier(docs.RESULTS), "run: make docs"


def test_every_tier_but_the_default_is_a_config_and_its_results_have_all_that_is_kept():
    assert tiers.of_name("evening").command == "snakemake --cores all --configfile config/evening.yaml"
    with pytest.raises(BadInput, match="no tier 'evning', known are default, .*Did you mean 'evening'"):
        tiers.of_name("evning")
    for folder in (path.parent for path in docs.RESULTS.glob("*/tier.json")):
        assert tiers.of_name(folder.name) and (folder / "claims.csv").exists()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty docs/results."""
    monkeypatch.setattr(docs, "RESULTS", tmp_path / "kept")
    (tmp_path / "kept").mkdir()
    return tmp_path


def test_a_tier_is_kept_whole_or_not_at_all(elsewhere):
    runs = [f"digits/preact_tiny/eps77/{name}/paper/seed{seed}" for name in ("atas", "fgsm_rs") for seed in (0, 1)]
    folder = elsewhere / "results"
    for name in runs:
        fabricate.finished(folder, name)
    tidy.write_all(folder, folder)
    for path in ("tables", "figures"):
        (folder / path).mkdir()
    found = results.read(folder, needs=("measured.csv", "correct.csv"))
    tables.write_all(found, {}, folder / "tables")
    with pytest.raises(
        BadInput, match="there is no .*claims.md, or it is empty. Run the workflow of evening to its end"
    ):
        docs.keep(folder, "evening")
    assert list((elsewhere / "kept").iterdir()) == []
    claims.write_report(found, folder / "figures", folder / "claims.csv")
    docs.keep(folder, "evening")
    kept = elsewhere / "kept/evening"
    assert json.loads((kept / "tier.json").read_text()) == {
        "runs": 4, "seconds": 14, "data": ["digits"], "devices": ["a V100"],
    }  # fmt: skip
    assert {path.name for path in (elsewhere / "kept").iterdir()} == {"evening"}
    table = tiers.table(elsewhere / "kept")
    (mine,) = (line for line in table.splitlines() if line.startswith("| evening"))
    assert "0.0 hours of its runs, added up" in mine and "[all](docs/results/evening/claims.md)" in mine
    (other,) = (line for line in table.splitlines() if line.startswith("| paper"))
    assert "716" in other and other.rstrip(" |").endswith("not run")
    by_tier = tiers.claims_by_tier(elsewhere / "kept")
    assert "evening, digits" in by_tier and "default" not in by_tier
    (kept / "claims.csv").write_text("claim\n")
    with pytest.raises(BadInput, match="lacks the columns .* docs --results FOLDER --tier evening"):
        tiers.claims_by_tier(elsewhere / "kept")


def test_a_checkpoint_is_no_training_of_a_tier():
    who = [*fabricate.runs(1, 2), ("digits", "preact_tiny", "8/255", "external", "theirs", "0")]
    assert tiers.about(results.of_rows(fabricate.measured(who)))["runs"] == 2


def test_the_tier_of_the_readmes_picture_brings_its_curves_or_nothing(elsewhere, monkeypatch):
    folder = elsewhere / "results"
    for seed in (0, 1):
        fabricate.finished(folder, f"digits/preact_tiny/eps77/atas/paper/seed{seed}")
    tidy.write_all(folder, folder)
    for path in ("tables", "figures"):
        (folder / path).mkdir()
    found = results.read(folder, needs=("measured.csv", "correct.csv"))
    tables.write_all(found, {}, folder / "tables")
    claims.write_report(found, folder / "figures", folder / "claims.csv")
    with pytest.raises(BadInput, match="picture needs fgsm_rs at 77/255"):
        docs.keep(folder, "fashion")
    assert list((elsewhere / "kept").iterdir()) == []
    monkeypatch.setattr(docs, "PICTURED", ("atas",))
    docs.keep(folder, "fashion")
    rows = pd.read_csv(elsewhere / "kept/collapse.csv")
    assert (set(rows["seed"]), set(rows["eps"])) == ({0, 1}, {"77/255"}) and len(rows) == 2 * rows["epoch"].nunique()


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


def test_one_claim_holds_and_two_hold():
    rows = pd.DataFrame({"scale": "digits", "verdict": ["holds", "does not hold", "does not hold", "undecided"]})
    assert tiers.counted(rows) == "digits: 1 holds, 2 do not, 1 undecided"
