"""`evaluate --attacks`: files, their evidence, what is not attacked again, and what is refused."""

import csv
import json
import re

import pytest

from fastat.cli import main
from fastat.config.grid import attacks_for, check_config, load_config, overlay, protocol_for, result_files
from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.evaluation import autoattack, named

NAME = "digits/preact_tiny/eps26/clean/paper/seed0"
PGD, L2 = "pgd-5 alpha=0.25eps", "pgd-5 alpha=0.2eps L2 eps=0.3 restarts=2 best"
PARTS = "apgd-ce L2 eps=0.3"
PROTOCOL = {"batch_size": 20, "pgd_step": "0.2 eps", "pgd_restarts": 1, "seed": 0, "numerics": "native"}
PROTOCOL |= {"autoattack": {"n_images": 12, "batch_size": 20}}


@pytest.fixture
def evaluate(trained, monkeypatch):
    """(options) -> exit code, the rows by attack and what they were made from, and which attacks were made."""
    made: list[str] = []
    real = named.attacked

    def attacked(model, x, y, attack, **options):
        made.append(str(attack))
        return real(model, x, y, attack, **options)

    monkeypatch.setattr(named, "attacked", attacked)
    folder = trained / "runs" / NAME
    for path in [*(folder / "eval").glob("*"), *(folder / "state").glob("attack-*")]:
        path.unlink()

    def run(*options, protocol=PROTOCOL):
        made.clear()
        fixed = ["--run", NAME, "--results", str(trained), "--device", "cpu", "--protocol", json.dumps(protocol)]
        code = main(["evaluate", *fixed, "--suite", "attacks", *options])
        if code:
            return code, {}, {}, []
        rows: dict[str, list] = {}
        with open(folder / "eval/attacks.csv") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["attack"], []).append(row)
        return code, rows, json.loads((folder / "eval/attacks.json").read_text()), sorted(set(made))

    return run


def test_rows_and_evidence_have_the_canonical_names(evaluate):
    _, rows, about, _ = evaluate("--attacks", "PGD5 alpha=0.25*eps, best L2 eps=.3 restarts=2 pgd-5", PARTS)
    assert list(rows) == sorted([PGD, L2, PARTS])
    assert [len(rows[name]) for name in (PGD, L2, PARTS)] == [30, 30, 12]
    whitebox = {"batch_size": 20, "seed": 0}
    parts = {"n_images": 12, "batch_size": 20, "seed": 0}
    assert about["protocol"] == {"attacks": {PARTS: parts, PGD: whitebox, L2: whitebox}}
    assert set(about["made"]) == set(rows) and about["made"][PGD]["torch"]


def test_another_attack_leaves_those_before_as_they_are(evaluate):
    first = evaluate("--attacks", PGD)[1]
    _, rows, about, made = evaluate("--attacks", L2)
    assert made == [L2] and rows[PGD] == first[PGD] and set(about["protocol"]["attacks"]) == {PGD, L2}
    assert evaluate("--attacks", PGD, L2)[3] == []


def test_what_was_attacked_is_not_attacked_again_where_snakemake_removed_the_file(evaluate, trained):
    first = evaluate("--attacks", PGD)[1]
    for path in (trained / "runs" / NAME / "eval").glob("attacks.*"):
        path.unlink()
    _, rows, _, made = evaluate("--attacks", PGD, L2)
    assert made == [L2] and rows[PGD] == first[PGD]


def test_another_protocol_is_attacked_afresh_and_alone(evaluate):
    evaluate("--attacks", PGD, PARTS)
    other = {**PROTOCOL, "autoattack": {"n_images": 10, "batch_size": 20}}
    _, rows, about, made = evaluate("--attacks", PARTS, PGD, protocol=other)
    assert made == [] and len(rows[PARTS]) == 10 and len(rows[PGD]) == 30
    assert evaluate("--attacks", PGD, protocol={**other, "seed": 1})[3] == [PGD]


def test_rows_that_are_not_what_was_written_are_made_again(evaluate, trained):
    first = evaluate("--attacks", PGD, L2)[1]
    path = trained / "runs" / NAME / "eval/attacks.csv"
    path.write_text(path.read_text().replace(",1,\n", ",0,\n", 1))
    assert evaluate("--attacks", PGD)[1] == {PGD: first[PGD]}


SMALL, LARGE = "pgd-5 alpha=0.2eps Linf eps=2/255", "pgd-5 alpha=0.2eps Linf eps=8/255 survivors=2/255"


