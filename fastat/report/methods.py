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


# In order. Hues for the methods that the paper's figures are about: Okabe and Ito's, two of them darkened and one of
# Tol's, of which the least distance of two, in CIELAB as seen with and without red-green blindness, is 17. All other
# methods are grey, each of a shade, a dash and a marker of its own, and their names stand beside them in the figures.
OF_THE_PAPER = {
    "clean": About("clean", "#aaaaaa", DOTTED, ".", REFERENCE),
    "pgd10": About("PGD10", "#000000", SOLID, "s", SLOW),
    "freeat": About("FreeAT", "#5a5a5a", DASHED, "v"),
    "yopo": About("YOPO", "#8e8e8e", DASHDOT, "^"),
    "fgsm_rs": About("FGSM-RS", "#d55e00", SOLID, "o"),
    "fgsm_ga": About("FGSM-GA", "#6a6a6a", DASHED, "D", REMEDY),
    "ssat": About("SSAT", "#9e9e9e", DOTTED, "p", REMEDY),
    "atta": About("ATTA", "#56b4e9", SOLID, "P"),
    "nuat": About("NuAT", "#767676", DASHDOT, "X", REMEDY),
    "subat": About("SubAT", "#969696", DASHED, "<", REMEDY),
    "fgsm_sdi": About("FGSM-SDI", "#626262", DASHDOT, ">", REMEDY),
    "fgsm_pgi": About("FGSM-PGI", "#868686", DASHED, "h", REMEDY),
    "atas": About("ATAS", "#0072b2", SOLID, "*"),
}
METHODS = {
    **OF_THE_PAPER,
    "fgsm_adaptive": About("FGSM-RS, adaptive", "#882255", DASHED, "d"),
    "n_fgsm": About("N-FGSM", "#117733", DOTTED, "H"),
    "atas_sdi": About("ATAS + SDI", "#707070", DOTTED, (3, 1, 0)),
    "atas_pgi": About("ATAS + PGI", "#7e7e7e", DASHDOT, (5, 0, 36)),
    "elle": About("ELLE", "#686868", SOLID, (3, 0, 15)),
    "zerograd": About("ZeroGrad", "#7c7c7c", DASHED, (4, 0, 20)),
    "multigrad": About("MultiGrad", "#989898", DOTTED, (5, 1, 18)),
    "aaer": About("RS-AAER", "#606060", DASHDOT, (7, 1, 0)),
    "gat": About("GAT", "#848484", SOLID, (9, 1, 0)),
    "liet": About("LIET", "#747474", DASHED, (10, 1, 0)),
    "fgsm_uap": About("FGSM-UAP", "#646464", DOTTED, (3, 1, 30)),
    "fgsm_pco": About("FGSM-PCO", "#5c5c5c", DASHDOT, (8, 1, 22)),
    "fgsm_mep_cs": About("FGSM-MEP-CS", "#a2a2a2", DASHED, (9, 0, 10)),
    "fgsm_rs_cs": About("FGSM-RS-CS", "#8b8b8b", SOLID, (5, 1, 0)),
    "dom_re": About("DOM-RE", "#6f6f6f", DASHED, (6, 0, 15)),
    "tdat": About("TDAT", "#7b7b7b", DOTTED, (7, 0, 25)),
    "fgsm_pgk": About("FGSM-PGK", "#878787", DASHDOT, (6, 1, 15)),
    "fgsm_fuap": About("FGSM-FUAP", "#717171", SOLID, (10, 0, 18)),
    "fgsm_law": About("FGSM-LAW", "#818181", DASHED, (7, 1, 25)),
}
PLAIN_FGSM = ("fgsm_rs", "fgsm")  # a method of its own to everybody but the code
COLOUR_OF_PLAIN_FGSM = "#f0b400"
CALLED = {
    PLAIN_FGSM: "FGSM",
    ("pgd10", "wa"): "PGD-AT-WA",
    ("elle", "adaptive"): "ELLE-A",
    ("aaer", "n"): "N-AAER",
    ("fgsm_uap", "class"): "FGSM-CUAP",
}  # variants that have a name of their own
# Of methods without a line: of the first few hues, the farthest from those above by the same measure, of others greys.
SPARE_HUES = ("#0000f0", "#78d278", "#785af0", "#5a005a")
SPARE_GREYS = ("#5e5e5e", "#929292", "#6d6d6d", "#8a8a8a", "#7a7a7a", "#666666", "#828282", "#737373")
SPARE_MARKERS: tuple[Marker, ...] = ("8", (4, 1, 0), (6, 1, 0), (3, 0, 45), (7, 0, 0), (4, 1, 45), (8, 1, 0))
SPARE_DASHES = (SOLID, DASHED, DOTTED, DASHDOT)
SPARE = len(SPARE_GREYS) * len(SPARE_MARKERS)  # pairs, as many as the two lengths allow: they have no common divisor


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
    if k < len(SPARE_HUES):
        return About(method, SPARE_HUES[k], SOLID, SPARE_MARKERS[k])
    j = k - len(SPARE_HUES)
    grey, marker = SPARE_GREYS[j % len(SPARE_GREYS)], SPARE_MARKERS[j % len(SPARE_MARKERS)]
    return About(method, grey, SPARE_DASHES[j // SPARE % len(SPARE_DASHES)], marker)


def colour(method: str, variant: str = "paper") -> str:
    """What a method is drawn in, everywhere: of all variants but plain FGSM the method's own."""
    return COLOUR_OF_PLAIN_FGSM if (method, variant) == PLAIN_FGSM else about(method).colour


def is_grey(colour: str) -> bool:
    """Whether a colour is a shade of grey, and not black."""
    return colour[1:3] == colour[3:5] == colour[5:7] != "00"


def called(method: str, variant: str = "paper") -> str:
    """`fgsm_rs`, `step175` -> `FGSM-RS (step175)`; of a sweep's variant, alpha_0p5eps, `FGSM-RS (alpha 0.5 eps)`."""
    if (method, variant) in CALLED:
        return CALLED[method, variant]
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
