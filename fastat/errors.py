"""The one error that is the user's to mend."""

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """The user's input cannot be used. The message names the rule, the value and the way out; exit code 2."""


OUT_OF_MEMORY = (  # torch, oneDNN, Python, the loader of shared libraries
    "allocate memory", "could not create a primitive", "can't start new thread", "failed to map segment",
)  # fmt: skip


def of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out, on a CPU or a GPU."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(words in str(error) for words in OUT_OF_MEMORY)


def did_you_mean(word: object, known: Iterable[object]) -> str:
    """` Did you mean 'atas'? Known: atas, atta`: the end of a message about an unknown name."""
    names = [str(name) for name in known]
    close = difflib.get_close_matches(str(word), names)
    close.sort(key=lambda name: sorted(name) != sorted(str(word)))  # of equally close ones, that of the same letters
    return (f" Did you mean {close[0]!r}?" if close else "") + f" Known: {', '.join(names) or 'none'}"
