"""The one error that is the user's to mend."""


class BadInput(ValueError):
    """The user's input cannot be used. The message names the rule, the value and the way out; exit code 2."""
