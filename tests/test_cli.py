"""The verbs, as a user calls them."""

import argparse
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import methods
from fastat import ROOT, cli
from fastat.arguments import EXAMPLES, file_path, parser, versions
from fastat.cli import main
from fastat.errors import BadInput
from tests import fabricate


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


def test_a_run_may_be_named_by_its_path_in_every_verb_that_takes_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = "digits/preact_tiny/eps77/atas/paper/seed0"
    fabricate.finished(tmp_path / "results", name)
    for path in (f"results/runs/{name}/", f"./results/runs/{name}", str(tmp_path / "results/runs" / name)):
        assert main(["verify", path]) == 0
        assert capsys.readouterr().out == f"{name}: ok\n"
    assert main(["verify", f"results/runs/{name}", "--results", "other"]) == 2
    assert "is not below" in (error := capsys.readouterr().err) and "--results results/" in error
    assert main(["verify", "digits/runs/eps77/atas/paper/seed0"]) == 1  # a network may be called so
    assert "digits/runs/eps77/atas/paper/seed0/run.json is not there" in capsys.readouterr().out
    assert main(["recipe", f"results/runs/{name}"]) == 0
    other = "cifar10/preact_resnet18/eps8/atas/paper/seed0"
    for verb in (["train", "--run"], ["evaluate", "--run"], ["probe", "--run"]):
        assert main([*verb, f"results/runs/{other}"]) == 2
        assert "a run is named" not in (error := capsys.readouterr().err) and "cifar10" in error
    assert main(["export", f"results/runs/{other}", "--out", "out"]) == 2
    assert f"given to others: {other}/run.json is not there" in capsys.readouterr().err
    assert main(["tidy", "--out", "results"]) == 0
    assert main(["compare", f"results/runs/{name}", "results/runs/digits/preact_tiny/eps77/atta"]) == 2
    assert "digits/preact_tiny/eps77/atta" in capsys.readouterr().err


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


def test_every_verb_s_help_has_an_example_that_can_be_parsed(capsys):
    for verb, example in EXAMPLES.items():
        assert parser().parse_args([verb, *shlex.split(example)]).verb == verb
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        assert f"Example: python -m fastat {verb} {example}\n" in capsys.readouterr().out


def test_the_command_is_called_as_it_was_started(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/fastat"])
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert "usage: fastat check" in (said := capsys.readouterr().out) and "Example: fastat check" in said


def test_a_mistyped_verb_is_told_the_one_that_may_be_meant(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["chek", "--configfile", "x.yaml"])
    assert exit.value.code == 2
    assert "python -m fastat: error: unknown verb 'chek'. Did you mean 'check'?" in capsys.readouterr().err


def test_the_version_is_that_of_fastat_torch_and_python_and_torch_is_not_loaded():
    code = "import sys; from fastat.arguments import versions; print(versions(), 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"fastat [\d.]+, torch \d[^ ]+, Python 3[\d.]+ False\n", said)


def test_without_torch_the_version_says_so(monkeypatch):
    def absent(_name):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "version", absent)
    assert ", torch not installed, " in versions()


def test_where_finds_what_comes_with_the_suite_and_nothing_else(capsys):
    assert main(["where", "config/smoke.yaml"]) == 0
    assert capsys.readouterr().out == f"{ROOT}/config/smoke.yaml\n"
    assert main(["where"]) == 0
    assert capsys.readouterr().out == f"{ROOT}\n"
    assert main(["where", "config/smok.yaml"]) == 2
    assert "Did you mean 'config/smoke.yaml'?" in capsys.readouterr().err


def test_a_mistyped_parameter_or_figure_is_told_the_one_that_may_be_meant(tiny_task, tmp_path, capsys):
    with pytest.raises(BadInput, match="method atas has no parameter 'bta'. Did you mean 'beta'"):
        methods.build("atas", tiny_task, bta=0.5)
    (tmp_path / "fig03.csv").touch()
    assert main(["draw", "--data", str(tmp_path), "--only", "fig33"]) == 2
    assert "there is no figure 'fig33'. Did you mean 'fig03'" in capsys.readouterr().err


def test_two_results_folders_side_by_side_do_not_share_figures_or_page(tmp_path, monkeypatch):
    """Whether made by `report` or step by step; beside a folder called results as the workflow has it."""
    monkeypatch.chdir(tmp_path)
    fabricate.write(tmp_path / "res2", fabricate.runs(2, 1))
    fabricate.correct(fabricate.runs(2, 1)).to_csv(tmp_path / "res2/correct.csv", index=False)
    for verb in (["judge"], ["figure-data"], ["page"]):
        assert main([*verb, "--results", "res2"]) == 0
    assert main(["draw", "--data", "res2/figures", "--only", "fig08"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["res2"]
    assert (tmp_path / "res2/report/index.html").exists() and (tmp_path / "res2/figures/fig08.svg").exists()
    assert [cli.figures_of(Path(name)) for name in ("results", "../a/results", "b")] == [
        Path("figures"), Path("../a/figures"), Path("b/figures"),
    ]  # fmt: skip
