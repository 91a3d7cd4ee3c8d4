"""`sweep` of a config: one run per value of a parameter or recipe field, beside every run that it is over. No torch.

{fgsm_rs: {alpha: [0.5 eps, 1 eps]}} makes the variants alpha_0p5eps and alpha_1eps of fgsm_rs. What a variant is, is
looked up in the config by its name; only people's names of it (`words`) are read out of the name.
"""

import functools
import itertools
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fastat.config.fields import defaults
from fastat.config.spec import RunSpec, split_subset
from fastat.errors import BadInput, did_you_mean
from fastat.units import length_of

Sweep = dict[str, Any]  # METHOD or METHOD/VARIANT -> {key: [value, ...]}, or a list of such mappings
LONGEST_NAME = 200  # characters: it is a folder's name
NOT_SWEPT = {
    "method_version", "numerics", "network", "params", "schedule", "schedule.kind",  # kind: it replaces the schedule
    "schedule.milestones", "schedule.points", "schedule.momentum_points",  # lists have no short names
}  # fmt: skip
NUMBER = re.compile(r"(m?)(\d+)(?:p(\d+))?(?:e(m?)(\d+))?(eps|over255)?")  # in a name


@dataclass(frozen=True)
class Swept:
    """What a sweep's variant is: the variant that it is over, and the recipe fields that lie over its recipe."""

    over: str
    fields: dict[str, Any]


def combined(sweep: Sweep) -> Iterator[tuple[str, dict[str, Any]]]:
    """(METHOD or METHOD/VARIANT, {key: value}) of every combination of the values of every mapping."""
    for over, mappings in sweep.items():
        for mapping in mappings if isinstance(mappings, list) else [mappings]:
            for values in itertools.product(*mapping.values()):
                yield over, dict(zip(mapping, values, strict=True))


def count(sweep: Sweep) -> dict[tuple[str, str], int]:
    """(method, variant) -> how many combinations are swept over it, without making them."""
    counts: dict[tuple[str, str], int] = {}
    for over, mappings in sweep.items():
        for mapping in mappings if isinstance(mappings, list) else [mappings]:
            counts[split(over)] = counts.get(split(over), 0) + math.prod(map(len, mapping.values()))
    return counts


def split(over: str) -> tuple[str, str]:
    """`fgsm_rs` -> (fgsm_rs, paper), `fgsm_rs/released` -> (fgsm_rs, released)."""
    method, _, variant = str(over).partition("/")
    return method, variant or "paper"


def runs(specs: Collection[RunSpec], sweep: Sweep) -> set[RunSpec]:
    """The runs that the sweep makes beside these."""
    beside: dict[tuple[str, str], list[str]] = {}
    for over, fields in combined(sweep):
        beside.setdefault(split(over), []).append(name(split(over)[1], fields))
    return {
        RunSpec(spec.dataset, spec.model, spec.eps_255, spec.method, variant, spec.seed)
        for spec in specs
        for variant in beside.get((spec.method, spec.variant), ())
    }


def of(spec: RunSpec, sweep: Sweep, places: Sweep | None = None) -> Swept | None:
    """What the run's variant is, if the sweep makes it.

    places: the same with the place of each value in its stead (origins.py), which the fields then have.
    """
    found = table(json.dumps(sweep)).get((spec.method, spec.named))
    if found is None:
        return None
    place, over, fields = found
    if places is not None:
        _, fields = next(itertools.islice(combined(places), place, None))
    return Swept(over, recipe_fields(spec.method, fields))


@functools.lru_cache(maxsize=8)
def table(sweep: str) -> dict[tuple[str, str], tuple[int, str, dict[str, Any]]]:
    """(method, variant) that the sweep, as JSON, makes -> how many it makes before, the variant it is over, the values.

    Kept: a grid asks once for every run.
    """
    found: dict[tuple[str, str], tuple[int, str, dict[str, Any]]] = {}
    for place, (over, fields) in enumerate(combined(json.loads(sweep))):
        method, variant = split(over)
        found.setdefault((method, name(variant, fields)), (place, variant, fields))
    return found


