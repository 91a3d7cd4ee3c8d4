"""A run's name, which is its path: `digits/preact_tiny/eps77/atas/paper/seed0`. Standard library only."""

import re
from dataclasses import dataclass, replace
from typing import Any

from fastat.errors import BadInput
from fastat.units import eps_text, parse_eps

EXTERNAL = "external"  # the method of a network that was not trained here; its variant is the network's name
PATTERN = "{dataset}/{model}/eps{eps}/{method}/{variant}/seed{seed}"


@dataclass(frozen=True, order=True)
class RunSpec:
    """One training: what the path of its folder says."""

    dataset: str
    model: str
    eps_255: int
    method: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """`digits/preact_tiny/eps77/atas/paper/seed0`."""
        return PATTERN.format(**self.wildcards)

    @property
    def eps(self) -> float:
        """The radius; pixels lie in [0, 1]."""
        return self.eps_255 / 255

    @property
    def wildcards(self) -> dict[str, str]:
        """The parts of the name, as the workflow's patterns want them."""
        return {
            "dataset": self.dataset,
            "model": self.model,
            "eps": str(self.eps_255),
            "method": self.method,
            "variant": self.variant,
            "seed": str(self.seed),
        }

    @classmethod
    def from_wildcards(cls, wildcards: Any) -> "RunSpec":
        """The inverse of `wildcards`, as a rule of the workflow holds them."""
        w = wildcards
        return cls(w.dataset, w.model, int(w.eps), w.method, w.variant, int(w.seed))

    @classmethod
    def parse(cls, name: str) -> "RunSpec":
        """The inverse of `name`.

        Raises: BadInput if the text is not of that form, or the radius no radius.
        """
        word, number = r"[a-z0-9_]+", r"0|[1-9][0-9]{0,30}"
        match = re.fullmatch(rf"({word})/({word})/eps({number})/({word})/({word})/seed({number})", name.strip("/"))
        if not match:
            raise BadInput(f"a run is named {PATTERN} (as digits/preact_tiny/eps77/atas/paper/seed0), got {name!r}")
        dataset, model, eps, method, variant, seed = match.groups()
        return cls(dataset, model, parse_eps(eps_text(eps)), method, variant, int(seed))

    @property
    def named(self) -> str:
        """The recipe: the variant, less the subset that it may end with."""
        return split_subset(self.variant)[0]

    @property
    def subset(self) -> tuple[int, int] | None:
        """(i, j) of a run that trains on D_i^j alone, the images in the i-th to j-th tenth by gradient norm."""
        return split_subset(self.variant)[1]

    @property
    def ranked_by(self) -> "RunSpec":
        """The run whose gradient norms rank the images: the method's `paper` recipe on all images, seed 0."""
        return replace(self, variant="paper", seed=0)


def split_subset(variant: str) -> tuple[str, tuple[int, int] | None]:
    """`step175_d9_10` -> (`step175`, (9, 10)): a recipe, and the D_9^10 of the ATAS paper (Sec. III, Fig. 3)."""
    match = re.fullmatch(r"(.+)_d(\d+)_(\d+)", variant)
    if not match or not 1 <= int(match[2]) <= int(match[3]) <= 10:
        return variant, None
    return match[1], (int(match[2]), int(match[3]))
