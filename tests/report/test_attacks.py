"""Attacks by name in the report: columns of their own under their names, and no number of another moves."""

import json

import pandas as pd
import pytest

from fastat.cli import main
from fastat.config.grid import load_config, overlay
from fastat.errors import BadInput
from fastat.machine import seals
from fastat.report import page, pairs, results, tables, tidy, verify, versus
from tests import fabricate

ATAS, ATTA = (f"digits/preact_tiny/eps77/{method}/paper/seed0" for method in ("atas", "atta"))
PGD, L2, PARTS = "pgd-20 alpha=0.25eps restarts=10 best", "autoattack L2 eps=0.5", "apgd-ce+square"
PROTOCOL = {"batch_size": 500, "seed": 0}
BY_PARTS = {"n_images": 20, "batch_size": 50, "seed": 0}


def attacked(folder, right: int, names=(PGD, L2, PARTS)) -> None:
    """eval/attacks.csv of a run whose network withstands every attack on the first `right` images."""
    rows, said = ["attack,index,label,correct,step"], {}
    for name in names:
        n = fabricate.N_TEST if name == PGD else 20
        rows += [f"{name},{i},{i % 10},{int(i < right)},{'' if i < right else 'apgd-ce'}" for i in range(n)]
        said[name] = PROTOCOL if name == PGD else BY_PARTS
    fabricate.evaluation(folder, "attacks", rows, {"attacks": said})


@pytest.fixture
def folder(tmp_path):
    """Results of ATAS, attacked by name, and of ATTA, which fewer of these attacks were asked of."""
    attacked(fabricate.finished(tmp_path, ATAS), 11)
    attacked(fabricate.finished(tmp_path, ATTA, right=14), 9, (PGD,))
    return tmp_path


def gathered(folder, config=None):
    tidy.write_all(folder, folder, config)
    return results.read(folder, needs=("measured.csv", "correct.csv"))


def test_a_name_is_a_metric_and_its_verdicts_are_in_correct_csv(folder):
    found = gathered(folder)
    atas = found.runs.set_index("name").loc[ATAS]
    assert found.attacks == sorted([PGD, L2, PARTS]) and found.problems.empty
    assert atas[[PGD, L2, PARTS]].tolist() == pytest.approx([100 * 11 / 24, 55, 55])
    assert atas[[f"{PGD}_n", f"{L2}_n"]].tolist() == [24, 20]
    assert set(found.correct[found.correct["method"] == "atas"]["attack"]) >= {PGD, L2, PARTS, "aa"}
    assert json.loads((folder / "evidence.jsonl").read_text().splitlines()[0])["evaluations"]["attacks"]["protocol"]


def test_what_is_above_100_percent_is_left_empty_under_a_name_too(folder):
    gathered(folder)
    rows = pd.read_csv(folder / "measured.csv", dtype=str)
    rows.loc[rows["metric"] == L2, "value"] = "155"
    assert results.of_rows(rows).runs[L2].isna().all()


def test_no_other_number_depends_on_an_attack_by_name(folder):
    found = gathered(folder)
    with_names = pairs.compared(found.correct)
    standard = found.correct[~found.correct["attack"].isin([PGD, L2, PARTS])]
    same = pairs.compared(standard)
    pd.testing.assert_frame_equal(with_names[with_names["attack"] != PGD].reset_index(drop=True), same)
    assert with_names["attack"].tolist().count(PGD) == 1


def test_tables_page_and_compare_have_columns_of_their_own(folder):
    found = gathered(folder)
    tables.write_all(found, {"digits": "77/255"}, folder / "tables")
    text = (folder / "tables/supplement.md").read_text()
    assert f"{L2} (n = 20)" in text and f"{PGD} (n = 24)" in text
    assert f"`{PARTS}`: parts of AutoAttack, not the standard, the run's eps." in text
    assert L2 not in (folder / "tables/table1.md").read_text()
    line = pd.read_csv(folder / "tables/supplement.csv").set_index("method").loc["atas"]
    assert line[L2] == pytest.approx(55) and line[f"{L2}_n"] == 20
    board = page.leaderboard(
        found.runs,
        *(pd.DataFrame(columns=c) for c in (page.TABLES["verdicts.csv"], page.TABLES["sanity.csv"])),
        found.attacks,
    )
    assert board.set_index("method").loc["atas", L2] == pytest.approx(55) and board[f"{PGD}_seeds"].tolist() == [1, 1]
    page.write_html(folder, folder / "figures", folder / "page.html")
    assert f'"name":"{PARTS}","words":"parts of AutoAttack, not the standard' in (folder / "page.html").read_text()
    rows = versus.compared(folder, ATAS.rpartition("/")[0], ATTA.rpartition("/")[0])
    assert [row["attack"] for row in rows][-1] == PGD and rows[-1]["difference"] == pytest.approx(100 * 2 / 24)
    assert any(line.startswith(f"{PGD}: a - b is +8.3 points") for line in versus.described(rows))


def cut(path, change) -> None:
    """Change the rows, and name the new ones as if they had been written so."""
    change(pd.read_csv(path, keep_default_na=False)).to_csv(path, index=False)
    seals.write(path.with_suffix(".json"), {**seals.read(path.with_suffix(".json")), "rows": seals.sha256(path)})


