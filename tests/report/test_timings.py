"""What finished runs say of how long others take: medians, on one device."""

from fastat.report import timings
from fastat.report.progress import Progress


def run(name, trained, evaluated=None, device="a V100", **more):
    return Progress(f"digits/preact_tiny/eps77/{name}", trained=trained, evaluated=evaluated, device=device, **more)


RUNS = [
    run("atas/paper/seed0", 10.0, 5.0),
    run("atas/paper/seed1", 12.0, 7.0),
    run("atas/paper/seed2", 900.0, 6.0),  # a night
    run("atas/c02/seed0", 20.0, 1.0, autoattack=False),
    run("clean/paper/seed0", 3.0, 50.0),
    run("pgd10/paper/seed0", 1.0, diverged=True),
    run("atas/paper/seed3", 2.0, 2.0, device="an H100"),
    run("yopo/paper/seed0", None),
]


def test_a_median_is_of_the_same_variant_else_of_the_same_method():
    took = timings.of(RUNS, "a V100")
    known = took.training("digits/preact_tiny/eps8/atas/paper/seed9")
    assert (known.seconds, known.n, known.run) == (12.0, 3, RUNS[0].run)
    assert took.training("digits/preact_tiny/eps8/atas/c04/seed0").seconds == 16.0  # of 10, 12, 20 and 900
    assert took.training("digits/resnet18/eps8/atas/paper/seed0") is None


def test_an_evaluation_is_of_the_same_method_else_of_any_and_with_or_without_autoattack():
    took = timings.of(RUNS, "a V100")
    assert took.evaluation("digits/preact_tiny/eps8/atas/c04/seed0", True).seconds == 6.0
    assert took.evaluation("digits/preact_tiny/eps8/nuat/paper/seed0", True).seconds == 6.5  # of 5, 6, 7 and 50
    assert took.evaluation("digits/preact_tiny/eps8/nuat/paper/seed0", False).seconds == 1.0


def test_what_diverged_tells_nothing_and_other_devices_are_counted_apart():
    took = timings.of(RUNS)
    assert (took.device, took.others) == ("a V100", {"an H100": 1})
    assert took.training("digits/preact_tiny/eps77/pgd10/paper/seed1") is None
    assert timings.in_words(took, "the hours") == ["1 finished run on an H100: not counted in the hours, of a V100."]
    other = timings.of(RUNS, "an H100")
    assert other.training("digits/preact_tiny/eps8/atas/paper/seed9").seconds == 2.0
    assert other.training("digits/preact_tiny/eps8/clean/paper/seed0") is None and other.others == {"a V100": 5}
