"""`compare A B`: numbers of two cells or runs that are known, and names that are none."""

import json

import numpy as np
import pandas as pd
import pytest

from fastat.cli import main
from fastat.errors import BadInput
from fastat.report import versus
from tests import fabricate

PLACE = ("digits", "preact_tiny", "77/255")
ATAS, ATTA = "digits/preact_tiny/eps77/atas", "digits/preact_tiny/eps77/atta"


@pytest.fixture
def results(tmp_path):
    """ATAS right on 60, 62 and 64 of 100 images in three seeds, ATTA on 30; under PGD50 ATTA has one seed."""
    rows = []
    for method, first in (("atas", 60), ("atta", 30)):
        for seed in range(3):
            for attack in ("aa", "pgd50") if method == "atas" or seed == 0 else ("aa",):
                right = np.arange(100) < first + 2 * seed * (method == "atas")
                rows.append((*PLACE, method, "paper", str(seed), attack, 100, "same", fabricate.bits(right)))
    pd.DataFrame(rows, columns=[*fabricate.RUN, "attack", "n", "images", "bits"]).to_csv(tmp_path / "correct.csv")
    fabricate.measured([(*PLACE, m, "paper", str(s)) for m in ("atas", "atta") for s in range(3)]).to_csv(
        tmp_path / "measured.csv", index=False
    )
    return tmp_path


def test_cells_are_paired_by_seed(results):
    aa, pgd50 = versus.compared(results, ATAS, f"{ATTA}/paper")
    assert (aa["attack"], aa["n_seeds"], aa["n_images"]) == ("aa", 3, 100)
    assert aa["difference"] == pytest.approx(32) and aa["low"] > 0
    assert (pgd50["n_seeds"], pgd50["difference"]) == (1, pytest.approx(30))
    told = "\n".join(versus.described([aa, pgd50]))
    assert "AutoAttack: a - b is +32.0 points" in told and "a is better, on 3 seeds and 100 images" in told


def test_two_runs_are_one_pair_whatever_their_seeds(results):
    (aa, _) = versus.compared(results, f"{ATAS}/paper/seed2", f"{ATAS}/paper/seed0")
    assert (aa["n_seeds"], aa["only_a"], aa["only_b"], aa["p"]) == (1, 4, 0, pytest.approx(2 * 0.5**4))
    assert "undecided, on 1 seed and 100 images. One seed says nothing of other seeds. " in versus.described([aa])[2]


def test_the_command_prints_words_or_json(results, capsys):
    command = ["compare", ATAS, ATTA, "--results", str(results)]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith(f"a: {ATAS}/paper\nb: {ATTA}/paper\nAutoAttack: a - b is +32.0 points")
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["difference"] == pytest.approx(32)


@pytest.mark.parametrize(
    "a,b,words",
    [
        (ATAS, ATAS, "are the same"),
        (ATAS, "digits/preact_tiny/eps77/ata", "The nearest that was: digits/preact_tiny/eps77/atta/paper"),
        (ATAS, "atta", "a cell or run is named DATASET/MODEL/epsN/METHOD"),
        (ATAS, "", "a cell or run is named DATASET/MODEL/epsN/METHOD"),
        (ATAS, f"{ATTA}/paper/seed9", "nothing was attacked of digits/preact_tiny/eps77/atta/paper/seed9"),
        (ATAS, "digits/preact_tiny/eps999/atta", "eps"),
    ],
)
def test_names_that_are_none_are_refused_with_the_way_out(results, capsys, a, b, words):
    assert main(["compare", a, b, "--results", str(results)]) == 2
    assert words in capsys.readouterr().err


def test_cells_on_other_images_are_not_compared(results):
    rows = pd.read_csv(results / "correct.csv")
    rows.loc[rows["method"] == "atta", "images"] = "others"
    rows.to_csv(results / "correct.csv", index=False)
    with pytest.raises(versus.BadInput, match="share no images under any attack with the same seed"):
        versus.compared(results, ATAS, ATTA)


def test_images_of_two_data_sets_are_no_pairs(results):
    """They have the same numbers, 0 to 99."""
    for name in ("correct.csv", "measured.csv"):
        rows = pd.read_csv(results / name, dtype=str)
        pd.concat([rows, rows.assign(dataset="digits_dev")]).to_csv(results / name, index=False)
    with pytest.raises(BadInput, match="are of two data sets: no image of one is an image of the other"):
        versus.compared(results, ATAS, ATTA.replace("digits", "digits_dev"))