@pytest.mark.parametrize(
    "change,rule",
    [
        (lambda rows: rows.drop(index=3), f"does not have every image once under {PGD}"),
        (lambda rows: pd.concat([rows, rows[30:31]]), f"does not have every image once under {L2}"),
        (lambda rows: rows[rows["attack"] != PARTS], f"does not have every image once under {PARTS}"),
        (lambda rows: rows.replace(PARTS, "apgd-ce"), "has rows of no attack of its protocol"),
        (lambda rows: rows.replace({"correct": {1: 3}}), "neither 0 nor 1"),
        (lambda rows: rows.assign(label=rows["label"][::-1].to_numpy()), "other labels than the data"),
    ],
)
def test_rows_that_are_not_whole_are_left_out_and_nothing_else_is(folder, change, rule):
    cut(folder / f"runs/{ATAS}/eval/attacks.csv", change)
    found = gathered(folder)
    assert found.attacks == [PGD] and found.runs.set_index("name").loc[ATAS, "aa"] == 45
    assert rule in found.problems["rule"].iloc[0] and found.problems["file"].tolist() == ["eval/attacks.csv"]
    assert f"evaluate --run {ATAS} --results {folder} --configfile FILE" in found.problems["way_out"].iloc[0]


def test_a_name_that_is_not_canonical_is_no_attacks(folder):
    path = folder / f"runs/{ATTA}/eval/attacks.csv"
    fabricate.evaluation(
        path.parents[1],
        "attacks",
        path.read_text().replace(PGD, "pgd20").splitlines(),
        {"attacks": {"pgd20": PROTOCOL}},
    )
    assert gathered(folder).problems["rule"].tolist() == ["has a protocol of no attack"]


SMALL, LARGE = "autoattack Linf eps=26/255", "autoattack Linf eps=51/255 survivors=26/255"


@pytest.mark.parametrize(
    "names,change,rule",
    [
        ((SMALL, LARGE), lambda rows: rows, None),
        ((LARGE,), lambda rows: rows, f"does not have, by one protocol, what {LARGE} stands on"),
        (
            (SMALL, LARGE),
            lambda rows: rows.assign(correct=rows["correct"].mask(rows["attack"].eq(LARGE) & rows["index"].eq(15), 1)),
            f"has images right under {LARGE} that {SMALL} broke",
        ),
    ],
)
def test_an_attack_on_survivors_stands_on_rows_that_are_there(folder, names, change, rule):
    attacked(folder / "runs" / ATAS, 11, names)
    cut(folder / f"runs/{ATAS}/eval/attacks.csv", change)
    assert gathered(folder).problems["rule"].tolist() == ([rule] if rule else [])


@pytest.mark.parametrize("protocol", [{}, {"attacks": [PGD]}, {"attacks": {PGD: 500}}, {"attacks": None}])
def test_a_protocol_that_says_nothing_of_an_attack_is_none(folder, protocol):
    path = folder / f"runs/{ATTA}/eval/attacks.json"
    seals.write(path, {**seals.read(path), "protocol": protocol})
    for config in (None, overlay(load_config(), {"evaluation": {"attacks": [PGD]}})):
        run = verify.Checker(folder, config)
        with pytest.raises(verify.Wrong, match="names no protocol of each attack"):
            run.evaluation(
                verify.RunSpec.parse(ATTA), "attacks", verify.Checked(ATTA, seals.read(path.parents[1] / "run.json"))
            )


def test_the_config_says_which_attacks_count_and_how(tmp_path):
    config = load_config()
    config = config | {"grid": [config["grid"][0] | {"eps": "77/255", "method": "atas"}]}
    wanted = json.loads(json.dumps(verify.Checker(tmp_path, config).recipe(verify.RunSpec.parse(ATAS))))
    small = {"n_train": 30, "n_test": fabricate.N_TEST, "epochs": 2}
    wanted.pop("numerics")
    attacked(fabricate.finished(tmp_path, ATAS, **wanted | small), 11)
    aa = {"n_images": 20, "batch_size": 50}
    more = {"recipes": {"digits": {"every": small}}, "evaluation": {"autoattack": aa, "attacks": [L2, PGD]}}
    config = overlay(config, more)
    found = gathered(tmp_path, config)
    assert found.attacks == sorted([L2, PGD]) and found.problems.empty  # PARTS was asked for by hand
    none = gathered(tmp_path, overlay(config, {"evaluation": {"attacks": []}}))
    assert none.attacks == [] and none.problems.empty
    seed = gathered(tmp_path, overlay(config, {"evaluation": {"attacks": [L2, "pgd-5"]}}))
    assert "attacks/pgd-5 alpha=0.2eps is null" in seed.problems["found"].iloc[0] and seed.attacks == []
    with pytest.raises(BadInput, match="unknown word"):
        gathered(tmp_path, overlay(config, {"evaluation": {"attacks": ["cw"]}}))


def test_verify_reads_them(folder, capsys):
    assert main(["verify", ATAS, "--results", str(folder)]) == 0
    cut(folder / f"runs/{ATAS}/eval/attacks.csv", lambda rows: rows[1:])
    assert main(["verify", ATAS, "--results", str(folder)]) == 1
    assert "eval/attacks.csv does not have every image once" in capsys.readouterr().out
