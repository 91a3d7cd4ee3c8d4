"""Shell completion, by the shells themselves."""

import shutil
import subprocess

import pytest

from fastat import completion
from fastat.arguments import EXAMPLES, parser
from fastat.cli import main


def completed(*words: str) -> list[str]:
    """What bash offers for the last word."""
    typed = " ".join(f"'{word}'" for word in ("fastat", *words))
    code = f"{completion.script('bash', parser())}\nCOMP_WORDS=({typed})\nCOMP_CWORD={len(words)}\n_fastat\n"
    code += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_verbs_options_and_their_values():
    assert completed("ch") == ["check"]
    assert set(EXAMPLES) <= set(completed(""))
    assert completed("--v") == ["--version"]
    assert completed("train", "--re") == ["--results", "--recipe"]
    assert completed("train", "--device", "") == ["auto", "cpu", "cuda"]
    assert completed("evaluate", "--suite", "w") == ["whitebox"]
    assert completed("completion", "f") == ["fish"]
    assert completed("train", "--results", "") == []  # bash's own: paths


@pytest.mark.parametrize("shell,check", [("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])])
def test_the_script_is_one_that_its_shell_can_read(shell, check, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "fastat" in script
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    done = subprocess.run([shell, *check], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
@pytest.mark.parametrize(
    "typed,offered",
    [
        ("fastat ch", {"check"}),
        ("fastat train --device c", {"cpu", "cuda"}),
        ("fastat train --re", {"--results", "--recipe"}),
        ("fastat completion z", {"zsh"}),
    ],
)
def test_fish_completes_them(typed, offered, tmp_path):
    code = f'{completion.script("fish", parser())}\ncomplete -C "{typed}"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", code], capture_output=True, text=True, env={"HOME": str(tmp_path)}, check=True
    )
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == offered


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_has_the_function_and_its_binding(tmp_path):
    code = f"{completion.script('zsh', parser())}\nprint -r -- $_comps[fastat]; whence -w _fastat"
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True, env={"HOME": str(tmp_path)})
    assert "_fastat" in done.stdout and "function" in done.stdout, done.stderr
