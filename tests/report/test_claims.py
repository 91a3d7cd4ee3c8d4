"""The paper's claims on fabricated results in which they hold, do not hold, cannot be decided, or were not run."""

import numpy as np
import pandas as pd
import pytest

from fastat.report import claims
from fastat.report.results import of_rows
from fastat.report.tidy import CORRECT, MEASURED
from tests import fabricate
from tests.fabricate import bits

CELL = ("digits", "preact_tiny")


def results(*runs):
    """(eps, method/variant, seed, metrics); `right` among them is the share of images that stand, under any attack."""
    rng = np.random.default_rng(0)
    order = rng.random(400)  # the same images are hard for all
    measured, correct = [], []
    for eps, name, seed, metrics in runs:
        method, _, variant = name.partition("/")
        who = (*CELL, f"{eps}/255", method, variant or "paper", str(seed))
        for metric, value in metrics.items():
            epoch = 5 if metric == "train_alpha_255" else None
            if metric != "right":
                measured.append((*who, metric, epoch, value, 400))
        if "collapsed_at_end" not in metrics:
            measured.append((*who, "collapsed_at_end", None, 0, None))
        if "right" in metrics:
            measured.append((*who, "aa", None, 100 * metrics["right"], 400))
            for attack in ("pgd50", "aa"):
                correct.append((*who, attack, 400, "same", bits(order < metrics["right"])))
    return pd.DataFrame(measured, columns=MEASURED), pd.DataFrame(correct, columns=CORRECT)


def evidence(*runs, **configs):
    """Name of a run -> its run.json, as fabricate.py has it; `configs`: variant -> the method's values."""
    who = [(*CELL, f"{eps}/255", *(name if "/" in name else f"{name}/paper").split("/"), str(seed))
           for eps, name, seed, _ in runs]  # fmt: skip
    lines = {about["run"]: about for about in fabricate.evidence(who)}
    return {name: {**about, "config": configs.get(name.split("/")[4], about["config"])}
            for name, about in lines.items()}  # fmt: skip


def verdict(name, *runs, tmp_path=None, **configs):
    table = claims.judge(of_rows(*results(*runs), evidence(*runs, **configs)), tmp_path)
    return table.set_index("claim").loc[name]


def both(atas: dict, other: str, values: dict, seeds=4, eps=(51, 77, 102)):
    return [
        (e, name, seed, {k: v(e, seed) if callable(v) else v for k, v in metrics.items()})
        for e in eps
        for seed in range(seeds)
        for name, metrics in (("atas", atas), (other, values))
    ]


@pytest.fixture(autouse=True)
def folder(tmp_path):
    return tmp_path


@pytest.mark.parametrize("gap,word", [(0.2, "holds"), (-0.2, "does not hold"), (0.0, "undecided")])
@pytest.mark.parametrize("claim,other", [("atas-atta", "atta"), ("atas-rs", "fgsm_rs")])
def test_atas_against_another_under_autoattack(claim, other, gap, word, folder):
    found = verdict(claim, *both({"right": 0.5 + gap}, other, {"right": 0.5}), tmp_path=folder)
    assert found["verdict"] == word and found["value"] == pytest.approx(100 * gap, abs=3)


def test_atas_is_first_only_if_it_is_first_everywhere(folder):
    runs = [*both({"right": 0.5}, "atta", {"right": 0.4}), *both({"right": 0.5}, "pgd10", {"right": 0.9})]
    assert verdict("atas-best", *runs, tmp_path=folder)["verdict"] == "holds"  # PGD10 is no fast method
    runs += [(77, "fgsm_pgi", seed, {"right": 0.8}) for seed in range(4)]
    found = verdict("atas-best", *runs, tmp_path=folder)
    assert found["verdict"] == "does not hold" and "77/255: rank 2" in found["evidence"]
    assert "better than 3, worse than 1" in found["evidence"]


def test_one_unlucky_seed_of_a_rival_does_not_shield_atas_from_the_others(folder):
    runs = [*both({"right": 0.5}, "atta", {"right": 0.6}), (77, "fgsm_pgi", 0, {"right": 0.9})]
    found = verdict("atas-best", *runs, tmp_path=folder)
    assert found["verdict"] == "does not hold" and "of 4 others at an eps and network 3 share two" in found["evidence"]


