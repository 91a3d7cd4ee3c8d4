"""Every verb's own arguments: what cannot be used ends with exit code 2, one sentence and no traceback."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastat import ROOT
from fastat.cli import main
from fastat.config.grid import load_config, protocol_for
from fastat.config.recipe import resolve
from fastat.config.spec import RunSpec
from tests import fabricate

RUN = "digits/preact_tiny/eps77/atas/paper/seed0"
PROTOCOL = protocol_for(load_config(), "digits")
RECIPE = json.loads(resolve(RunSpec.parse(RUN), load_config()).to_json())


def changed(whole: dict, **changes) -> str:
    """JSON of a dictionary, a key with None left out."""
    return json.dumps({key: value for key, value in {**whole, **changes}.items() if value is not None})


def evaluate(protocol: str) -> list[str]:
    return ["evaluate", "--run", RUN, "--results", "R", "--protocol", protocol]


def train(recipe: str) -> list[str]:
    return ["train", "--run", RUN, "--results", "R", "--recipe", recipe]


DEEP = "[" * 30_000
LONG = "9" * 5000
CASES = [
    # --protocol
    (evaluate("{"), "--protocol is a JSON object, got '{'"),
    (evaluate(""), "--protocol is a JSON object, got ''"),
    (evaluate("[1]"), "--protocol is a JSON object"),
    (evaluate(DEEP), "--protocol is a JSON object"),
    (evaluate(f'{{"seed": {LONG}}}'), "--protocol is a JSON object"),
    (evaluate('{"seed": 1, "seed": 2}'), "'seed' stands twice in one object"),
    (evaluate(changed(PROTOCOL, seed=None)), "there is no 'seed'"),
    (evaluate(changed(PROTOCOL, autoattack={"n_images": 5})), "autoattack: there is no 'batch_size'"),
    (evaluate(changed(PROTOCOL, sed=1)), "unknown key 'sed'. Did you mean 'seed'"),
    (evaluate(changed(PROTOCOL, batch_size=0)), "batch_size must be a whole number of images above 0, got 0"),
    (evaluate(changed(PROTOCOL, batch_size=10**12)), "got 1000000000000; at most 1,000,000,000"),
    (evaluate(changed(PROTOCOL, batch_size="50")), "got '50'. YAML reads it as text; write 50"),
    (evaluate(changed(PROTOCOL, batch_size=50.0)), "got 50.0; write 50"),
    (evaluate(changed(PROTOCOL, pgd_step="banana")), "a step or radius is written '4/255' (absolute) or '0.5 eps'"),
    (evaluate(changed(PROTOCOL, pgd_step="1/255")), "--protocol: pgd_step: PGD10's ten steps of 1/255 lead 10/255 far"),
    (evaluate(changed(PROTOCOL, pgd_restarts=0)), "pgd_restarts must be a whole number above 0, got 0"),
    (evaluate(changed(PROTOCOL, seed=True)), "seed must be a whole number, 0 or more, got True"),
    (evaluate(changed(PROTOCOL, pgd_step=float("nan"))), "--protocol: NaN is no number"),
    (evaluate(changed(PROTOCOL, numerics=None)), "--protocol: there is no 'numerics'"),
    (evaluate(changed(PROTOCOL, numerics="exact")), "--protocol: numerics: unknown value 'exact'"),
    # --recipe
    (train("{"), "a recipe is a JSON object, got '{'"),
    (train(""), "a recipe is a JSON object"),
    (train("rubbish"), "a recipe is a JSON object, got 'rubbish'"),
    (train(DEEP), "a recipe is a JSON object"),
    (train(f'{{"epochs": {LONG}}}'), "a recipe is a JSON object"),
    (train('{"epochs": 1, "epochs": 2}'), "'epochs' stands twice"),
    (train(changed(RECIPE, epochs=10**15)), "epochs must be a whole number above 0, got 1000000000000000; at most"),
    (train(changed(RECIPE, epochs=1e3)), "epochs must be a whole number above 0, got 1000.0; write 1000"),
    (train(changed(RECIPE, epochs=None)), "missing 1 required positional argument: 'epochs'"),
    (train(changed(RECIPE, schedule={"kind": "piecewise", "milestones": [10, "20"]})), "milestones must be numbers"),
    (train(changed(RECIPE, params=[1])), "params must be a mapping of the method's parameters, got [1]"),
    # names of runs
    (["train", "--run", "digits/preact_tiny/eps0/atas/paper/seed0"], "eps is written N/255 with a whole N from 1"),
    (["train", "--run", f"digits/preact_tiny/eps77/atas/paper/seed{LONG}"], "a run is named"),
    (["train", "--run", "digits/preact_tiny/eps77/atas/paper/seed007"], "a run is named"),
    (["train", "--run", "../../etc/passwd"], "a run is named"),
    (["probe", "--run", RUN, "--results", "/nope"], "/nope/runs/digits/preact_tiny/eps77/atas/paper/seed0 holds no"),
    (["evaluate", "--run", RUN, "--results", "/nope"], "holds no finished run. Train it first"),
    # numbers
    (["cost", "--repeats", "0", "--out", "C"], "must be a whole number from 1 to 1000, got '0'"),
    (["cost", "--repeats", "two", "--out", "C"], "must be a whole number from 1 to 1000, got 'two'"),
    (["cost", "--threads", "0", "--out", "C"], "must be a whole number from 1 to 1000, got '0'"),
    (["train", "--run", RUN, "--threads", "-1"], "must be a whole number from 1 to 1000, got '-1'"),
    (["train", "--run", RUN, "--threads", LONG], "must be a whole number from 1 to 1000"),
    (["train", "--run", RUN, "--runs-per-gpu", "0"], "must be a whole number from 1 to 1000, got '0'"),
    (["train", "--run", RUN, "--device", "gpu"], "invalid choice: 'gpu'"),
    # folders and files that are not there
    (["tidy", "--results", "/nope", "--out", "R"], "nothing to gather below /nope/runs"),
    (["tidy", "--results", "noruns", "--out", "R"], "nothing to gather below noruns/runs"),
    (["report", "--results", "/nope"], "nothing to gather below /nope/runs"),
    (["figure-data", "--results", "/nope"], "--results /nope: there is no such folder"),
    (["figure-data", "--results", "empty"], "--results empty: there is no * in it"),
    (["judge", "--results", "/nope"], "--results /nope: there is no such folder"),
    (["judge", "--results", "noruns"], "There is no measured.csv. Make it: python -m fastat tidy"),
    (["draw", "--data", "/nope", "--out", "F"], "--data /nope: there is no such folder"),
    (["draw", "--data", "empty", "--out", "F"], "--data empty: there is no *.csv in it"),
    (["draw", "--data", "R/figures", "--out", "F", "--only", "nope"], "there is no figure 'nope'. Known: curves"),
    (["draw", "--data", "R/figures", "--out", "wrong", "--only", "curves"], "A part of the path is a file"),
    (["page", "--results", "/nope", "--out", "R/index.html"], "--results /nope: there is no such folder"),
    (["page", "--results", "empty", "--out", "R/index.html"], "--results empty: there is no *.csv in it"),
    (["page", "--results", "R", "--out", "R"], "There is a folder of that name"),
    (["docs", "--results", "/nope"], "--results /nope: there is no such folder"),
    (["docs", "--results", "noruns"], "there is no noruns/tables/table1.md"),
    (["theory", "--out", "wrong/theory.csv"], "A part of the path is a file"),
    (["plan", "--calibration", "/nope"], "/nope is no calibration"),
    (["plan", "--calibration", "binary"], "binary is no calibration"),
    (["plan", "--calibration", "zero.json"], "zero.json is no calibration (0 is not above 0)"),
    (["plan", "--calibration", "list.json"], "list.json is no calibration"),
    (["plan", "--only", "nope"], "no run of the grid has 'nope' as a part of its name. A run is called"),
    (["methods", "atass"], "unknown method 'atass'. Did you mean 'atas'"),
    (["methods", "--diff"], "--diff is between the recipes of one method: name it"),
    (["check", "--configfile", "/nope"], "cannot read /nope: No such file or directory"),
]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with made-up results in R, and files that are none."""
    fabricate.write(tmp_path / "R", fabricate.runs(2, 1))
    fabricate.correct(fabricate.runs(2, 1)).to_csv(tmp_path / "R/correct.csv", index=False)
    (tmp_path / "R/runs").mkdir()
    for folder in ("empty", "noruns/runs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "wrong").write_text(f"{RUN}\nno-run\n")
    (tmp_path / "zero.json").write_text('{"flops_per_second": {"digits/preact_tiny": 0}}')
    (tmp_path / "list.json").write_text('{"flops_per_second": [1]}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(argv: list[str], words: str, capsys) -> None:
    """Exit code 2 and the words, last of all on stderr and in one line."""
    try:
        code = main(argv)
    except SystemExit as exit:  # argparse's own
        code = exit.code
    said = capsys.readouterr().err
    assert code == 2 and words in said.strip().splitlines()[-1] and "Traceback" not in said, said


@pytest.mark.parametrize("argv,words", CASES, ids=[f"{argv[0]}-{k}" for k, (argv, _) in enumerate(CASES)])
def test_what_cannot_be_used_is_one_sentence_and_changes_no_file(here, capsys, argv, words):
    before = contents(here)
    refused(argv, words, capsys)
    assert contents(here) == before


def said_of(run: str, **changes) -> str:
    """A run.json with all that an evaluation needs of it."""
    recipe = {"n_train": None, "n_test": None}
    whole = {"run": run, "status": "finished", "collapse": {"first": None}, "epochs_done": 2, "data_sha256": "0"}
    return json.dumps({**whole, "recipe": recipe, **changes})


@pytest.mark.parametrize(
    "text", ["", '{"status": "fini', "[]", "{}", "null", said_of("another"), said_of(RUN, recipe={}), DEEP]
)
@pytest.mark.parametrize("verb", ["evaluate", "probe"])
def test_a_damaged_run_json_is_named(here, capsys, verb, text):
    path = here / "R/runs" / RUN / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    refused([verb, "--run", RUN, "--results", "R"], f"R/runs/{RUN}/run.json", capsys)


def test_more_images_than_there_are_are_refused_before_any_attack(here, capsys):
    path = here / "R/runs" / RUN / "run.json"
    path.parent.mkdir(parents=True)
    (path.parent / "weights.safetensors").touch()
    path.write_text(said_of(RUN, recipe={"n_train": None, "n_test": 20}))
    refused(evaluate(json.dumps(PROTOCOL)), "n_images is 50, but digits has 20 test images", capsys)


@pytest.mark.parametrize("damage", ["docs/methods/atas.md", "docs/results/default/table1.md", "docs/results/cost.md"])
@pytest.mark.parametrize("content", [None, "", "| a | b |\n|---|---|\n| 1 | 2 |\n"])
def test_docs_refuses_before_it_writes(tmp_path, monkeypatch, capsys, damage, content):
    from fastat.report import docs

    for name in ("README.md", "docs"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(docs, "RESULTS", tmp_path / "docs/results")
    (tmp_path / "docs/methods/yopo.md").write_text(f"By hand.\n{docs.MARK}old")
    if content is None:
        (tmp_path / damage).unlink()
    else:
        (tmp_path / damage).write_text(content)
    before = contents(tmp_path)
    refused(["docs"], damage, capsys)
    assert contents(tmp_path) == before


def run(*argv: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "fastat", *argv], cwd=ROOT, text=True, check=False, **options)


def test_what_is_printed_may_meet_a_full_disk_or_a_reader_that_has_enough():
    with open("/dev/full", "w") as full:
        done = run("methods", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2 and done.stderr.startswith("fastat methods: No space left on device.")
    read, write = os.pipe()
    os.close(read)
    done = run("methods", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_library_that_finds_no_memory_is_one_line_and_another_import_error_a_traceback(monkeypatch, capsys):
    said = "matplotlib/backends/_backend_agg.so: failed to map segment from shared object"
    monkeypatch.setattr("fastat.cli.do_methods", lambda args: raised(ImportError(said)))
    assert main(["methods"]) == 2
    assert capsys.readouterr().err.startswith(f"fastat methods: out of memory ({said}).")
    monkeypatch.setattr("fastat.cli.do_methods", lambda args: raised(ModuleNotFoundError("No module named 'mynets'")))
    with pytest.raises(ModuleNotFoundError):
        main(["methods"])


def raised(error):
    raise error


def test_ctrl_c_is_one_line():
    """In a child that waits in the verb; its parent sends what a terminal would."""
    code = (
        "import os, signal, sys; from fastat import cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # what starts the tests may ignore Ctrl-C
        "def wait(args): os.kill(os.getpid(), signal.SIGINT); signal.pause()\n"
        "cli.do_methods = wait\n"
        "sys.exit(cli.main(['methods']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert done.stderr == "fastat methods: stopped by Ctrl-C. Nothing is half written: run again.\n"


def test_ctrl_c_in_an_evaluation_says_where_autoattack_stands(here, capsys, monkeypatch):
    partial = Path("R/runs") / RUN / "state/autoattack-0123.csv"
    partial.parent.mkdir(parents=True)
    partial.touch()

    def interrupted(_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastat.cli.do_evaluate", interrupted)
    assert main(["evaluate", "--run", RUN, "--results", "R"]) == 130
    assert f"AutoAttack's finished images are kept in {partial}: run again to go on." in capsys.readouterr().err


def test_a_failed_job_shows_its_log_with_the_plain_command(tmp_path):
    """Snakemake finds profiles/default beside the Snakefile by itself."""
    (tmp_path / "results/data").mkdir(parents=True)
    (tmp_path / "results/data/digits.safetensors").write_text("no data")
    command = ["snakemake", "--cores", "1", "--directory", str(tmp_path)]
    command += ["--configfile", str(ROOT / "config/smoke.yaml"), "--", f"results/runs/{RUN}/run.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "fastat train: results/data/digits.safetensors is not a prepared data set" in done.stdout + done.stderr


def test_numbers_inside_snakemake_s_config_arrive_as_numbers(tmp_path):
    command = ["snakemake", "--dry-run", "--printshellcmds", "--directory"]
    command += [str(tmp_path), "--configfile", str(ROOT / "config/smoke.yaml"), "--config"]
    command += ["evaluation={autoattack: {n_images: 5, batch_size: 5}, pgd_step: 0.3 eps}"]
    command += ["recipes={digits: {every: {epochs: {by_eps: {102: 3}}, weight_decay: 5e-5, flip: true}}}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert '"n_images": 5' in said and '"pgd_step": "0.3 eps"' in said
    assert '"epochs":3' in said and '"flip":true' in said and '"weight_decay":5e-05' in said
    written = ["snakemake", "--cores", "1", *command[2:], "--", "results/config.json"]
    assert subprocess.run(written, cwd=ROOT, capture_output=True).returncode == 0
    every = load_config([tmp_path / "results/config.json"])["recipes"]["digits"]["every"]
    assert every["epochs"] == {"by_eps": {102: 3}} and every["weight_decay"] == 5e-5


def test_a_method_is_told_to_scripts_as_all_are(capsys):
    assert main(["methods", "--json"]) == 0
    every = json.loads(capsys.readouterr().out)
    assert main(["methods", "atas", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"atas": every["atas"]} and len(every) > 30
