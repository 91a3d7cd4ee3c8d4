"""Which runs `--only` leaves."""

import pytest

from fastat.config.only import only
from fastat.config.spec import RunSpec
from fastat.errors import BadInput

NAMES = [
    "cifar10/preact_resnet18/eps8/atas/paper/seed0",
    "cifar10/preact_resnet18/eps8/atas_pgi/paper/seed0",
    "cifar10/wrn28_10/eps8/atas/step75/seed0",
    "cifar100/preact_resnet18/eps8/atas/paper/seed0",
    "cifar100/preact_resnet18/eps12/fgsm_rs/paper/seed0",
]
SPECS = [RunSpec.parse(name) for name in NAMES]


@pytest.mark.parametrize(
    "texts,kept",
    [
        ([], [0, 1, 2, 3, 4]),
        (["cifar10"], [0, 1, 2]),
        (["atas"], [0, 2, 3]),
        (["eps8"], [0, 1, 2, 3]),
        (["cifar10/preact_resnet18"], [0, 1]),
        (["/atas/paper/"], [0, 3]),
        ([NAMES[4]], [4]),
        (["atas", "fgsm_rs"], [0, 2, 3, 4]),
        (["cifar100", "atas", "fgsm_rs", "eps12"], [4]),
        (["cifar10/wrn28_10", "cifar100"], [2, 3, 4]),
    ],
)
def test_whole_parts_are_matched(texts, kept):
    assert only(SPECS, texts) == [SPECS[k] for k in kept]


@pytest.mark.parametrize(
    "texts,said",
    [
        (["cifar"], "no run of the grid has 'cifar' as a part of its name. Did you mean 'cifar10' or 'cifar100'?"),
        (["cifar1"], "Did you mean 'cifar10' or 'cifar100'?"),
        (["cifar10/wrn"], "Did you mean 'cifar10/wrn28_10'?"),
        (["ats"], "Did you mean 'atas'"),
        (["nothing_like_it"], "A run is called cifar10/preact_resnet18/eps8/atas/paper/seed0"),
        ([""], "no run of the grid has '' as a part"),
        (["cifar10", "eps12"], "no run of the grid is of cifar10 and eps12. Ask for fewer"),
    ],
)
def test_what_no_run_has_is_refused_with_what_it_may_have_been(texts, said):
    with pytest.raises(BadInput) as refused:
        only(SPECS, texts)
    assert said in str(refused.value)


def test_an_empty_grid_has_no_part_to_ask_for():
    assert only([], []) == []
    with pytest.raises(BadInput, match="as a part of its name"):
        only([], ["cifar10"])
