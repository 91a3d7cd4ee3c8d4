"""`--only cifar10 atas`: the runs of a grid that have these parts in their names. No torch."""

import difflib
from collections.abc import Iterable

from fastat.config.spec import RunSpec
from fastat.errors import BadInput


def only(specs: Iterable[RunSpec], texts: Iterable[str]) -> list[RunSpec]:
    """The runs that have every kind of part asked for; parts of one kind, as two methods, are alternatives.

    A text is a part, or several that follow one another: `cifar10`, `eps8`, `atas/paper`, `digits/preact_tiny`.
    Raises: BadInput for a text that no run has, and if no run has all kinds.
    """
    specs, kinds = list(specs), dict[int, set[str]]()
    for text in (text.strip("/") for text in texts):
        places = {at for spec in specs if (at := place(text, spec.name)) >= 0}
        if not places:
            raise BadInput(f"no run of the grid has {text!r} as a part of its name.{near(text, specs)}")
        kinds.setdefault(min(places), set()).add(text)
    found = [spec for spec in specs if all(any(place(t, spec.name) >= 0 for t in kind) for kind in kinds.values())]
    if specs and not found:
        asked = " and ".join(" or ".join(sorted(kind)) for _, kind in sorted(kinds.items()))
        raise BadInput(f"no run of the grid is of {asked}. Ask for fewer kinds of parts")
    return found


def place(text: str, name: str) -> int:
    """At which part of the name the text's parts begin; -1: nowhere."""
    parts, sought = name.split("/"), text.split("/")
    starts = range(len(parts) - len(sought) + 1)
    return next((at for at in starts if parts[at : at + len(sought)] == sought), -1)


def near(text: str, specs: list[RunSpec]) -> str:
    """` Did you mean 'cifar10' or 'cifar100'?`: parts that hold the text, or look like it; else a whole name."""
    known = sorted({"/".join(spec.name.split("/")[: text.count("/") + 1]) for spec in specs if "/" in text})
    known += sorted({part for spec in specs for part in spec.name.split("/")})
    close = [name for name in known if text and text in name] or difflib.get_close_matches(text, known)
    if close:
        return f" Did you mean {' or '.join(map(repr, close[:4]))}?"
    return f" A run is called {specs[0].name}" if specs else ""
