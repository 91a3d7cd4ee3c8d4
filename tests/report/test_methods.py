"""What the report knows of methods: one look each, and nothing that fails for one that it has never heard of."""

import re
import shutil

import pandas as pd
import pytest

from fastat.cli import main
from fastat.config.recipe import method_names
from fastat.report import methods, page
from tests import fabricate
from tests.report.test_page import data_of, records


def look(about: methods.About) -> tuple[object, ...]:
    return about.colour, about.dash, about.marker


def test_every_method_has_a_line_and_a_look_of_its_own():
    assert set(methods.METHODS) == set(method_names())
    assert len({look(about) for about in methods.METHODS.values()}) == len(methods.METHODS)
    assert len({about.colour for about in methods.METHODS.values()}) == len(methods.METHODS)


def test_as_many_methods_without_a_line_as_may_come_have_looks_of_their_own(monkeypatch):
    new = [f"newone{k:02}" for k in range(30)]
    monkeypatch.setattr(methods, "method_names", lambda: sorted([*methods.METHODS, *new]))
    methods.by_rule.cache_clear()
    abouts = [methods.about(name) for name in [*methods.METHODS, *new]]
    assert len({look(about) for about in abouts}) == len(abouts)
    assert len({about.colour for about in abouts[: len(methods.METHODS) + 12]}) == len(methods.METHODS) + 12
    assert not {about.marker for about in map(methods.about, new)} & {a.marker for a in methods.METHODS.values()}
    methods.by_rule.cache_clear()


def test_a_method_made_elsewhere_has_the_same_look_every_time_and_its_own_name():
    first = methods.about("made_elsewhere")
    methods.by_rule.cache_clear()
    assert methods.about("made_elsewhere") == first and methods.called("made_elsewhere", "x") == "made_elsewhere (x)"
    assert methods.about("made_elsewhere").family == methods.FAST


def test_the_order_is_the_papers_then_ours_then_that_of_names():
    names = ["zzz", "atas_pgi", "atas", "aaa", "fgsm_adaptive", "clean", "pgd10"]
    assert sorted(names, key=methods.place) == ["clean", "pgd10", "atas", "fgsm_adaptive", "atas_pgi", "aaa", "zzz"]
    assert sorted(names, key=methods.row) == ["clean", "pgd10", "atas", "aaa", "atas_pgi", "fgsm_adaptive", "zzz"]


def test_families_are_the_papers():
    assert methods.of_family(methods.REFERENCE, methods.SLOW) == ["clean", "pgd10"]
    remedies = ["fgsm_ga", "ssat", "nuat", "subat", "fgsm_sdi", "fgsm_pgi"]
    assert methods.of_family(methods.REMEDY) == remedies


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The report of runs of two methods that nobody has heard of, beside two that all know."""
    folder = tmp_path_factory.mktemp("reported")
    names = ("pgd10", "newone", "atas", "another")
    who = [("digits", "preact_tiny", eps, name, "paper", seed) for eps in ("4/255", "8/255") for name in names
           for seed in "01"]  # fmt: skip
    fabricate.write(folder, who)
    fabricate.correct(who, n=1000).to_csv(folder / "correct.csv", index=False)
    (folder / "config.json").write_text('{"table1_eps": {"digits": "8/255"}}')
    assert main(["figure-data", "--results", str(folder)]) == 0
    assert main(["judge", "--results", str(folder)]) == 0
    assert main(["draw", "--data", str(folder / "figures"), "--out", str(folder / "drawn")]) == 0
    page.write_html(folder, folder / "drawn", folder / "index.html")
    return folder


def test_two_methods_without_a_line_are_in_every_table(reported):
    table = pd.read_csv(reported / "tables/table1.csv")
    assert table["method"].tolist() == ["pgd10", "atas", "another", "newone"]
    pairs = pd.read_csv(reported / "pairs.csv")
    assert {"newone", "another"} <= {*pairs["method_a"], *pairs["method_b"]}
    claims = pd.read_csv(reported / "claims.csv").set_index("claim")
    assert "of up to 3 methods" in claims.loc["atas-best", "evidence"]  # PGD10 is not among the fast ones


def test_two_methods_without_a_line_are_drawn_in_colours_of_their_own(reported):
    drawn = (reported / "drawn/accuracy_by_eps.svg").read_text()
    colours = {methods.about(name).colour for name in ("pgd10", "newone", "atas", "another")}
    assert len(colours) == 4 and colours <= set(re.findall(r"#[0-9a-f]{6}", drawn))


def test_two_methods_without_a_line_are_on_the_page(reported):
    cells = records(data_of(reported / "index.html")["cells"])
    assert [cell["method"] for cell in cells if cell["eps"] == "8/255"] == ["another", "atas", "newone", "pgd10"]


def test_what_an_earlier_version_kept_of_its_config_is_named_with_the_way_out(reported, tmp_path, capsys):
    for name in ("measured.csv", "correct.csv"):
        shutil.copy(reported / name, tmp_path)
    (tmp_path / "config.json").write_text('{"snapshots": {"digits": [1]}}')
    assert main(["judge", "--results", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert (
        "unknown key 'snapshots'" in said and f"That is {tmp_path / 'config.json'}" in said and "--configfile" in said
    )
    assert main(["judge", "--results", str(tmp_path), "--configfile", "config/config.yaml"]) == 0
