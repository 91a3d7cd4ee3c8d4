"""One grammar for a radius and a length."""

import pytest

from fastat.errors import BadInput
from fastat.units import eps_text, in_pixels, is_eps, parse_eps


def test_a_radius_and_its_text_are_inverse():
    for n in range(1, 128):
        assert parse_eps(eps_text(n)) == n
    assert parse_eps(" 8 / 255 ") == 8


@pytest.mark.parametrize("value", [8, 8.0, "8", "8/256", "0/255", "128/255", "-8/255", "8.5/255", "", None, True, [8]])
def test_what_is_no_radius_is_refused_everywhere(value):
    assert not is_eps(value)
    with pytest.raises(BadInput, match="eps is written N/255"):
        parse_eps(value)


@pytest.mark.parametrize(
    "length,pixels",
    [
        ("4/255", 4 / 255),
        ("3.825/255", 0.015),
        ("1.5 eps", 0.15),
        ("1.5*eps", 0.15),
        ("1.5eps", 0.15),
        (" 2 eps ", 0.2),
    ],
)
def test_a_length_is_absolute_or_in_proportion(length, pixels):
    assert in_pixels(length, 0.1) == pytest.approx(pixels, rel=1e-15)


@pytest.mark.parametrize("length", ["4", 4, 0.1, "eps", "1 eps / 2", "-1 eps", "1e3 eps", "4/256", "", None])
def test_what_is_no_length_is_refused(length):
    with pytest.raises(BadInput, match="a step or radius is written"):
        in_pixels(length, 0.1)