def test_worse_than_the_luckiest_of_many_is_held_to_holm_s_level(folder, monkeypatch):
    runs = both({"right": 0.5}, "atta", {"right": 0.5})
    runs += [(77, f"m{k}", seed, {"right": 0.5}) for k in range(20) for seed in range(2)]
    several = {"n_seeds": 2, "low": -9.0, "high": -0.1, "p": 0.04}
    nothing = {"n_seeds": 2, "low": -9.0, "high": 9.0, "p": 0.9}
    monkeypatch.setattr(
        claims, "against_others", lambda _evidence, _model, eps: [several] * (eps == 77) + [nothing] * 5
    )
    assert verdict("atas-best", *runs, tmp_path=folder)["verdict"] == "undecided"
    several["p"] = 0.001
    assert verdict("atas-best", *runs, tmp_path=folder)["verdict"] == "does not hold"


def test_a_rank_within_the_noise_decides_nothing(folder):
    runs = both({"right": 0.5}, "atta", {"right": 0.505})
    found = verdict("atas-best", *runs, tmp_path=folder)
    assert (found["verdict"], found["value"]) == ("undecided", 0) and "worse than 0" in found["evidence"]
    assert (
        verdict("atas-best", *both({"right": 0.505}, "atta", {"right": 0.5}), tmp_path=folder)["verdict"] == "undecided"
    )


def test_on_a_par_with_pgd10_means_no_more_than_two_points_lost(folder):
    for lost, word in ((-0.1, "holds"), (0.2, "does not hold")):
        found = verdict("atas-pgd10", *both({"right": 0.5}, "pgd10", {"right": 0.5 + lost}), tmp_path=folder)
        assert found["verdict"] == word


def test_one_pair_of_runs_decides_nothing_of_methods(folder):
    for claim, other, right in (
        ("atas-atta", "atta", 0.1),
        ("atas-pgd10", "pgd10", 0.9),
        ("insensitive", "atas/c04", 0.1),
    ):
        runs = both({"right": 0.5}, other, {"right": right}, seeds=1, eps=(77,))
        found = verdict(claim, *runs, tmp_path=folder)
        assert found["verdict"] == "undecided" and "1 pair of runs" in found["evidence"], claim
        assert "of other seeds one pair knows nothing" in found["evidence"] and abs(found["value"]) > 30
        runs = both({"right": 0.5}, other, {"right": right}, seeds=2, eps=(77,))
        assert verdict(claim, *runs, tmp_path=folder)["verdict"] != "undecided", claim
    alone = both({"right": 0.5}, "atta", {"right": 0.1}, seeds=1)
    assert verdict("atas-best", *alone, tmp_path=folder)["verdict"] == "undecided"


def test_collapses_are_counted_and_a_few_runs_decide_nothing(folder):
    runs = both({"right": 0.5}, "fgsm_rs", {"right": 0.1, "collapse_epoch": 11})
    found = verdict("rs-collapses", *runs, tmp_path=folder)
    assert found["verdict"] == "holds"
    assert found["evidence"] == (
        "FGSM-RS 12 of 12 runs (0 at the end, 12 for a while), ATAS 0 of 12 runs; "
        + ", ".join(f"preact_tiny {eps}/255 4 of 4 and 0 of 4" for eps in (102, 51, 77))
    )
    assert verdict("rs-collapses", *runs[:4], tmp_path=folder)["verdict"] == "undecided"
    never = {"collapse_epoch": 11, "collapsed_at_end": 1, "robustness_lost": lambda _, seed: int(seed == 0)}
    found = verdict("rs-collapses", *both({}, "fgsm_rs", never, eps=(77,)), tmp_path=folder)
    assert found["verdict"] == "holds" and found["evidence"] == (  # 4 of 4 and 0 of 4; 1 of 4 and 0 of 4
        "FGSM-RS 4 of 4 runs (4 at the end, 3 of them not robust before, 0 for a while), ATAS 0 of 4 runs"
        "; p = 1 if those not robust before do not count"
    )
    never["robustness_lost"] = 0
    found = verdict("rs-collapses", *both({}, "fgsm_rs", never, eps=(77,)), tmp_path=folder)
    assert found["evidence"].endswith("; none is left if those not robust before do not count")
    swapped = both({"right": 0.1, "collapse_epoch": 11}, "fgsm_rs", {"right": 0.5})
    assert verdict("rs-collapses", *swapped, tmp_path=folder)["verdict"] == "does not hold"


