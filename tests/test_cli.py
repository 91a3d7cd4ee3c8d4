"""The verbs, as a user calls them."""

from fastat import ROOT
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
