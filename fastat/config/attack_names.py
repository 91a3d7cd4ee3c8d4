"""Attacks beyond the standard suites, by name: one attack, one string, which is its key everywhere. No torch.

`pgd-20 alpha=0.25eps restarts=10 best`, `autoattack L2 eps=0.5`, `apgd-ce+square` (docs/attacks.md has the grammar).
The same attack has the same string in whatever order and spelling it was typed: the value of the column `attack` in
eval/attacks.csv, the metric in measured.csv, the entry of `evaluation: attacks:` and the word after --attacks.
"""

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from fastat.errors import BadInput, did_you_mean

PARTS = ("apgd-ce", "apgd-t", "fab-t", "square")  # of AutoAttack `standard`, in its order
FEW = 3  # classes, up to which AutoAttack is without apgd-t, whose loss needs four
WITHOUT_APGD_T = f"AutoAttack is without apgd-t, which needs more than {FEW} classes, and so not the standard"
NORMS = ("Linf", "L2")
COUNTS = ("last", "best", "any")  # which iterate of PGD counts
OPTIONS = {  # what may be said of each kind besides norm and eps
    "fgsm": {"targets"},
    "pgd": {"alpha", "restarts", "targets", "counts"},
    "autoattack": set[str](),
}
KEYS = ("alpha", "eps", "restarts", "targets", "survivors")  # what is said as KEY=VALUE
WORDS = ("pgd-20", "fgsm", "autoattack", *PARTS, *NORMS, *COUNTS, *(f"{key}=" for key in KEYS))
IN_SUITES = ("fgsm", "autoattack")  # what every run is attacked by, under these options
MOST = {"steps": 100_000, "restarts": 10_000}
MOST_ATTACKS, LONGEST = 100, 200  # of a list; characters of one
FURTHEST_L2 = 32  # a radius beyond is a number of 255ths: CIFAR10's images lie no farther than 28 from grey
OF_LINF = 16  # 255ths: radii up to here are written so in L-infinity alone
ALL = "all"
_NUMBER = r"([0-9]{1,6}(?:\.[0-9]{1,6})?|\.[0-9]{1,6})"


@dataclass(frozen=True)
class Length:
    """A step size. relative: to the radius; else in the unit of pixels."""

    value: Fraction
    relative: bool


FIFTH = Length(Fraction(1, 5), relative=True)


@dataclass(frozen=True)
class Attack:
    """One attack, as `parse` makes it; str() is its name.

    steps, alpha, restarts, counts: of PGD. targets: 0: untargeted; "all": each of the K - 1 other classes; N: those N
    with the highest logits on the clean image. eps: its own radius; None: the run's, in L-infinity. parts: of
    AutoAttack. before: the same attack at the next smaller radius, whose survivors it attacks: what that broke is
    broken here. None: it attacks all images.
    """

    kind: str
    norm: str = "Linf"
    eps: Fraction | None = None
    steps: int = 0
    alpha: Length = FIFTH
    restarts: int = 1
    counts: str = "last"
    targets: int | str = 0
    parts: tuple[str, ...] = ()
    before: "Attack | None" = None

    def __str__(self) -> str:
        """`pgd-20 alpha=0.25eps L2 eps=0.5 restarts=10 targets=3 best`: what is the default is left out, but alpha."""
        words = ["+".join(self.parts) if self.parts and self.parts != PARTS else self.kind]
        if self.kind == "pgd":
            words = [f"pgd-{self.steps}", f"alpha={shown(self.alpha, self.norm)}"]
        words += [self.norm, f"eps={self.eps_text}"] if self.eps is not None else []
        words += [f"survivors={'+'.join(self.smaller)}"] if self.before else []
        words += [f"restarts={self.restarts}"] if self.restarts > 1 else []
        words += [f"targets={self.targets}"] if self.targets else []
        words += [self.counts] if self.counts != "last" else []
        return " ".join(words)

    @property
    def is_partial(self) -> bool:
        """Whether it is some of AutoAttack's parts, and so not the standard attack."""
        return bool(self.parts) and self.parts != PARTS

    def radius(self, eps: float) -> float:
        """In the unit of pixels; eps: the run's."""
        return eps if self.eps is None else float(self.eps)

    def step(self, eps: float) -> float:
        """PGD's step in the unit of pixels; eps: the run's."""
        return float(self.alpha.value) * (self.radius(eps) if self.alpha.relative else 1.0)

    def is_in_suites(self, eps: float) -> bool:
        """Whether it is the AutoAttack of every evaluation at eps, the run's, by another name."""
        return (self.parts, self.norm, self.before) == (PARTS, "Linf", None) and self.radius(eps) == eps

    @property
    def eps_text(self) -> str:
        """`8/255`, `0.5`: its own radius."""
        assert self.eps is not None
        return shown(Length(self.eps, relative=False), self.norm)

    @property
    def smaller(self) -> list[str]:
        """The smaller radii whose survivors it attacks, in order."""
        return [] if self.before is None else [*self.before.smaller, self.before.eps_text]

    def mark(self, step: object) -> str:
        """The step that an image broken by this attack has at larger radii; step: what it has here."""
        return str(step) if str(step).startswith(("clean", "eps=")) else f"eps={self.eps_text}"

    def in_words(self) -> str:
        """What it is, for readers of a table."""
        ball = "the run's eps" if self.eps is None else f"{self.norm} eps {self.eps_text}"
        ball += f" on the survivors of {' and '.join(self.smaller)}" if self.before else ""
        if self.parts:
            return f"{'parts of AutoAttack, not the standard' if self.is_partial else 'AutoAttack'}, {ball}"
        goal = f", targeted at {self.targets} other classes" if self.targets else ""
        if self.kind == "fgsm":
            return f"FGSM, {ball}{goal}"
        which = {"last": "the last iterate", "best": "that of the highest loss", "any": "any iterate"}[self.counts]
        starts = f"{self.restarts} random starts" if self.restarts > 1 else "one random start"
        return f"PGD, {ball}: {self.steps} steps of {shown(self.alpha, self.norm)}, {starts}, {which} counts{goal}"


