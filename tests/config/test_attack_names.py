"""One attack, one name: whatever the order and spelling it was typed in; what is none is refused in a sentence."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastat.config.attack_names import MOST_ATTACKS, check_attack, is_name, parse, parse_list
from fastat.errors import BadInput
from fastat.report.tables import marked_up


@pytest.mark.parametrize(
    "typed,name",
    [
        ("pgd-20", "pgd-20 alpha=0.2eps"),
        ("best PGD20 restarts = 10 alpha = 0.250 * eps", "pgd-20 alpha=0.25eps restarts=10 best"),
        ("pgd-20 linf last restarts=1", "pgd-20 alpha=0.2eps"),
        ("pgd-10 alpha=2/255", "pgd-10 alpha=2/255"),
        ("pgd-20 eps=8/255 alpha=2/255", "pgd-20 alpha=0.25eps Linf eps=8/255"),
        ("pgd-20 alpha=.25 eps Linf eps = 8 / 255", "pgd-20 alpha=0.25eps Linf eps=8/255"),
        ("pgd-20 eps=12/255 alpha=4/255", "pgd-20 alpha=4/255 Linf eps=12/255"),  # a third, which no decimal is
        ("pgd-40 eps=0.3 alpha=0.03eps", "pgd-40 alpha=0.03eps Linf eps=76.5/255"),
        ("l2 eps=.50 pgd-20 alpha=0.1", "pgd-20 alpha=0.2eps L2 eps=0.5"),
        ("pgd-50 L2 eps=128/255 alpha=15/255", "pgd-50 alpha=15/255 L2 eps=128/255"),
        ("autoattack L2 eps=51/255", "autoattack L2 eps=0.2"),
        ("square + apgd-ce", "apgd-ce+square"),
        ("square+fab-t+apgd-t+apgd-ce eps=4/255", "autoattack Linf eps=4/255"),
        ("fgsm targets=all", "fgsm targets=all"),
        ("any pgd-20 targets=9", "pgd-20 alpha=0.2eps targets=9 any"),
        ("survivors = 77/255 + .2 autoattack eps=0.4", "autoattack Linf eps=102/255 survivors=51/255+77/255"),
        ("autoattack survivors=51/255", "autoattack survivors=51/255"),
        ("pgd-20 best L2 eps=1 survivors=.5", "pgd-20 alpha=0.2eps L2 eps=1 survivors=0.5 best"),
    ],
)
def test_spellings_of_one_attack_have_one_name(typed, name):
    assert str(parse(typed)) == name and parse(name) == parse(typed)
    assert is_name(name) and is_name(typed) == (typed == name)


numbers = st.decimals("0.01", "0.49", places=4).map(lambda d: f"{d:f}")


@given(
    kind=st.sampled_from(["pgd-7", "pgd20", "PGD-100"]),
    words=st.fixed_dictionaries(
        {},
        optional={
            "radius": numbers.map(lambda d: f"eps={d}") | st.integers(17, 127).map(lambda n: f"eps={n}/255"),
            "alpha": numbers.map(lambda d: f"alpha={d}eps"),
            "restarts": st.integers(1, 50).map(lambda n: f"restarts={n}"),
            "targets": st.sampled_from(["targets=all", "targets=3"]),
            "counts": st.sampled_from(["last", "best", "any"]),
        },
    ),
    l2=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_the_order_of_words_says_nothing_and_a_name_is_its_own_name(kind, words, l2, order):
    typed = [kind, *words.values(), *(["L2"] if l2 and "radius" in words else [])]
    name = str(parse(" ".join(typed)))
    order.shuffle(typed)
    assert str(parse(" ".join(typed))) == name == str(parse(name))
    assert re.fullmatch(r"[A-Za-z0-9 .=/+-]+", name)  # nothing that CSV, Markdown, HTML or a quoted shell word reads
    assert marked_up(name) == name  # nor LaTeX


def test_equal_radii_are_one_and_other_radii_are_others():
    same = {str(parse(f"autoattack L2 eps={eps}")) for eps in ("0.5", "0.50", ".5", "127.5/255")}
    assert same == {"autoattack L2 eps=0.5"}
    assert str(parse("autoattack L2 eps=128/255")) not in same
    assert float(parse("autoattack L2 eps=128/255").eps) == 128 / 255


def test_lengths_are_to_the_bit_those_of_recipes_and_configs():
    assert parse("pgd-10").step(8 / 255) == 0.2 * (8 / 255)
    assert parse("pgd-10 alpha=2/255").step(8 / 255) == 2 / 255
    assert parse("pgd-10 eps=8/255").radius(0.1) == 8 / 255


@pytest.mark.parametrize(
    "typed,words",
    [
        ("", "names no attack. Begin with pgd-20"),
        ("restarts=3", "names no attack"),
        ("pgd", "PGD needs its number of steps. Write pgd-20"),
        ("pgd-0", "steps must be a whole number from 1 to 100,000, got '0'"),
        ("pgd-20 restarts=0", "restarts must be a whole number from 1"),
        ("pgd-20 restarts=1e3", "restarts must be a whole number"),
        ("pgd-20 best last", "says twice what it is: best and last"),
        ("pgd-20 fgsm", "says twice what it is: pgd-20 and fgsm"),
        ("autoatack L2 eps=1", "unknown word 'autoatack'. Did you mean 'autoattack'"),
        ("apgd-ce+apgt", "unknown part of AutoAttack 'apgt'. Did you mean 'apgd-t'"),
        ("pgd20+square", "unknown part of AutoAttack 'pgd20'"),
        ("square+square", "names a part twice"),
        ("fgsm restarts=3", "restarts= is an option of pgd, and not of fgsm"),
        ("autoattack best L2 eps=1", "best is an option of pgd, and not of autoattack"),
        ("fgsm", "at the run's eps is in every evaluation"),
        ("autoattack", "at the run's eps is in every evaluation"),
        ("pgd-20 eps=8", "is no Linf radius.*Did you mean 8/255"),
        ("pgd-20 eps=128/255", "is no Linf radius"),
        ("pgd-20 eps=0", "is no Linf radius"),
        ("pgd-20 eps=-1/255", "is no Linf radius"),
        ("pgd-20 L2", "names no radius.*Write L2 eps=0.5"),
        ("pgd-20 L2 eps=128", "is no L2 radius.*Did you mean 128/255"),
        ("pgd-20 L2 eps=8/255", "an L2 radius of 8/255 is 0.0314, hardly anything.*Leave L2 out"),
        ("pgd-20 L2 eps=0.5 alpha=2/255", "20 steps of 2/255 lead 0.31 eps far.*alpha=0.2eps"),
        ("pgd-20 alpha=0.25", "has no unit. Write alpha=0.25eps"),
        ("pgd-20 alpha=25eps", "alpha=25eps is 25 times the radius"),
        ("pgd-20 alpha=0eps", "alpha is written 0.25eps or 2/255"),
        ("autoattack survivors=", "'' is no Linf radius"),
        ("autoattack survivors=8", "is no Linf radius.*Did you mean 8/255"),
        ("autoattack eps=51/255 survivors=0.2", "51/255 is not below the attack's own. Name smaller radii"),
        ("autoattack survivors=4/255+4/255", "names a radius twice"),
        ("pgd-20 eps=51/255 alpha=17/255 survivors=8/255", "alpha=17/255 is 2.12 times the radius"),
        ("pgd-20 targets=none", "targets must be a whole number above 0"),
        ("pgd-20, best", "unknown word 'pgd-20,'"),
        ("pgd-20 " + "x" * 300, "at most 200 characters"),
    ],
)
def test_what_is_no_attack_is_refused_with_the_way_out(typed, words):
    assert not is_name(typed)
    with pytest.raises(BadInput, match=words):
        parse(typed)


@pytest.mark.parametrize(
    "name,eps,words",
    [
        ("pgd-20 alpha=2/255", 100 / 255, "20 steps of 2/255 lead 0.4 eps far"),
        ("pgd-20 alpha=8/255", 3 / 255, "8/255 is 2.67 times the radius"),
        ("pgd-20 targets=10", 0.1, "of 10 classes 9 are others than the label. Write targets=all"),
        ("autoattack L2 eps=4", 0.1, "farther than 4 from grey"),
        ("autoattack survivors=26/255", 26 / 255, "26/255 is not below the attack's own"),
    ],
)
def test_what_cannot_be_done_to_a_run_is_refused_before_the_first_attack(name, eps, words):
    with pytest.raises(BadInput, match=words):
        check_attack(parse(name), eps, (1, 8, 8), 10)


def test_part_of_an_attack_needs_as_many_classes_as_it_has_targets_among():
    check_attack(parse("apgd-t"), 0.1, n_classes=4)
    with pytest.raises(BadInput, match="apgd-t needs four classes, these are 3"):
        check_attack(parse("apgd-t"), 0.1, n_classes=3)


def test_fewer_parts_than_all_are_called_so():
    assert parse("apgd-ce+apgd-t").is_partial and not parse("autoattack eps=4/255").is_partial
    assert parse("apgd-ce+apgd-t").in_words() == "parts of AutoAttack, not the standard, the run's eps"
    said = parse("pgd-20 alpha=0.25eps L2 eps=0.5 restarts=10 best").in_words()
    assert said == "PGD, L2 eps 0.5: 20 steps of 0.25eps, 10 random starts, that of the highest loss counts"


def test_a_list_has_each_attack_once_and_says_where_a_wrong_one_stands():
    assert parse_list(["pgd-20, PGD20 last", "apgd-ce+square"], "x") == ("apgd-ce+square", "pgd-20 alpha=0.2eps")
    assert parse_list([], "x") == ()
    survivors = "autoattack Linf eps=102/255 survivors=51/255+77/255"
    before = ("autoattack Linf eps=51/255", "autoattack Linf eps=77/255 survivors=51/255")
    assert parse_list([survivors], "x") == (survivors, *before)  # those that they survived
    assert parse(survivors).in_words() == "AutoAttack, Linf eps 102/255 on the survivors of 51/255 and 77/255"
    with pytest.raises(BadInput, match="--attacks: PGD|--attacks: 'pgd'"):
        parse_list(["pgd"], "--attacks")
    with pytest.raises(BadInput, match="x must be a list of names"):
        parse_list("pgd-20", "x")
    with pytest.raises(BadInput, match=f"these are {MOST_ATTACKS + 1} attacks"):
        parse_list([f"pgd-{n + 1}" for n in range(MOST_ATTACKS + 1)], "x")