def test_collapse_grows_with_eps_and_with_the_step(folder):
    def at(e, _seed):
        return 9 if e == 102 else None

    runs = both({"right": 0.5}, "fgsm_rs", {"collapse_epoch": at, "collapsed_at_end": lambda e, _: int(e == 102)})
    assert verdict("eps-collapse", *runs, tmp_path=folder)["evidence"] == (
        "collapsed: 4 of 12 runs (4 at the end, 0 for a while)"
    )
    assert verdict("eps-collapse", *runs, tmp_path=folder)["verdict"] == "holds"
    never = {"collapse_epoch": at, "collapsed_at_end": lambda e, _: int(e == 102)}
    never["robustness_lost"] = lambda e, seed: int(seed > 0) if e == 102 else None
    assert verdict("eps-collapse", *both({"right": 0.5}, "fgsm_rs", never), tmp_path=folder)["evidence"] == (
        "collapsed: 4 of 12 runs (4 at the end, 1 of them not robust before, 0 for a while)"
        "; p = 0.036 if those not robust before do not count"
    )
    steps = [
        (77, f"fgsm_rs/step{step:03d}", seed, {"collapse_epoch": 9 if step > 150 else None})
        for step in (75, 100, 150, 175, 200)
        for seed in range(3)
    ]
    found = verdict("step-collapse", *steps, tmp_path=folder)
    assert found["verdict"] == "holds" and found["value"] > 0.5
    assert (
        found["evidence"] == "collapsed: 6 of 15 runs (0 at the end, 6 for a while), with fixed steps of 0.75 to 2 eps"
    )
    none = [(e, n, s, {}) for e, n, s, _ in steps]
    assert verdict("step-collapse", *none, tmp_path=folder)["verdict"] == "undecided"


def test_step_sizes_are_the_recipes_whatever_the_variants_are_called(folder):
    """`slow` and `step200` are other step sizes than they sound; `fgsm` differs in its start too."""
    configs = {
        "slow": {"alpha": "2 eps"}, "step200": {"alpha": "0.75 eps"}, "paper": {"alpha": "1.25 eps"},
        "unit": {"alpha": "1 eps"}, "fgsm": {"alpha": "1 eps", "random_start": False},
    }  # fmt: skip
    steps = [
        (77, f"fgsm_rs/{name}", seed, {"collapse_epoch": 9 if name in ("slow", "fgsm") else None})
        for name in configs
        for seed in range(3)
    ]
    found = verdict("step-collapse", *steps, tmp_path=folder, **configs)
    assert found["verdict"] == "holds"
    assert (
        found["evidence"] == "collapsed: 3 of 12 runs (0 at the end, 3 for a while), with fixed steps of 0.75 to 2 eps"
    )
    adaptive = [(77, "fgsm_adaptive", seed, {}) for seed in range(3)]
    found = verdict("adaptive-prevents", *steps, *adaptive, tmp_path=folder, **configs)
    assert found["evidence"] == "fixed step 0 of 3 runs, adaptive step 0 of 3 runs"


def test_without_recipes_nothing_is_said_of_step_sizes_and_a_note_says_why(folder):
    steps = [(77, f"fgsm_rs/step{step:03d}", 0, {"collapse_epoch": 9}) for step in (75, 100, 150, 175, 200)]
    runs = [*steps, (77, "fgsm_adaptive", 0, {}), *((77, f"atas{v}", 0, {"right": 0.5}) for v in ("", "/gamma12"))]
    found = of_rows(*results(*runs))
    assert len(found.notes) == 1 and found.notes[0].startswith("evidence.jsonl: 7 runs of fgsm_rs, atta, atas are with")
    table = claims.judge(found, folder).set_index("claim")["verdict"]
    assert table[["step-collapse", "adaptive-prevents", "insensitive"]].tolist() == ["not run"] * 3


def test_remedies_against_collapse_are_counted_together_and_told_apart(folder):
    runs = both({"right": 0.5}, "fgsm_rs", {"collapse_epoch": 9})
    assert verdict("others-avoid", *runs, tmp_path=folder)["verdict"] == "not run"
    runs += [(77, name, seed, {"collapse_epoch": 9 if (name, seed) == ("ssat", 0) else None})
             for name in ("fgsm_ga", "ssat") for seed in range(4)]  # fmt: skip
    found = verdict("others-avoid", *runs, tmp_path=folder)
    assert found["verdict"] == "holds"
    assert found["evidence"] == (
        "FGSM-RS 4 of 4 runs (0 at the end, 4 for a while), the others 1 of 8 runs (0 at the end, 1 for a while): "
        "fgsm_ga 0 of 4, ssat 1 of 4"
    )