def test_an_attack_on_survivors_comes_with_what_they_survived_and_stands_on_it(evaluate):
    _, rows, about, made = evaluate("--attacks", LARGE)
    assert made == sorted([SMALL, LARGE]) and {*about["protocol"]["attacks"]} == {SMALL, LARGE}
    fallen = {row["index"] for row in rows[SMALL] if row["correct"] == "0"}
    assert 0 < len(fallen) < 30
    assert fallen == {row["index"] for row in rows[LARGE] if row["step"] == "eps=2/255"}
    assert all(row["correct"] == "0" for row in rows[LARGE] if row["index"] in fallen)
    assert evaluate("--attacks", LARGE)[3] == []
    _, rows, about, made = evaluate("--attacks", SMALL, protocol={**PROTOCOL, "seed": 1})
    assert made == [SMALL] and {*about["protocol"]["attacks"]} == {SMALL}  # LARGE stood on other rows
    assert evaluate("--attacks", LARGE)[1][LARGE] == evaluate("--attacks", LARGE, PGD)[1][LARGE]


def test_survivors_of_the_runs_own_radius_are_those_of_its_autoattack(evaluate, trained, monkeypatch):
    attacked: list[int] = []
    real = autoattack.standard
    monkeypatch.setattr(autoattack, "standard", lambda *args, **named: attacked.append(1) or real(*args, **named))
    words = ["--run", NAME, "--results", str(trained), "--device", "cpu", "--protocol", json.dumps(PROTOCOL)]
    assert main(["evaluate", *words, "--suite", "autoattack"]) == 0 and attacked == [1]
    own = "autoattack Linf eps=26/255"
    _, rows, about, _ = evaluate("--attacks", "autoattack eps=30/255 survivors=26/255")
    assert len(rows[own]) == 12 and about["made"][own]["torch"]
    standing = [row["index"] for row in rows[own] if row["correct"] == "1"]
    assert attacked == [1] * (2 if standing else 1)
    of_suite = (trained / "runs" / NAME / "eval/autoattack.csv").read_text().splitlines()
    assert standing == [line.split(",")[1] for line in of_suite if line.startswith("square") and line.endswith("1,")]
    other = {**PROTOCOL, "autoattack": {"n_images": 10, "batch_size": 20}}
    before = len(attacked)
    assert len(evaluate("--attacks", own, protocol=other)[1][own]) == 10 and len(attacked) == before + 1


@pytest.mark.parametrize(
    "options,words",
    [
        ([], "no attack is asked for"),
        (["--attacks", "autoattack survivors=26/255"], "26/255 is not below the attack's own"),
        (["--attacks", "pgd-20 eps=8"], "--attacks: '8' is no Linf radius.*Did you mean 8/255"),
        (["--attacks", "pgd-20 L2 eps=5"], "farther than 4 from grey"),
        (["--attacks", "pgd-20 targets=10"], "of 10 classes 9 are others"),
        (["--attacks", "pgd-5", "--epoch", "best"], "the last epoch's weights alone"),
        (["--attacks", "pgd-5", "--suite", "whitebox"], "--suite whitebox leaves out what --attacks names"),
        (["--attacks", "pgd-5", "--suite", "all", "--epoch", "best"], "--epoch best leaves out what --attacks names"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(evaluate, options, words, capsys):
    assert evaluate(*options)[0] == 2
    assert re.search(words, capsys.readouterr().err)


def test_a_protocol_names_no_attack(evaluate, capsys):
    assert evaluate("--attacks", PGD, protocol={**PROTOCOL, "attacks": [PGD]})[0] == 2
    assert "--protocol: attacks have an option of their own. Write --attacks" in capsys.readouterr().err


def test_a_config_asks_for_them_and_a_data_set_for_its_own():
    mine = {"attacks": ["pgd20"], "datasets": {"cifar10": {"attacks": ["autoattack L2 eps=0.5"]}}}
    config = overlay(load_config(), {"evaluation": mine})
    assert attacks_for(config, "digits") == ("pgd-20 alpha=0.2eps",)
    assert attacks_for(config, "cifar10") == ("autoattack L2 eps=0.5",)
    assert protocol_for(config, "digits") == protocol_for(load_config(), "digits")
    spec = RunSpec.parse(NAME)
    assert {*result_files(spec, config)} - {*result_files(spec, load_config())} == {
        "eval/attacks.csv", "eval/attacks.json"
    }  # fmt: skip


@pytest.mark.parametrize(
    "evaluation,words",
    [
        ({"attacks": "pgd-20"}, "attacks must be a list of attacks by name"),
        ({"attacks": [20]}, "must be the name of an attack"),
        ({"attacks": ["pgd-20", "pgd"]}, "config: evaluation/attacks: 'pgd': PGD needs its number of steps"),
        ({"attacks": ["pgd-20 alpha=110/255"]}, "config: evaluation/attacks, digits at eps 51/255"),
        ({"attacks": ["pgd-20 alpha=2/255"]}, "digits at eps 51/255: pgd-20 alpha=2/255: 20 steps"),
        ({"datasets": {"cifar10": {"attacks": ["fgsm"]}}}, "evaluation/datasets/cifar10/attacks: 'fgsm' at the run's"),
    ],
)
def test_a_config_that_asks_for_what_is_no_attack_is_refused(evaluation, words):
    with pytest.raises(BadInput, match=words):
        check_config(overlay(load_config(), {"evaluation": evaluation}))
