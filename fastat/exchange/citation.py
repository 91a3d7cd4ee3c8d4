"""Whom to cite for a run: the paper of its method, as the method's file says it, and this suite. Never torch."""

import re
from dataclasses import dataclass

from fastat import __version__
from fastat.config.method_files import cited
from fastat.config.recipe import method_names

PAPER = re.compile(
    r'(?P<authors>[^"]+), "(?P<title>[^"]+)", (?P<venue>[^(]*?\b(?P<year>\d{4}))\b(?: \(arXiv (?P<arxiv>[\d.]+)\))?'
)


@dataclass(frozen=True)
class Paper:
    """A paper, as much of it as is known. authors: surnames with commas, or `X et al.`."""

    authors: str
    title: str
    venue: str
    year: str
    arxiv: str = ""

    @property
    def link(self) -> str:
        """Where it can be read; '' if that is not known."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""

    @property
    def bibtex(self) -> str:
        """As an entry."""
        surnames = re.sub(r" et al\.", ", others", self.authors).split(", ")
        key = re.sub(r"\W", "", surnames[0]) + self.year + re.sub(r"\W.*", "", self.title)
        facts = {
            "author": " and ".join(surnames), "title": f"{{{self.title}}}", "year": self.year,
            "howpublished": self.venue, "eprint": self.arxiv, "archiveprefix": "arXiv" if self.arxiv else "",
        }  # fmt: skip
        lines = "".join(f"  {name} = {{{value}}},\n" for name, value in facts.items() if value)
        return f"@misc{{{key},\n{lines}}}\n"


def paper_of(method: str) -> Paper | None:
    """The paper that a method's file names first; None if it names none, and of what is no method here."""
    if method not in method_names():
        return None
    found = PAPER.match(cited(method))
    return Paper(**{name: text or "" for name, text in found.groupdict().items()}) if found else None


def bibtex(method: str) -> str:
    """The entries of a run of this method."""
    ours = "@misc{fastat,\n  title = {{fastat: the reproducibility suite for fast adversarial training}},\n"
    ours += f"  author = {{{{the fastat authors}}}},\n  year = {{2026}},\n  note = {{version {__version__}}},\n}}\n"
    paper = paper_of(method)
    return f"{paper.bibtex}\n{ours}" if paper else ours
