"""Distances in pixel space as people write them: one grammar for configs, recipes and tables. Standard library only.

A radius is `77/255`. A length is `4/255` (absolute) or `0.5 eps`, also `0.5*eps` (in proportion to the radius). Pixels
lie in [0, 1], so that 77/255 is 0.302; a plain 8 is refused everywhere.
"""

import re
from typing import Any

from fastat.errors import BadInput

Length = str
"""`4/255` or `0.5 eps`."""

_RADIUS = re.compile(r"\s*([0-9]{1,9})\s*/\s*255\s*")
_ABSOLUTE = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*/\s*255")
_RELATIVE = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*\*?\s*eps")


def parse_eps(value: Any) -> int:
    """`77/255` -> 77: the radius in 255ths.

    Raises: BadInput for anything else, a plain 8 above all.
    """
    match = _RADIUS.fullmatch(value) if isinstance(value, str) else None
    if match and 0 < int(match[1]) < 128:
        return int(match[1])
    hint = f" Did you mean {meant}/255?" if (meant := in_255ths(value)) else ""
    raise BadInput(f"eps is written N/255 with a whole N from 1 to 127 (pixels lie in [0, 1]), got {value!r}.{hint}")


def in_255ths(value: Any) -> int:
    """What may have been meant by 8, `8`, 0.0314 or `0.0314`: 8; 0 where nobody can tell."""
    try:
        number = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return 0
    near = round(number if number >= 1 else 255 * number) if 0 < number < 128 else 0
    exact = abs(number - near) < 1e-9 if number >= 1 else abs(255 * number - near) < 0.02
    return near if exact and near < 128 else 0


def eps_text(eps_255: object) -> str:
    """77 -> `77/255`: the inverse of `parse_eps`."""
    return f"{eps_255}/255"


def is_eps(value: Any) -> bool:
    """Whether `parse_eps` takes it."""
    try:
        return parse_eps(value) > 0
    except BadInput:
        return False


def is_absolute(value: Any) -> bool:
    """Whether it is a length N/255."""
    return isinstance(value, str) and _ABSOLUTE.fullmatch(value.strip()) is not None


def in_proportion(length: Length, eps_255: int) -> Length:
    """4/255 at the radius 8/255 -> `0.5 eps`: the absolute length as a multiple of that radius.

    Raises: BadInput if it is not absolute.
    """
    if (match := _ABSOLUTE.fullmatch(str(length).strip())) is None:
        raise BadInput(f"a length in 255ths is written '4/255', got {length!r}")
    return f"{float(match[1]) / eps_255:.10g} eps"


def in_pixels(length: Length, eps: float) -> float:
    """The distance in [0, 1] pixel units; eps is in the same unit.

    Raises: BadInput if `length` is neither `N/255` nor `N eps`.
    """
    if found := length_of(length):
        return found[0] / 255 if found[1] == "/255" else found[0] * eps
    raise BadInput(f"a step or radius is written '4/255' (absolute) or '0.5 eps' (relative to eps), got {length!r}")


def length_of(value: Any) -> tuple[float, str] | None:
    """`4/255` -> (4.0, "/255"), `0.5*eps` -> (0.5, " eps"); None for what is no length."""
    text = str(value).strip()
    for pattern, unit in ((_ABSOLUTE, "/255"), (_RELATIVE, " eps")):
        if match := pattern.fullmatch(text):
            return float(match[1]), unit
    return None
