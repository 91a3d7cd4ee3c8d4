"""Shell completion: a script made once from the parser, so that pressing Tab starts no Python."""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

BASH = """\
# fastat's verbs and options. In ~/.bashrc: eval "$(fastat completion bash)"
_fastat() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{verbs} {top}"
  else
    case "${{COMP_WORDS[1]}}:$before:$word" in
{cases}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _fastat fastat
"""
ZSH = """\
# fastat's verbs and options. In ~/.zshrc: eval "$(fastat completion zsh)"
autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
"""
FISH = """\
# fastat's verbs and options: fastat completion fish > ~/.config/fish/completions/fastat.fish
"""


class Argument(NamedTuple):
    """An option, or a positional argument without a flag."""

    flag: str  # --device, or ''
    choices: tuple[str, ...]  # the values that it takes, where they are few
    takes_value: bool
    text: str


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """What the shell is to read. Values without choices, as paths, are left to the shell's own completion."""
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    verbs = {verb: list(arguments_of(sub)) for verb, sub in subparsers.choices.items()}
    told = {action.dest: action.help or "" for action in subparsers._choices_actions}
    if shell == "fish":
        return FISH + "\n".join(fish(verbs, told)) + "\n"
    top = " ".join(argument.flag for argument in arguments_of(parser) if argument.flag)
    text = BASH.format(verbs=" ".join(verbs), top=top, cases="\n".join(cases(verbs)))
    return text if shell == "bash" else ZSH + text.partition("\n")[2]


def arguments_of(parser: argparse.ArgumentParser) -> Iterator[Argument]:
    """All but the verbs themselves."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            flag = next((flag for flag in action.option_strings if flag.startswith("--")), "")
            choices = tuple(str(choice) for choice in action.choices or ())
            yield Argument(flag, choices, action.nargs != 0, action.help or "")


def cases(verbs: dict[str, list[Argument]]) -> Iterator[str]:
    """The branches of the script in bash, by VERB:WORD BEFORE:WORD."""
    for verb, arguments in verbs.items():
        for argument in arguments:
            if argument.flag and argument.choices:
                yield f'      {verb}:{argument.flag}:*) words="{" ".join(argument.choices)}" ;;'
        flags = " ".join(argument.flag for argument in arguments if argument.flag)
        yield f'      {verb}:*:-*) words="{flags}" ;;'
        free = [choice for argument in arguments if not argument.flag for choice in argument.choices]
        if free:
            yield f'      {verb}:{verb}:*) words="{" ".join(free)}" ;;'


def fish(verbs: dict[str, list[Argument]], told: dict[str, str]) -> Iterator[str]:
    """A line for every verb and option."""

    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    yield "complete -c fastat -n __fish_use_subcommand -l version"
    for verb, arguments in verbs.items():
        yield f"complete -c fastat -f -n __fish_use_subcommand -a {verb} -d {quoted(told[verb])}"
        for argument in arguments:
            line = f"complete -c fastat -n '__fish_seen_subcommand_from {verb}' -d {quoted(argument.text)}"
            line += f" -l {argument.flag[2:]}" if argument.flag else ""
            values = f" -xa {quoted(' '.join(argument.choices))}" if argument.choices else ""
            if argument.flag or values:
                yield line + (values or (" -r" if argument.takes_value else ""))