def test_subsets_with_large_norms_collapse(folder):
    def runs(large, small):
        return [
            (77, f"fgsm_rs/step175_d{part}", seed, {"collapse_epoch": first})
            for part, first in (("9_10", large), ("7_10", large), ("1_2", small), ("1_4", small))
            for seed in range(3)
        ]

    assert verdict("norm-collapse", *runs(9, None), tmp_path=folder)["verdict"] == "holds"
    assert verdict("norm-collapse", *runs(None, 9), tmp_path=folder)["verdict"] == "does not hold"
    called_so = [(77, f"fgsm_rs/step175_d{part}", 0, {"collapse_epoch": 9}) for part in ("28_10", "1_10", "4_6")]
    found = verdict("norm-collapse", *runs(9, None), *called_so, tmp_path=folder)
    assert found["evidence"].startswith("large gradient norms 6 of 6 runs") and "small 0 of 6 runs" in found["evidence"]


def test_surfaces_tell_where_the_distortion_is(folder):
    def surface(run, group, bulge):
        along = {u: 1.0 + u + bulge * (u == 0.5) for u in (0, 0.5, 1)}
        who = dict(
            zip(("dataset", "model", "eps", "method", "variant"), (*CELL, "77/255", "fgsm_rs", "step175"), strict=True)
        )
        return [{**who, "seed": run, "epoch": e, "group": group, "n": 9, "u": u, "w": 0, "loss": v}
                for e in (9, 10, 11) for u, v in along.items()]  # fmt: skip

    rows = [row for run in "012" for row in surface(run, "D1", 0) + surface(run, "D10", 3 + 0.1 * int(run))]
    elsewhere = [{"epoch": 9}, {"epoch": 10}, {"w": 0.5}, {"u": -0.5}]  # 11, the third, is the middle one drawn
    rows += [{**row, "loss": 99.0, **other} for row in surface("0", "D1", 0)[6:7] for other in elsewhere]
    pd.DataFrame(rows).to_csv(folder / "fig02.csv", index=False)
    found = verdict("d10-first", (77, "atas", 0, {"right": 0.5}), tmp_path=folder)
    assert found["verdict"] == "holds" and found["value"] == pytest.approx(2.6)


def test_the_adaptive_step_prevents_collapse_and_is_larger(folder):
    runs = [(77, "fgsm_rs/step100", seed, {"collapse_epoch": 9}) for seed in range(4)]
    runs += [(77, "fgsm_adaptive", seed, {"train_alpha_255": 90}) for seed in range(4)]
    runs += [(77, "atas", seed, {"train_alpha_255": 80 + seed}) for seed in range(4)]
    assert verdict("adaptive-prevents", *runs, tmp_path=folder)["verdict"] == "holds"
    found = verdict("adaptive-larger", *runs, tmp_path=folder)
    assert found["verdict"] == "holds" and found["value"] == pytest.approx(81.5 / 77 - 1)
    assert "fgsm_adaptive: mean step 1.17 eps, collapsed: 0 of 4 runs" in found["evidence"]


def test_ratio_and_losses(folder):
    def by_eps(e, seed):
        return e / 50 + 0.01 * seed

    runs = both(
        {"ratio": by_eps, "robust_train_loss": 1.0, "train_seconds": 10},
        "atta",
        {"robust_train_loss": by_eps, "train_seconds": 10.5},
    )
    table = claims.judge(of_rows(*results(*runs)), folder).set_index("claim")["verdict"]
    assert table[["tail", "tail-eps", "loss", "tail-loss", "time"]].tolist() == ["holds"] * 5
    values = claims.judge(of_rows(*results(*runs)), folder).set_index("claim")["value"]
    ratios = [by_eps(e, seed) for e in (51, 77, 102) for seed in range(4)]
    assert values["tail"] == pytest.approx(np.sqrt(ratios).mean() - 1)
    assert values["loss"] == pytest.approx(np.mean(ratios) - 1) and values["time"] == pytest.approx(10 / 10.5)
    worse = both(
        {"ratio": 1.0, "robust_train_loss": 3.0, "train_seconds": 20},
        "atta",
        {"robust_train_loss": by_eps, "train_seconds": 10},
    )
    table = claims.judge(of_rows(*results(*worse)), folder).set_index("claim")["verdict"]
    assert table[["tail", "loss", "time"]].tolist() == ["does not hold"] * 3


