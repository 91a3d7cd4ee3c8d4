"""What the report knows of each method: its place, name, look and family. One table; never torch, never matplotlib.

A method without a line here gets all of that by rule. A line gives it a place and a look that stay when others come.
"""

import functools
import hashlib
from dataclasses import dataclass

from fastat.config.recipe import method_names
from fastat.config.sweep import words

Dash = tuple[int, tuple[float, ...]]  # as matplotlib has it
Marker = str | tuple[int, int, int]  # a letter, or corners, polygon (0) or star (1), and angle
SOLID, DASHED, DOTTED, DASHDOT = (0, ()), (0, (5.0, 2.0)), (0, (1.0, 1.0)), (0, (5.0, 1.5, 1.0, 1.5))
REFERENCE, SLOW, FAST, REMEDY = "reference", "slow", "fast", "remedy"  # a remedy is fast, and made to prevent collapse


@dataclass(frozen=True)
class About:
    """How people call a method, how it is drawn, and what it is compared with."""

    name: str
    colour: str
    dash: Dash
    marker: Marker
    family: str = FAST


# In order. Colours are chosen so that the least distance of two, in CIELAB as seen with and without red-green
# blindness, is as large as 17 colours allow; neighbours that remain (blues, greens) differ in dash and marker.
OF_THE_PAPER = {
    "clean": About("clean", "#999999", DOTTED, ".", REFERENCE),
    "pgd10": About("PGD10", "#000000", SOLID, "s", SLOW),
    "freeat": About("FreeAT", "#833844", DASHED, "v"),
    "yopo": About("YOPO", "#9f6a9d", DASHDOT, "^"),
    "fgsm_rs": About("FGSM-RS", "#d62728", SOLID, "o"),
    "fgsm_ga": About("FGSM-GA", "#feae08", DASHED, "D", REMEDY),
    "ssat": About("SSAT", "#e86b06", DOTTED, "p", REMEDY),
    "atta": About("ATTA", "#56b4e9", SOLID, "P"),
    "nuat": About("NuAT", "#7d0867", DASHDOT, "X", REMEDY),
    "subat": About("SubAT", "#8c87fb", DASHED, "<", REMEDY),
    "fgsm_sdi": About("FGSM-SDI", "#5b9252", DASHDOT, ">", REMEDY),
    "fgsm_pgi": About("FGSM-PGI", "#5ed781", DASHED, "h", REMEDY),
    "atas": About("ATAS", "#0048c8", SOLID, "*"),
}
METHODS = {
    **OF_THE_PAPER,
    "fgsm_adaptive": About("FGSM-RS, adaptive", "#78080b", DASHED, "d"),
    "n_fgsm": About("N-FGSM", "#4f1181", DOTTED, "H"),
    "atas_sdi": About("ATAS + SDI", "#236ab8", DOTTED, "1"),
    "atas_pgi": About("ATAS + PGI", "#0609f9", DASHDOT, "2"),
}
# Of methods without a line: the farthest from the colours above, and from one another, by the same measure.
SPARE_COLOURS = (
    "#87d2e1", "#ffb469", "#2d1e00", "#2d0f4b", "#0f00c3", "#000087", "#4b4bff", "#d2c3b4", "#b42dff", "#2d2d2d",
    "#b400a5", "#4b6969",
)  # fmt: skip
SPARE_MARKERS: tuple[Marker, ...] = ("8", (4, 1, 0), (6, 1, 0), (3, 0, 45), (7, 0, 0), (4, 1, 45), (8, 1, 0))
SPARE_DASHES = (SOLID, DASHED, DOTTED, DASHDOT)
SPARE = len(SPARE_COLOURS) * len(SPARE_MARKERS)  # pairs, as many as the two lengths allow: they have no common divisor


def about(method: str) -> About:
    """The method's line, or one by rule: a fast method that is called as it is."""
    return METHODS.get(method) or by_rule(method)


@functools.cache
def by_rule(method: str) -> About:
    """The k-th look of those left over, for the k-th method in methods/ without a line.

    What is not in methods/, as in results made elsewhere, takes one by its name, which another such method may share.
    """
    others = [name for name in method_names() if name not in METHODS]
    k = others.index(method) if method in others else int(hashlib.sha256(method.encode()).hexdigest(), 16)
    colour, marker = SPARE_COLOURS[k % len(SPARE_COLOURS)], SPARE_MARKERS[k % len(SPARE_MARKERS)]
    return About(method, colour, SPARE_DASHES[k // SPARE % len(SPARE_DASHES)], marker)


def called(method: str, variant: str = "paper") -> str:
    """`fgsm_rs`, `step175` -> `FGSM-RS (step175)`; of a sweep's variant, alpha_0p5eps, `FGSM-RS (alpha 0.5 eps)`."""
    if (method, variant) == ("fgsm_rs", "fgsm"):
        return "FGSM"
    name = about(method).name
    return name if variant == "paper" else f"{name} ({words(method, variant) if method in method_names() else variant})"


def of_family(*families: str) -> list[str]:
    """The methods of these families; all without a line are fast."""
    return [name for name, about in METHODS.items() if about.family in families]


def place(method: str) -> tuple[int, str]:
    """A sorting key: as in METHODS, then the others by name."""
    return (list(METHODS).index(method) if method in METHODS else len(METHODS)), method


def row(method: str) -> tuple[int, str]:
    """A sorting key for tables: the paper's order, then all others by name."""
    return min(place(method)[0], len(OF_THE_PAPER)), method
