"""Whom a run cites: read from the methods' own files."""

from fastat.config.recipe import method_names
from fastat.exchange.citation import bibtex, paper_of

OURS = {"clean", "atas_pgi", "atas_sdi", "fgsm_adaptive"}  # no paper of their own


def test_every_method_of_a_paper_has_authors_title_venue_and_year():
    found = {name: paper_of(name) for name in method_names()}
    assert {name for name, paper in found.items() if paper is None} <= OURS
    for name, paper in found.items():
        if paper is not None:
            assert paper.venue.endswith(paper.year) and 2015 < int(paper.year) < 2030, name
            assert len(paper.title) > 15 and paper.authors[-1] != ",", name
    assert found["atas"].link == "https://arxiv.org/abs/2206.02417" and found["nuat"].link == ""


def test_the_entry_is_bibtex_and_others_stands_for_et_al():
    assert bibtex("pgd10").startswith(
        "@misc{Madry2018Towards,\n  author = {Madry and others},\n"
        "  title = {{Towards deep learning models resistant to adversarial attacks}},\n  year = {2018},\n"
    )
    assert bibtex("clean").startswith("@misc{fastat,") and bibtex("external").startswith("@misc{fastat,")
    for name in method_names():
        assert bibtex(name).count("{") == bibtex(name).count("}")