def test_seconds_that_scatter_decide_nothing(folder):
    def noisy(_e, seed):
        return 10 * (0.2, 0.6, 1.1, 2.7)[seed]

    found = verdict("time", *both({"train_seconds": noisy}, "atta", {"train_seconds": 15}), tmp_path=folder)
    assert found["verdict"] == "undecided" and found["low"] < 0.9 < found["high"]


def test_seconds_on_two_kinds_of_hardware_are_not_compared(folder):
    runs = both({"train_seconds": 10, "device": "an H100"}, "atta", {"train_seconds": 40, "device": "a CPU"})
    found = verdict("time", *runs, tmp_path=folder)
    assert found["verdict"] == "not run" and "same hardware" in found["evidence"]
    same = both({"train_seconds": 10, "device": "a CPU"}, "atta", {"train_seconds": 40, "device": "a CPU"})
    assert verdict("time", *same, tmp_path=folder)["verdict"] == "does not hold"


def test_images_that_differ_between_seeds_are_no_crash(folder):
    measured, correct = results(*both({"right": 0.7}, "atta", {"right": 0.5}))
    few = correct["seed"] == "3"
    correct.loc[few, ["n", "images", "bits"]] = [8, "others", bits(np.ones(8))]
    found = claims.judge(of_rows(measured, correct), folder).set_index("claim").loc["atas-atta"]
    assert found["verdict"] == "holds" and found["evidence"] == "9 pairs of runs, 400 images each"


def test_one_setting_that_fails_makes_atas_sensitive(folder):
    runs = [(77, name, seed, {"right": right}) for seed in range(3) for name, right in
            (("atas", 0.5), ("atas/gamma12", 0.52), ("atas/c04", 0.1))]  # fmt: skip
    found = verdict("insensitive", *runs, tmp_path=folder)
    assert found["verdict"] == "does not hold" and "c04" in found["evidence"]
    calm = [run for run in runs if "c04" not in run[1]]
    assert verdict("insensitive", *calm, tmp_path=folder)["verdict"] == "holds"
    mine = [(77, "atas/mine", seed, {"right": 0.1}) for seed in range(3)]
    found = verdict("insensitive", *calm, *mine, tmp_path=folder, mine={"gamma_over_c": "2 eps", "c": 2.0})
    assert found["verdict"] == "does not hold" and "mine" in found["evidence"]


@pytest.mark.parametrize(
    "ranks,word", [([0.9, 0.8], "holds"), ([0.9, 0.4], "undecided"), ([0.3, 0.4], "does not hold")]
)
def test_ranks_of_norms_are_read_from_the_figure_s_data(folder, ranks, word):
    pd.DataFrame({"dataset": ["digits"] * 2, "spearman": ranks}).to_csv(folder / "fig06_ranks.csv", index=False)
    found = verdict("instance", (77, "atas", 0, {"right": 0.5}), tmp_path=folder)
    assert (found["verdict"], found["value"], found["low"]) == (word, pytest.approx(sum(ranks) / 2), min(ranks))


@pytest.mark.parametrize(
    "content,words",
    [
        (b"", "no fig06_ranks.csv"),
        (bytes(range(256)), "fig06_ranks.csv cannot be read"),
        (b"spearman\n0.9\n", "lacks the columns dataset"),
        (b"dataset,spearman\ndigits,much\n", "has nothing of digits"),
    ],
)
def test_damaged_data_of_a_figure_leave_the_claim_not_run(folder, content, words):
    (folder / "fig06_ranks.csv").write_bytes(content)
    found = verdict("instance", (77, "atas", 0, {"right": 0.5}), tmp_path=folder)
    assert found["verdict"] == "not run" and words in found["evidence"]


def test_nothing_run_is_a_table_that_says_what_is_missing(folder):
    table = claims.judge(of_rows(), folder)
    assert len(table) == len(claims.CLAIMS) >= 12 and set(table["verdict"]) == {"not run"}
    assert table["evidence"].str.len().min() > 5 and table["claim"].is_unique


