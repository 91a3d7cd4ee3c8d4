"""Texts of others in Markdown, LaTeX and CSV: shown as they are, never markup or a formula. pandas, never torch."""

import re

import pandas as pd

IN_MARKDOWN = str.maketrans({sign: f"&#{ord(sign)};" for sign in "\\`<&|$"})
IN_LATEX = str.maketrans(
    {
        "\\": "/", "±": r"$\pm$", "†": r"$^\dagger$", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "^": r"\^{}",
        "~": r"\~{}", "$": r"\$", "{": r"\{", "}": r"\}", "<": r"\textless{}", ">": r"\textgreater{}",
        "|": r"\textbar{}", '"': "''",
    }
)  # fmt: skip
FORMULA = ("=", "+", "-", "@")


def one_line(text: object) -> str:
    """On one line, and no sign that steers a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(str(text).split()))


def in_markdown(text: object) -> str:
    """A text in a cell of a table, or in a paragraph."""
    return one_line(text).translate(IN_MARKDOWN).replace("](", "]&#40;")


def code(text: object) -> str:
    """A text as code in a paragraph."""
    return f"`{one_line(text).replace('`', chr(39))}`"


def in_latex(text: str) -> str:
    """A piece of a line; `?` for what the usual fonts have no sign for."""
    return re.sub(r"[^ -~¡-ſ†]", "?", text).translate(IN_LATEX)


def in_csv(text: str) -> str:
    """A text in a cell, quoted where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def markdown(table: pd.DataFrame) -> str:
    """A table of texts."""
    shown = table.map(in_markdown)
    shown.columns = [in_markdown(name) for name in table.columns]
    return str(shown.to_markdown(index=False, disable_numparse=True))