def shown(length: Length, norm: str) -> str:
    """The one spelling of a length: `0.25eps`; in L-infinity `2/255`; in L2 `0.5`, or `36/255` where that is none."""
    if length.relative:
        return f"{decimal(length.value)}eps"
    if norm == "L2" and is_decimal(length.value):
        return decimal(length.value)
    return f"{decimal(length.value * 255)}/255"


def is_decimal(value: Fraction) -> bool:
    """Whether six digits behind the point write it exactly."""
    return (value * 10**6).denominator == 1


def decimal(value: Fraction) -> str:
    """`0.25`, `8`: exactly, of a value with at most nine digits behind the point."""
    assert (value * 10**9).denominator == 1
    whole, rest = divmod(int(value * 10**9), 10**9)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


def parts_for(n_classes: int) -> tuple[str, ...]:
    """Which parts AutoAttack has on so many classes."""
    return tuple(part for part in PARTS if part != "apgd-t" or n_classes > FEW)


def parse_list(texts: object, where: str) -> tuple[str, ...]:
    """Names, also several with commas between them in one text -> canonical names, each once, sorted.

    With an attack on survivors come those that they survived. where: what the message begins with, as `--attacks`.
    Raises: BadInput for what names no attack, or too many.
    """
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise BadInput(
            f"{where} must be a list of names as [pgd-20 alpha=0.25eps, autoattack L2 eps=0.5], got {texts!r}"
        )
    try:
        asked = [parse(name) for text in texts for name in text.split(",") if name.strip()]
        names = sorted({str(one) for attack in asked for one in lineage(attack)})
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error
    if len(names) > MOST_ATTACKS:
        raise BadInput(f"{where}: these are {len(names)} attacks, at most {MOST_ATTACKS}. Ask for fewer at a time")
    return tuple(names)


def lineage(attack: Attack) -> Iterator[Attack]:
    """An attack, and those whose survivors it attacks, the largest radius first."""
    one: Attack | None = attack
    while one is not None:
        yield one
        one = one.before


def is_name(text: object) -> bool:
    """Whether it is an attack's canonical name."""
    try:
        return isinstance(text, str) and str(parse(text)) == text
    except BadInput:
        return False


@functools.cache
def parse(text: str) -> Attack:
    """The attack that is meant.

    Raises: BadInput with the rule, the value and the way out.
    """
    said = words_of(text)
    kind, norm = said.pop("kind"), said.pop("norm", "Linf")
    eps = radius_of(said.pop("eps"), norm) if "eps" in said else None
    if norm == "L2" and eps is None:
        raise BadInput(f"{text!r} names no radius, and the run's is L-infinity's. Write L2 eps=0.5, or L2 eps=128/255")
    smaller = said.pop("survivors", None)
    parts = () if kind == "fgsm" or re.fullmatch("pgd-[0-9]+", kind) else parts_of(kind)
    named = "autoattack" if parts else kind.partition("-")[0]
    if extra := sorted(said.keys() - OPTIONS[named]):
        what = said["counts"] if extra[0] == "counts" else f"{extra[0]}="
        others = ", ".join(sorted(name for name, known in OPTIONS.items() if extra[0] in known))
        raise BadInput(f"{text!r}: {what} is an option of {others}, and not of {kind}. Leave it out")
    targets = targets_of(said["targets"]) if "targets" in said else 0
    if named != "pgd":
        attack = Attack(named, norm, eps, targets=targets, parts=parts)
    else:
        steps, restarts = whole("steps", kind[4:]), whole("restarts", said.get("restarts", "1"))
        alpha = step_of(said.get("alpha", "0.2eps"), norm, eps, steps)
        attack = Attack("pgd", norm, eps, steps, alpha, restarts, said.get("counts", "last"), targets)
    if str(attack) in IN_SUITES and smaller is None:
        raise BadInput(f"{str(attack)!r} at the run's eps is in every evaluation. Leave it out, or say what is other")
    return attack if smaller is None else on_survivors(attack, smaller)


