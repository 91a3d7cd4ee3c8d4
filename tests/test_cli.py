"""The verbs, as a user calls them."""

import argparse
from pathlib import Path

import pytest

from fastat import ROOT, cli
from fastat.arguments import file_path, parser
from fastat.cli import main


def test_what_is_released_differs_from_the_paper_and_the_verb_shows_it(capsys):
    for method in ("pgd10", "freeat", "yopo", "fgsm_rs", "fgsm_ga", "ssat", "atta", "nuat", "subat"):
        assert main(["methods", method, "--diff"]) == 0
        assert "released" in capsys.readouterr().out, method
    assert main(["methods", "atas"]) == 0
    shown = capsys.readouterr().out
    assert "4/255" in shown and "ATAS_CIFAR.sh:14-15" in shown and "gamma_over_c" in shown
    assert main(["methods", "atass"]) == 2


def test_check_accepts_every_config_that_comes_with_the_code(capsys):
    for path in sorted((ROOT / "config").glob("*.yaml")):
        if path.name not in ("config.yaml", "recipes.yaml"):
            assert main(["check", "--configfile", str(path)]) == 0, path
    assert main(["check"]) == 0


def test_train_and_evaluate_refuse_what_is_no_run(tmp_path, capsys):
    assert main(["train", "--run", "digits/atas", "--results", str(tmp_path)]) == 2
    assert "a run is named" in capsys.readouterr().err
    name = "digits/preact_tiny/eps77/atas/paper/seed0"
    assert main(["evaluate", "--run", name, "--suite", "whitebox", "--results", str(tmp_path)]) == 2
    assert "holds no finished run. Train it first" in capsys.readouterr().err


def test_a_home_folder_is_found_also_where_no_shell_saw_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["data", "--dataset", "digits", "--source=~/archives", "--out=~/data/digits.safetensors"]) == 0
    assert (tmp_path / "data/digits.safetensors").exists() and not (tmp_path / "~").exists()
    with pytest.raises(SystemExit):
        main(["data", "--dataset", "digits", "--out", "~nobody-of-that-name/digits.safetensors"])
    assert "begins with the home of an unknown user" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["data", "--dataset", "digits", "--out", ""])
    assert "a path must not be empty" in capsys.readouterr().err


def test_every_path_argument_of_every_verb_knows_the_home_folder():
    verbs = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    arguments = [action for verb in verbs.values() for action in verb._actions]
    assert sum(action.type is file_path for action in arguments) > 15
    assert not any(action.type is Path for action in arguments)


def test_every_verb_is_done_by_the_function_of_its_name():
    verbs = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    done = {name.removeprefix("do_").replace("_", "-") for name in vars(cli) if name.startswith("do_")}
    assert set(verbs) == done