def test_the_table_for_people_begins_with_what_holds(folder):
    theirs = (77, "external/wrn", 0, {"right": 0.5})  # a checkpoint, which is no training
    measured, correct = results(*both({"right": 0.7}, "atta", {"right": 0.5}), theirs)
    claims.write_report(of_rows(measured, correct), folder, folder / "claims.csv")
    title, _, trained, _, *lines = (folder / "claims.md").read_text().splitlines()
    assert title.startswith("# ") and trained == "24 trainings on digits."
    assert lines[2].startswith("| holds") and "[" in lines[2] and lines[-1].startswith("| not run")
    assert len(lines) == 2 + len(claims.CLAIMS)


def test_each_data_set_is_judged_by_itself(folder):
    measured, correct = results(*both({"right": 0.7}, "atta", {"right": 0.5}))
    other = [frame.assign(dataset="cifar10") for frame in results(*both({"right": 0.3}, "atta", {"right": 0.5}))]
    found = of_rows(pd.concat([measured, other[0]]), pd.concat([correct, other[1]]))
    table = claims.judge(found, folder)
    found = table[table["claim"] == "atas-atta"].set_index("scale")["verdict"]
    assert found.to_dict() == {"digits": "holds", "cifar10": "does not hold"}


def test_what_is_not_there_or_diverged_did_not_avoid_collapse(folder):
    """A run that is missing, or whose weights became no numbers, counted as one that did not collapse."""
    runs = both({"right": 0.5, "collapse_epoch": 9}, "fgsm_rs", {"right": 0.1, "collapse_epoch": 11}, seeds=2)
    measured, correct = results(*runs)
    missing = [(*CELL, "77/255", "atas", "paper", str(seed), "left_out", None, "run.json is missing", None)
               for seed in range(5, 30)]  # fmt: skip
    gone = [(*CELL, "77/255", "fgsm_rs", "paper", str(seed), *row) for seed in range(5, 30)
            for row in (("diverged", None, 1, None), ("collapsed_at_end", None, 0, None))]  # fmt: skip
    found = of_rows(pd.concat([measured, pd.DataFrame([*missing, *gone], columns=MEASURED)]), correct)
    line = claims.judge(found, folder).set_index("claim").loc["rs-collapses"]
    assert line["verdict"] == "undecided" and line["evidence"].startswith("FGSM-RS 6 of 6 runs")
    assert "ATAS 6 of 6 runs" in line["evidence"]
    claims.write_report(found, folder, folder / "claims.csv")
    assert "12 trainings on digits; 25 more diverged, and are in no claim." in (folder / "claims.md").read_text()


def test_large_and_small_norms_are_compared_at_the_same_eps(folder):
    """By eps 15 of 15 against 15 of 23, and 4 of 44 against 0 of 41; together 19 of 59 and 15 of 64, and it is lost."""
    runs = [
        (eps, f"fgsm_rs/step175_d{part}", seed, {"collapse_epoch": 9 if seed < k else None})
        for eps, part, k, n in ((102, "9_10", 15, 15), (102, "1_2", 15, 23), (77, "9_10", 4, 44), (77, "1_2", 0, 41))
        for seed in range(n)
    ]
    found = verdict("norm-collapse", *runs, tmp_path=folder)
    assert found["verdict"] == "holds" and found["p"] < 0.01
    assert "preact_tiny 102/255 fgsm_rs step175 15 of 15 and 15 of 23" in found["evidence"]


def test_what_is_told_is_of_the_runs_that_are_compared(folder):
    """The fixed step was run at another eps, too, and a pair of ATTA and ATAS has no ratio."""
    runs = [(77, name, seed, {}) for seed in range(3) for name in ("fgsm_rs/step100", "fgsm_adaptive")]
    runs += [(102, "fgsm_rs/step100", seed, {"collapse_epoch": 9}) for seed in range(3)]
    found = verdict("adaptive-prevents", *runs, tmp_path=folder)
    assert (found["value"], found["evidence"]) == (0, "fixed step 0 of 3 runs, adaptive step 0 of 3 runs")
    losses = both({"robust_train_loss": 1.0}, "atta", {"robust_train_loss": lambda _, seed: 1 + seed}, eps=(77,))
    losses += both({"robust_train_loss": 1.0, "ratio": lambda _, seed: 1 + seed}, "atta",
                   {"robust_train_loss": lambda _, seed: 1 + seed}, eps=(102,))  # fmt: skip
    assert verdict("tail-loss", *losses, tmp_path=folder)["evidence"] == "4 pairs of runs"
    assert verdict("tail-loss", *losses[:8], tmp_path=folder)["evidence"] == "no ratio of ATAS"