def words_of(text: str) -> dict[str, str]:
    """`PGD20 alpha = 0.25 eps best` -> {kind: pgd-20, alpha: 0.25eps, counts: best}.

    Raises: BadInput for a word that is none, or stands twice, and where no attack is named.
    """
    if len(text) > LONGEST:
        raise BadInput(f"an attack's name has at most {LONGEST} characters, got {text[:40]!r}...")
    plain = re.sub(r"\s*([=+/])\s*", r"\1", text.strip().lower())
    plain = re.sub(r"(?<=alpha=)([0-9.]+)\s*\*?\s*eps\b(?!=)", r"\1eps", plain)
    said: dict[str, str] = {}
    for word in plain.split():
        key, value = key_of(word, text)
        if key in said:
            raise BadInput(f"{text!r} says twice what it is: {said[key]} and {value}. Keep one of them")
        said[key] = value
    if "kind" not in said:
        raise BadInput(f"{text!r} names no attack. Begin with pgd-20, fgsm, autoattack, or parts as apgd-ce+square")
    return said


def key_of(word: str, text: str) -> tuple[str, str]:
    """One word of a name -> what it says, and its value.

    Raises: BadInput if it is none.
    """
    key, equals, value = word.partition("=")
    if equals and key in KEYS:
        return key, value
    if match := re.fullmatch("pgd-?([0-9]+)", word):
        return "kind", f"pgd-{match[1]}"
    if word in ("fgsm", "autoattack") or {*word.split("+")} & {*PARTS}:
        return "kind", word
    if word in COUNTS:
        return "counts", word
    if norm := next((norm for norm in NORMS if norm.lower() == word), ""):
        return "norm", norm
    if word == "pgd":
        raise BadInput(f"{text!r}: PGD needs its number of steps. Write pgd-20")
    raise BadInput(f"{text!r}: unknown word {word!r}.{did_you_mean(word, WORDS)}")


def parts_of(kind: str) -> tuple[str, ...]:
    """`square+apgd-ce` -> ("apgd-ce", "square"), in AutoAttack's order.

    Raises: BadInput for a part that is none or stands twice.
    """
    named = kind.split("+") if kind != "autoattack" else list(PARTS)
    for part in named:
        if part not in PARTS:
            raise BadInput(f"unknown part of AutoAttack {part!r}.{did_you_mean(part, PARTS)}")
    if len(named) > len(set(named)):
        raise BadInput(f"{kind!r} names a part twice. Name it once: every part attacks once")
    return tuple(part for part in PARTS if part in named)


def whole(name: str, text: str) -> int:
    """A count.

    Raises: BadInput if it is none.
    """
    if not re.fullmatch("[1-9][0-9]{0,8}", text) or int(text) > MOST[name]:
        raise BadInput(f"{name} must be a whole number from 1 to {MOST[name]:,}, got {text[:40]!r}")
    return int(text)


def targets_of(text: str) -> int | str:
    """`3`, `all`.

    Raises: BadInput for anything else.
    """
    if text == ALL:
        return ALL
    if not re.fullmatch("[1-9][0-9]{0,5}", text):
        raise BadInput(f"targets must be a whole number above 0 (those with the highest logits), or all, got {text!r}")
    return int(text)


def radius_of(text: str, norm: str) -> Fraction:
    """`8/255`, `0.5`: exactly.

    Raises: BadInput for what is no radius of the norm.
    """
    rule = f"{text!r} is no {norm} radius: eps is written "
    rule += "N/255 or as a number below 0.5 (pixels lie in [0, 1])" if norm == "Linf" else "as 0.5, or N/255"
    if not (match := re.fullmatch(rf"{_NUMBER}(/255)?", text)) or not (number := Fraction(match[1])):
        raise BadInput(rule)
    value = number / 255 if match[2] else number
    if norm == "Linf" and value >= Fraction(1, 2) or norm == "L2" and value > FURTHEST_L2:
        plain = not match[2] and number.denominator == 1 and (norm == "L2" or number < 128)
        raise BadInput(f"{rule}.{f' Did you mean {number}/255?' if plain else ''}")
    if norm == "L2" and match[2] and number <= OF_LINF:
        raise BadInput(
            f"an L2 radius of {text} is {float(value):.3g}, hardly anything: radii of so few 255ths are L-infinity's. "
            f"Leave L2 out, or write eps={float(value):.3g} if you mean it"
        )
    return value