def makes(spec: RunSpec, sweep: Sweep) -> bool:
    """Whether the sweep makes the run's variant."""
    return (spec.method, spec.named) in table(json.dumps(sweep))


def names(method: str, sweep: Sweep) -> list[str]:
    """The variants of a method that the sweep makes."""
    return [variant for of, variant in table(json.dumps(sweep)) if of == method]


# Keys


@functools.cache
def keys(method: str) -> dict[str, str]:
    """What can be swept -> its full name: alpha -> params.alpha, epochs -> epochs, schedule.lr -> schedule.lr."""
    full = [key for key in defaults(method) if key not in NOT_SWEPT]
    return {key: key for key in full if not key.startswith("params.")} | {
        key.removeprefix("params."): key for key in full if key.startswith("params.")
    }


def recipe_fields(method: str, fields: dict[str, Any]) -> dict[str, Any]:
    """{alpha: 1 eps, epochs: 3} -> {params: {alpha: 1 eps}, epochs: 3}, as a recipe has them."""
    found: dict[str, Any] = {}
    for key, value in fields.items():
        room, _, field = keys(method)[key].rpartition(".")
        if room:
            found.setdefault(room, {})[field] = value
        else:
            found[field] = value
    return found


# Names


def name(over: str, fields: dict[str, Any]) -> str:
    """`alpha_1eps_reset_every_5`; over another variant than `paper` its name comes first: `released_alpha_1eps`."""
    return "_".join([*([] if over == "paper" else [over]), *(part(key, value) for key, value in fields.items())])


def part(key: str, value: Any) -> str:
    """(schedule.lr, 0.1) -> `schedule_lr_0p1`."""
    return f"{str(key).lower().replace('.', '_')}_{text(value)}"


