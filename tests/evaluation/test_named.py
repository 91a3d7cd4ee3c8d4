"""Attacks by name: what each of their words does to the verdicts, and what does not depend on what."""

import pytest
import torch

from fastat.attacks import LINF, iterates, l2_norm
from fastat.config.attack_names import parse, parse_list
from fastat.data.datasets import Part
from fastat.errors import BadInput
from fastat.evaluation import autoattack, named, whitebox
from fastat.networks import models

EPS = 0.03
PROTOCOL = {"batch_size": 7, "seed": 0}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return models.build("preact_tiny", 1, 10).eval()


@pytest.fixture(scope="module")
def part(model):
    """Thirty images, labelled by the network itself except the first."""
    images = torch.randint(256, (30, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = model(images.float() / 255).argmax(1)
    labels[0] = (labels[0] + 1) % 10
    return Part(images, labels, tuple(images.shape[2:]))


@pytest.fixture
def rows(model, part, tmp_path):
    """typed -> the rows, attacked afresh."""

    def attack(typed, protocol=PROTOCOL):
        name, partial = str(parse(typed)), tmp_path / "partial.csv"
        partial.unlink(missing_ok=True)
        return named.attack_all(model, part, name, eps=EPS, protocol=protocol, partial=partial)

    return attack


def broken(found):
    return {row["index"] for row in found if not row["correct"]}


def without_name(found):
    return [{**row, "attack": ""} for row in found]


@pytest.mark.parametrize("restarts", [1, 3])
def test_pgd10_by_name_is_pgd10_of_the_standard_suite(model, part, rows, restarts):
    protocol = whitebox.Protocol(eps=EPS, batch_size=7, pgd_restarts=restarts)
    standard = [row for row in whitebox.attack_all(model, part, protocol) if row["attack"] == "pgd10"]
    found = rows(f"pgd-10 alpha=0.2eps restarts={restarts}")
    assert without_name(found) == without_name(standard) and 0 < len(broken(found)) < 30


def test_fgsm_at_another_radius_is_the_standard_suites_at_that_radius(model, part, rows):
    standard = list(whitebox.attack_all(model, part, whitebox.Protocol(eps=8 / 255, batch_size=7)))
    found = rows("fgsm eps=8/255")
    assert without_name(found) == without_name(row for row in standard if row["attack"] == "fgsm")
    assert {row["attack"] for row in found} == {"fgsm Linf eps=8/255"}


@pytest.mark.parametrize("rest", ["", "L2 eps=0.3", "targets=2", "restarts=3"])
def test_any_iterate_breaks_what_the_last_or_the_best_breaks(rows, rest):
    last, best, anyone = (broken(rows(f"pgd-7 alpha=0.4eps {rest} {counts}")) for counts in ("last", "best", "any"))
    assert last | best <= anyone and 0 < len(anyone)


def test_the_best_iterate_has_the_highest_loss_and_the_last_is_the_last(model, part):
    x, y = part.take(torch.arange(30))
    options = {"eps": EPS, "alpha": EPS, "n_steps": 6, "x_start": x}
    loss_of = named.objective(y, None)
    walk = list(iterates(model, x, y, **options))
    losses = torch.stack([loss_of(logits) for _, logits in walk])
    right = torch.stack([logits.argmax(1) == y for _, logits in walk])
    best, last = (named.counted(walk, y, counts, loss_of) for counts in ("best", "last"))
    assert torch.equal(best.loss, losses.amax(0)) and torch.equal(last.loss, losses[-1])
    assert torch.equal(best.correct, right.gather(0, losses.argmax(0)[None])[0]) and torch.equal(
        last.correct, right[-1]
    )
    assert torch.equal(named.counted(walk, y, "any", loss_of).correct, right.all(0))
    assert not torch.equal(losses.argmax(0), torch.full((30,), 6))  # else nothing was tested


def test_a_loss_that_is_no_number_on_the_way_is_one_at_the_end():
    y = torch.zeros(1, dtype=torch.long)
    walk = [(torch.zeros(1, 1, 1, 1), torch.tensor([[1.0, k]])) for k in (0.0, float("nan"), 0.0)]
    for counts in ("best", "any"):
        assert named.counted(walk, y, counts, named.objective(y, None)).loss.isnan().all()


def test_targets_are_the_other_classes_with_the_highest_logits_first(model, part):
    x, y = part.take(torch.arange(30))
    with torch.no_grad():
        logits = model(x)
    every = torch.stack(named.targets(model, x, y, "all"))
    assert every.shape == (9, 30) and not (every == y).any()
    assert (logits.gather(1, every.T).diff(dim=1) <= 0).all()
    assert torch.equal(torch.stack(named.targets(model, x, y, 3)), every[:3])
    assert named.targets(model, x, y, 0) == [None]


def test_a_step_towards_a_target_lowers_its_own_cross_entropy(model, part):
    x, y = part.take(torch.arange(30))
    (target,) = named.targets(model, x, y, 1)
    options = {"eps": EPS, "alpha": 1e-3, "n_steps": 1, "x_start": x}
    (_, before), (_, after) = iterates(model, x, y, ball=LINF, target=target, **options)
    loss = named.objective(y, target)
    assert (loss(after) > loss(before)).all()


def test_more_targets_break_more_and_each_is_the_same_among_others(rows):
    one, three, every = (broken(rows(f"pgd-5 targets={n}")) for n in (1, 3, "all"))
    assert one <= three <= every and len(one) < len(every)


def test_restarts_are_the_union_of_themselves(rows):
    one, five = (broken(rows(f"pgd-1 alpha=0.01eps eps=40/255 restarts={n}")) for n in (1, 5))
    assert one <= five and len(one) < len(five)


def test_l2_attacks_stay_in_their_ball(model, part):
    x, y = part.take(torch.arange(30))
    for typed in ("pgd-10 L2 eps=0.4", "pgd-10 L2 eps=0.4 targets=2 best", "fgsm L2 eps=0.4"):
        found = named.attacked(model, x, y, parse(typed), eps=EPS, seed=0, first=0)
        size = l2_norm(found.x_adv - x)
        assert size.max() <= 0.4 * (1 + 1e-6) and size.max() > 0.39
        assert found.x_adv.min() >= 0 and found.x_adv.max() <= 1


def test_an_attack_depends_neither_on_others_nor_on_the_global_generator(rows):
    first = rows("pgd-5 L2 eps=0.3 restarts=2")
    rows("pgd-5 restarts=2"), torch.rand(100)
    assert rows("pgd-5 L2 eps=0.3 restarts=2") == first


def test_an_image_without_gradient_stays_where_it_is(part):
    class Deaf(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.one_hot(part.labels[:7], 10) + 0 * x.sum((1, 2, 3))[:, None]

    x, y = part.take(torch.arange(7))
    found = named.attacked(Deaf().eval(), x, y, parse("pgd-5 L2 eps=0.5"), eps=EPS, seed=0, first=0)
    assert found.correct.all() and found.x_adv.isfinite().all()


def test_an_interrupted_attack_goes_on_after_its_last_batch(model, part, rows, tmp_path, monkeypatch):
    whole, partial = rows("pgd-5 L2 eps=0.4 restarts=2"), tmp_path / "partial.csv"
    lines = partial.read_text().splitlines()
    kept = [{**row, "step": str(row["step"])} for row in whole[:14]]
    autoattack.write_partial(partial, kept)
    seen: list[int] = []
    real = named.attacked

    def attacked(*args, first, **options):
        seen.append(first)
        return real(*args, first=first, **options)

    monkeypatch.setattr(named, "attacked", attacked)
    options = {"eps": EPS, "protocol": PROTOCOL, "partial": partial}
    named.attack_all(model, part, whole[0]["attack"], **options)
    assert seen == [14, 21, 28] and partial.read_text().splitlines() == lines
    named.attack_all(model, part, whole[0]["attack"], **options)
    assert len(seen) == 3
    partial.write_text(partial.read_text().replace(",1,\n", ",0,\n", 1))
    with pytest.raises(BadInput, match="is damaged.*rm "):
        named.attack_all(model, part, whole[0]["attack"], **options)


def test_of_autoattacks_parts_each_image_has_one_verdict_and_says_which_broke_it(rows):
    found = rows("square+apgd-ce", {"n_images": 10, "batch_size": 10, "seed": 0})
    assert len(found) == 10 and {row["attack"] for row in found} == {"apgd-ce+square"}
    assert all((row["step"] == "") == bool(row["correct"]) for row in found)
    said = {row["step"] for row in found}
    assert said <= {"", "clean", "apgd-ce", "square"} and "apgd-ce" in said
    once = rows("apgd-ce", {"n_images": 10, "batch_size": 10, "seed": 0})
    assert broken(once) <= broken(found)


@pytest.mark.parametrize(
    "kind,protocol",
    [
        ("pgd-5 alpha=0.2eps", PROTOCOL),
        ("pgd-5 alpha=0.2eps L2", PROTOCOL),
        ("autoattack", {"n_images": 12, "batch_size": 12, "seed": 0}),
    ],
)
def test_what_a_smaller_radius_broke_is_broken_at_a_larger_one_and_not_attacked(
    model, part, tmp_path, monkeypatch, kind, protocol
):
    small, middle, large = ("0.2", "0.4", "0.8") if "L2" in kind else ("1/255", "2/255", "4/255")
    if kind == "autoattack":  # whose parts take long on what stands: at the second radius nothing does
        small, middle, large = "1/255", "12/255", "16/255"
    kind = kind if "L2" in kind else f"{kind} Linf"
    seen: list[int] = []
    taken = Part.take

    def take(self, index):
        seen.extend(index.tolist())
        return taken(self, index)

    monkeypatch.setattr(Part, "take", take)
    found: list[whitebox.Row] = []
    attacked = {}
    names = parse_list([f"{kind} eps={large} survivors={small}+{middle}"], "x")
    for name in named.in_order(names):
        seen.clear()
        fallen = named.broken_before(name, found)
        partial = tmp_path / f"{len(attacked)}.csv"
        options = {"eps": EPS, "protocol": protocol, "partial": partial, "broken": fallen}
        made = named.attack_all(model, part, name, **options)
        attacked[name] = {*seen}
        assert not attacked[name] & {row["index"] for row in fallen}
        again = named.attack_all(model, part, name, **options)  # from its partial file
        assert [{**row, "step": str(row["step"])} for row in made] == [
            {**row, "step": str(row["step"])} for row in again
        ]
        found += made
    one, two, three = ([row for row in found if row["attack"] == name] for name in named.in_order(names))
    n = protocol.get("n_images", 30)
    assert [len(rows) for rows in (one, two, three)] == [n] * 3 and broken(one) < broken(two) <= broken(three)
    assert [row["index"] for row in one] == [row["index"] for row in three]
    marks = {row["index"]: row["step"] for row in three if str(row["step"]).startswith(("clean", "eps="))}
    assert marks.keys() == broken(two)
    early = {row["index"] for row in one if not row["correct"] and row["step"] != "clean"}
    assert {index for index, mark in marks.items() if mark == f"eps={small}"} == early


def test_where_nothing_stands_nothing_is_attacked(model, part, tmp_path):
    name, before = "pgd-5 alpha=0.2eps Linf eps=4/255 survivors=2/255", "pgd-5 alpha=0.2eps Linf eps=2/255"
    rows = [dict(zip(whitebox.COLUMNS, (before, i, int(part.labels[i]), 0, 3), strict=True)) for i in range(30)]
    fallen = named.broken_before(name, rows)
    options = {"eps": EPS, "protocol": PROTOCOL, "partial": tmp_path / "none.csv", "broken": fallen}
    found = named.attack_all(model, part, name, **options)
    assert broken(found) == {*range(30)} and {row["step"] for row in found} == {"eps=2/255"}
    assert not (tmp_path / "none.csv").exists()
