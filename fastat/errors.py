"""The one error that is the user's to mend."""

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """The user's input cannot be used. The message names the rule, the value and the way out; exit code 2."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'atas'? Known: atas, atta`: the end of a message about an unknown name."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return (f" Did you mean {close[0]!r}?" if close else "") + f" Known: {', '.join(known) or 'none'}"