def text(value: Any) -> str:
    """A value in a name: 0.5 eps -> `0p5eps`, 4/255 -> `4over255`, -0.01 -> `m0p01`, 1e-05 -> `1em05`."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if found := length_of(value):
        return f"{text(found[0])}{'eps' if found[1] == ' eps' else 'over255'}"
    if isinstance(value, int | float):
        shown = str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)
        return shown.replace("-", "m").replace("+", "").replace(".", "p")
    return re.sub("[^a-z0-9]+", "_", str(value).lower())


def is_plain(value: Any) -> bool:
    """Whether it has a name: a number, a word, a length, true, false or null."""
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and bool(value.strip()))


def said(variant: str, values: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """(`released`, {alpha: 1 eps}) of `released_alpha_1eps`, if that is what these values of the run's recipe are.

    So a variant is a sweep's wherever it was made: its name says values that it has. None for all others.
    """
    if "_" not in variant:
        return None
    parts = {part(key, value): (key, value) for key, value in values.items() if is_plain(value)}

    def read(rest: str) -> dict[str, Any] | None:
        if rest in parts:
            return dict([parts[rest]])
        for one, (key, value) in parts.items():
            if rest.startswith(f"{one}_") and (more := read(rest[len(one) + 1 :])) is not None:
                return {key: value, **more}
        return None

    for start in (0, *(match.end() for match in re.finditer("_", variant))):
        if found := read(variant[start:]):
            return variant[: max(0, start - 1)] or "paper", found
    return None


def words(method: str, variant: str) -> str:
    """`released_alpha_0p5eps` -> `released, alpha 0.5 eps`; a name without `key_value` of the method's as it is.

    The rule: from the first key on, a key is followed by its value, up to the next key.
    """
    whole, subset = split_subset(variant)
    if subset:
        told = words(method, whole)
        return variant if told == whole else f"{told}, d{subset[0]}_{subset[1]}"
    known = {tuple(key.lower().replace(".", "_").split("_")): key for key in keys(method)}
    tokens, starts = variant.split("_"), list[tuple[int, int, str]]()
    at = 0
    while at < len(tokens):
        fits = [key for key in known if tuple(tokens[at : at + len(key)]) == key and at + len(key) < len(tokens)]
        longest = max(fits, key=len, default=())
        if longest:
            starts.append((at, at + len(longest), known[longest]))
        at += len(longest) + 1
    if not starts:
        return variant
    ends = [*(begin for begin, _, _ in starts[1:]), len(tokens)]
    values = ("_".join(tokens[begin:end]) for (_, begin, _), end in zip(starts, ends, strict=True))
    pairs = [f"{key} {read_text(value)}" for (_, _, key), value in zip(starts, values, strict=True)]
    return ", ".join([*filter(None, ["_".join(tokens[: starts[0][0]])]), *pairs])


def read_text(value: str) -> str:
    """`0p5eps` -> `0.5 eps`, `4over255` -> `4/255`: the inverse of `text`, for people."""
    if not (match := NUMBER.fullmatch(value)):
        return value
    minus, whole, fraction, down, power, unit = match.groups()
    number = f"{'-' * bool(minus)}{whole}{f'.{fraction}' if fraction else ''}"
    number += f"e{'-' * bool(down)}{power}" if power else ""
    return number + {"eps": " eps", "over255": "/255"}.get(unit or "", "")


# Rules


def check(sweep: Sweep, specs: Iterable[RunSpec], taken: dict[str, set[str]]) -> None:
    """Every rule of a sweep but those of the recipes that it leads to.

    specs: the runs that the grid names; taken: method -> the variants that are not the sweep's.
    Raises: BadInput with the rule, the value and the way out.
    """
    there = {(spec.method, spec.variant) for spec in specs}
    for over, mappings in sweep.items():
        place = f"config: sweep: {over}"
        if split_subset(split(over)[1])[1]:
            raise BadInput(f"{place}: a sweep is over trainings on all images. Write {over.rpartition('_d')[0]}")
        if split(over) not in there:
            known = ["/".join(cell).removesuffix("/paper") for cell in sorted(there)]
            raise BadInput(f"{place}: no run of the grid is {over!r}. Name it there.{did_you_mean(over, known)}")
        for mapping in mappings if isinstance(mappings, list) else [mappings]:
            check_values(split(over)[0], mapping, place)
    check_variants(sweep, taken)


def check_values(method: str, mapping: dict[str, Any], place: str) -> None:
    """Raises: BadInput for a key that the method's recipe does not have, or values without names of their own."""
    for key, values in mapping.items():
        if key not in keys(method):
            raise BadInput(f"{place}: no parameter or recipe field {key!r}.{did_you_mean(key, keys(method))}")
        named: dict[str, Any] = {}
        for value in values:
            if not is_plain(value):
                raise BadInput(
                    f"{place}: {key}: a swept value is a number, a word, a length, true, false or null, got {value!r}. "
                    f"Make it a variant: `recipes: {{DATASET: {{{method}/mine: ...}}}}`"
                )
            if text(value) in named:
                both = f"{named[text(value)]!r} and {value!r} would both be {part(key, value)}"
                raise BadInput(f"{place}: {key}: {both}. Leave one of them out")
            named[text(value)] = value


def check_variants(sweep: Sweep, taken: dict[str, set[str]]) -> None:
    """Raises: BadInput for a variant that is made twice and differs, that there is already, or that is no name."""
    made: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for over, fields in combined(sweep):
        method, variant = split(over)
        called = name(variant, fields)
        place = f"config: sweep: {over}: {shown(fields)} would be {method}/{called}"
        if called in taken[method]:
            raise BadInput(f"{place}, which is another variant. Give that one another name")
        before = made.setdefault((method, called), (variant, fields))
        if before != (variant, fields):
            raise BadInput(f"{place}, and so would {shown(before[1])} over {before[0]}. Sweep them in two configs")
        if split_subset(called)[1] or len(called) > LONGEST_NAME or not re.fullmatch("[a-z0-9_]+", called):
            raise BadInput(
                f"{place}, which can name no run (at most {LONGEST_NAME} of a-z, 0-9 and _, no subset's ending). "
                "Make it a variant under `recipes`"
            )


def shown(fields: dict[str, Any]) -> str:
    """`alpha: 1 eps, reset_every: 5`."""
    return ", ".join(f"{key}: {value}" for key, value in fields.items())