def on_survivors(attack: Attack, text: str) -> Attack:
    """The attack on what it leaves standing at each of the smaller radii in `text`, as 51/255+77/255.

    Raises: BadInput for what is no radius, stands twice or is not smaller, and for a step that does not go with it.
    """
    radii = sorted(radius_of(part, attack.norm) for part in text.split("+"))
    if len(radii) > len(set(radii)):
        raise BadInput(f"survivors={text} names a radius twice. Name it once")
    before: Attack | None = None
    for eps in radii:
        before = replace(parse(str(replace(attack, eps=eps))), before=before)
    found = replace(attack, before=before)
    if attack.eps is not None:
        check_smaller(found, attack.eps)
    return found


def check_smaller(attack: Attack, eps: Fraction | float) -> None:
    """Raises: BadInput if a radius whose survivors are attacked is not below eps, the attack's own."""
    if attack.before and attack.before.radius(0) >= float(eps):
        raise BadInput(
            f"survivors={'+'.join(attack.smaller)}: what a smaller radius broke is broken at a larger one, and "
            f"{attack.before.eps_text} is not below the attack's own. Name smaller radii, or a larger eps"
        )


def step_of(text: str, norm: str, eps: Fraction | None, steps: int) -> Length:
    """`0.25eps`, `2/255`, and in L2 `0.1`; at a radius of the attack's own in proportion to it, where that is exact.

    Raises: BadInput for what is no step, or none for this radius.
    """
    if not (match := re.fullmatch(rf"{_NUMBER}(eps|/255|)", text)) or not Fraction(match[1]):
        raise BadInput(f"alpha is written 0.25eps or 2/255 (in L2 also 0.1), got {text!r}")
    number, unit = Fraction(match[1]), match[2]
    if not unit and norm == "Linf":
        raise BadInput(f"alpha={text} has no unit. Write alpha={text}eps, in proportion to the radius, or alpha=N/255")
    length = Length(number / 255 if unit == "/255" else number, relative=unit == "eps")
    check_step(length, text, eps, steps)
    if eps is not None and not length.relative and is_decimal(length.value / eps):
        return Length(length.value / eps, relative=True)
    return length


def check_step(alpha: Length, text: str, eps: Fraction | float | None, steps: int) -> None:
    """A step of at most twice the radius; an absolute one must in all steps reach the ball's edge. eps None: unknown.

    Raises: BadInput.
    """
    if eps is None and not alpha.relative:
        return
    ratio = float(alpha.value if alpha.relative or eps is None else alpha.value / Fraction(eps))
    if ratio > 2:
        raise BadInput(f"alpha={text} is {ratio:.3g} times the radius; twice leads across the whole ball. Write less")
    if not alpha.relative and steps * ratio < 1 - 1e-9:
        raise BadInput(
            f"{steps} steps of {text} lead {steps * ratio:.2g} eps far: the ball's edge is out of reach. Write a step "
            f"in proportion, as alpha=0.2eps (or alpha={max(ratio, 1e-6):.3g}eps, if you mean it)"
        )


def check_attack(
    attack: Attack, eps: float, shape: tuple[int, ...] | None = None, n_classes: int | None = None
) -> None:
    """What depends on the run: eps, its radius; shape, (C, H, W) of its images, and n_classes, where they are known.

    Raises: BadInput for an attack that cannot be made.
    """
    try:
        check_smaller(attack, attack.radius(eps))
        if attack.kind == "pgd":
            check_step(attack.alpha, shown(attack.alpha, attack.norm), attack.radius(eps), attack.steps)
    except BadInput as error:
        raise BadInput(f"{attack}: {error}") from error
    if n_classes is not None and attack.targets != ALL and int(attack.targets) >= n_classes:
        raise BadInput(f"{attack}: of {n_classes} classes {n_classes - 1} are others than the label. Write targets=all")
    if n_classes is not None and n_classes <= FEW and "apgd-t" in attack.parts and attack.is_partial:
        raise BadInput(f"{attack}: apgd-t needs four classes, these are {n_classes}. Leave it out")
    furthest = math.sqrt(math.prod(shape)) / 2 if shape else math.inf
    if attack.norm == "L2" and attack.radius(eps) >= furthest:
        raise BadInput(
            f"{attack}: in L2 no image of shape {shape} is farther than {furthest:.3g} from grey all over, and nothing "
            "would be left to recognise. Write a smaller eps"
        )