def test_a_few_runs_in_a_perfect_order_are_no_proof(folder):
    """Of four runs one order in four or fewer is as good: scipy's large-sample p was 0."""
    runs = [(8, "fgsm_rs", 0, {}), *((16, "fgsm_rs", seed, {"collapse_epoch": 3}) for seed in range(3))]
    found = verdict("eps-collapse", *runs, tmp_path=folder)
    assert (found["value"], found["p"], found["verdict"]) == (pytest.approx(1), pytest.approx(0.25), "undecided")


def test_a_method_with_small_steps_makes_no_effect_of_the_step(folder):
    """ATTA at 0.5 eps never collapses, FGSM-RS at 1.25 always: that is a difference of methods."""
    configs = {"small": {"alpha": "0.4 eps"}, "large": {"alpha": "1.3 eps"}}
    runs = [(77, name, seed, {"collapse_epoch": 9 if name[0] == "f" else None}) for seed in range(9)
            for name in ("fgsm_rs", "fgsm_rs/large", "atta", "atta/small")]  # fmt: skip
    found = verdict("step-collapse", *runs, tmp_path=folder, **configs)
    assert found["verdict"] == "undecided"


def test_a_setting_that_nobody_knows_keeps_atas_from_being_called_insensitive(folder):
    runs = [(77, name, seed, {"right": 0.5}) for seed in range(3) for name in ("atas", "atas/gamma12")]
    assert verdict("insensitive", *runs, tmp_path=folder)["verdict"] == "holds"
    known = [*runs, (77, "atas/c04", 0, {"right": 0.5})]
    assert verdict("insensitive", *known, tmp_path=folder)["verdict"] == "undecided"
    absent = [*runs, (77, "atas/c04", 0, {})]
    found = verdict("insensitive", *absent, tmp_path=folder)
    assert found["verdict"] == "undecided" and found["evidence"] == (
        "worst of 1: gamma12; 3 pairs of runs, 400 images each; not compared under aa: c04; on a par: above -2"
    )
    absent += [(77, "atas/c02", seed, {"right": 0.1}) for seed in range(3)]
    assert verdict("insensitive", *absent, tmp_path=folder)["verdict"] == "does not hold"
    none = [(77, name, 0, {}) for name in ("atas", "atas/c04")]
    assert verdict("insensitive", *none, tmp_path=folder)["verdict"] == "not run"


@pytest.mark.parametrize(
    "low,high,word", [(-1.9, -0.1, "holds"), (-2.1, -0.1, "undecided"), (-3, -2.1, "does not hold")]
)
def test_on_a_par_is_two_points(folder, monkeypatch, low, high, word):
    found = {"value": (low + high) / 2, "low": low, "high": high, "told": "9 pairs of runs", "pairs": 9}
    monkeypatch.setattr(claims, "gap", lambda *_: dict(found))
    assert verdict("atas-pgd10", (77, "atas", 0, {"right": 0.5}), tmp_path=folder)["verdict"] == word


def test_runs_are_compared_at_the_seeds_that_both_have(folder):
    runs = [(102, "fgsm_rs", seed, {"collapse_epoch": 9}) for seed in range(4)]
    runs += [(102, "atas", seed, {}) for seed in (0, 1, 7)]
    found = verdict("rs-collapses", *runs, tmp_path=folder)
    assert found["evidence"].startswith("FGSM-RS 2 of 2 runs") and "ATAS 0 of 2 runs" in found["evidence"]


def test_runs_of_two_networks_are_not_compared_with_each_other(folder):
    measured, correct = results(*both({"right": 0.5, "train_seconds": 9}, "fgsm_rs", {"collapse_epoch": 9}))
    atta = results(*both({}, "atta", {"train_seconds": 9}))[0]
    apart = pd.concat([measured, atta[atta["method"] == "atta"]])
    apart = apart.assign(model=np.where(apart["method"] == "atas", "another", apart["model"]))
    correct = correct.assign(model=np.where(correct["method"] == "atas", "another", correct["model"]))
    table = claims.judge(of_rows(apart, correct), folder).set_index("claim")
    assert table.loc[["rs-collapses", "time"], "verdict"].tolist() == ["not run"] * 2
    line = claims.judge(of_rows(pd.concat([measured, measured.assign(model="another")])), folder).set_index("claim")
    assert "another 102/255 4 of 4 and 0 of 4" in line.loc["rs-collapses", "evidence"]
