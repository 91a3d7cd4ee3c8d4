"""Nothing in a file runs, no name leaves the folder of results, and what others wrote is shown as text."""

import ast
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from fastat import ROOT
from fastat.cli import main
from fastat.config.grid import every_run, load_config
from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.machine import seals
from fastat.networks import checkpoints
from fastat.training import checkpoint
from tests import fabricate

# What code runs

SERIALISERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
ALLOWED = {  # what a file may use, and why
    "fastat/networks/checkpoints.py": {"pickle"},  # the names of its errors
    "fastat/data/cifar.py": {"pickle"},  # an Unpickler that runs nothing
    "fastat/data/made_up.py": {"pickle"},  # writes CIFAR's files for tests and benchmarks
    "fastat/machine/others.py": {"import_module"},  # a factory that a config or the command line names
    "methods/__init__.py": {"import_module"},  # a method's file
    "fastat/__init__.py": {"import_module"},  # what the library shows
    "fastat/exchange/folder.py": {"run_path"},  # load.py, of our own text
}
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "execfile", "system", "popen", "unsafe_load", "full_load", "read_pickle",
    "load_all", "run_path", "run_module", "import_module", "literal_eval_unsafe", "FullLoader", "UnsafeLoader",
}  # fmt: skip
OF_A_MODULE = {"eval", "compile"}  # verbs that networks, regular expressions and data frames have, too
FROM_FILES = {
    "torch.load",
    "torch.jit.load",
    "torch.hub.load",
    "torch.export.load",
    "yaml.load",
    "pickle.load",
    "pickle.loads",
}


def dangers(tree: ast.AST) -> set[str]:
    """What in a module may run what is in a file: each by its name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found |= {name.split(".")[0] for name in names} & SERIALISERS
        if not isinstance(node, ast.Call):
            continue
        called, said = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        last = called.rpartition(".")[2]
        if last in FORBIDDEN - OF_A_MODULE or called in OF_A_MODULE:
            constant = last == "import_module" and isinstance(node.args[0], ast.Constant)
            found |= set() if constant else {last}
        if called in FROM_FILES and said.get("weights_only") != "True":
            found.add(called)
        if said.get("allow_pickle", "False") != "False":
            found.add("allow_pickle")
        if said.get("shell", "False") != "False":
            found.add("shell")
        if last == "Environment" and said.get("autoescape") != "True":
            found.add("autoescape")
    return found


def test_our_code_unpickles_and_evaluates_nothing_that_a_file_says():
    files = [path for room in ("fastat", "methods", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 100
    for path in files:
        name = str(path.relative_to(ROOT))
        assert dangers(ast.parse(path.read_text())) <= ALLOWED.get(name, set()), name


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from dill import load", "torch.load(f)", "torch.load(f, weights_only=False)", "eval(text)",
        "exec(text)", "yaml.load(text, Loader)", "yaml.unsafe_load(text)", "np.load(f, allow_pickle=True)",
        "subprocess.run(text, shell=True)", "os.system(text)", "importlib.import_module(about['module'])",
        "runpy.run_path(file)", "pd.read_pickle(f)", "torch.jit.load(f)", "Environment(loader=x)", "__import__(name)",
    ],
)  # fmt: skip
def test_each_way_to_run_what_a_file_says_would_be_found(line):
    assert dangers(ast.parse(line))


def test_every_text_of_a_config_is_quoted_in_the_workflows_commands():
    """Snakemake formats {params.x} as it is; {params.x:q} for the shell. The others are of names that are checked."""
    plain = {"name", "launch", "options", "snapshots", "network", "device", "runs_per_gpu", "numerics", "names"}
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for name, quoted in re.findall(r"\{params\.(\w+)(:q)?\}", path.read_text()):
            assert quoted or name in plain, f"{path.name}: {name}"


# Files that want to run something


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def trap(tmp_path) -> Path:
    """What no file may make; and it would be made, if somebody unpickled."""
    path = tmp_path / "owned"
    pickle.loads(pickle.dumps(Evil(path)))
    path.rmdir()
    yield path
    assert not path.exists()


@pytest.mark.parametrize("wrapped", [lambda evil: evil, lambda evil: {"state_dict": {"w": torch.zeros(1)}, "x": evil}])
@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}, None])
def test_a_checkpoint_that_runs_code_is_refused(trap, tmp_path, wrapped, how):
    path, content = tmp_path / "theirs.pt", wrapped(Evil(trap))
    path.write_bytes(pickle.dumps(content)) if how is None else torch.save(content, path, **how)
    with pytest.raises(BadInput, match="is no file of plain tensors"):
        checkpoints.packed(path)


def test_a_state_and_weights_that_run_code_are_refused(trap, tmp_path, capsys):
    run = "digits/preact_tiny/eps8/atas/paper/seed0"
    folder = fabricate.finished(tmp_path, run)
    torch.save(Evil(trap), folder / "weights.safetensors")
    assert main(["evaluate", "--run", run, "--results", str(tmp_path), "--suite", "whitebox"]) == 2
    assert "is not what this run wrote" in capsys.readouterr().err
    torch.save(Evil(trap), tmp_path / "state.safetensors")
    with pytest.raises(BadInput, match="is damaged or not a state file"):
        checkpoint.load(tmp_path / "state.safetensors", "")


def test_arrays_that_run_code_are_refused(trap, tmp_path, capsys):
    evil = np.array([Evil(trap)], object)
    np.savez(tmp_path / "data.npz", images=evil, labels=np.arange(1))
    options = f'{{"npz": "{tmp_path}/data.npz", "test": 0.2}}'
    out = str(tmp_path / "mine.safetensors")
    assert main(["data", "--dataset", "mine", "--options", options, "--out", out]) == 2
    assert "a pickle may run anything: it is not read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.mkdir [PATH]", "!!python/name:os.mkdir", "!!python/object/new:os.mkdir [PATH]"]
)
def test_a_config_that_runs_code_is_refused(trap, tmp_path, tag, capsys):
    (tmp_path / "config.yaml").write_text(f"data_dir: {tag.replace('PATH', str(trap))}\n")
    assert main(["check", "--configfile", str(tmp_path / "config.yaml")]) == 2
    assert "config.yaml" in capsys.readouterr().err


def test_a_factory_that_a_run_names_and_no_config_is_not_imported(trap, tmp_path, capsys, monkeypatch):
    (tmp_path / "evil_module.py").write_text(f"import os\nos.mkdir({str(trap)!r})\ndef net(**_): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = "digits/mine/eps8/atas/paper/seed0"
    folder = fabricate.finished(tmp_path, run, network={"factory": "evil_module:net"})
    assert main(["evaluate", "--run", run, "--results", str(tmp_path), "--suite", "whitebox"]) == 2
    assert "No code is imported for what a file in" in capsys.readouterr().err
    assert seals.read(folder / "run.json")["recipe"]["network"]


# Names that want to leave the folder

OUTSIDE = ("../x", "/tmp/x", "..", "a/../../b", "~", "a b", "a\nb", "$(x)", "a;b", "{x}")


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize(
    "config",
    [
        {"grid": [{"dataset": "NAME", "model": "preact_tiny", "eps": "8/255", "method": "atas", "seed": 0}]},
        {"grid": [{"dataset": "digits", "model": "NAME", "eps": "8/255", "method": "atas", "seed": 0}]},
        {"grid": [{"dataset": "digits", "model": "preact_tiny", "eps": "8/255", "method": "NAME", "seed": 0}]},
        {"grid": [{"dataset": "digits", "model": "preact_tiny", "eps": "8/255", "method": "atas/NAME", "seed": 0}]},
        {"grid": [{"dataset": "digits", "model": "preact_tiny", "eps": "NAME", "method": "atas", "seed": 0}]},
        {"grid": [{"dataset": "digits", "model": "preact_tiny", "eps": "8/255", "method": "atas", "seed": "NAME"}]},
        {"recipes": {"digits": {"atas/NAME": {"epochs": 2}}}},
        {"sweep": {"atas/NAME": [{"epochs": [1, 2]}]}},
        {"datasets": {"NAME": {"folder": "."}}},
        {"models": {"NAME": {"factory": "mynets:small"}}},
        {
            "external": [
                {"weights": "w.pt", "model": "preact_tiny", "dataset": "digits", "eps": "8/255", "name": "NAME"}
            ]
        },
        {"external": [{"weights": "w.pt", "model": "preact_tiny", "dataset": "NAME", "eps": "8/255"}]},
        {"external": [{"weights": "NAME", "model": "preact_tiny", "dataset": "digits", "eps": "8/255"}]},
    ],
)
def test_no_name_of_a_config_leaves_the_folder_of_results(config, name, tmp_path):
    import json

    path = tmp_path / "config.json"
    path.write_text(json.dumps(config).replace("NAME", json.dumps(name)[1:-1]))
    try:
        runs = every_run(load_config([path]))
    except BadInput:
        return
    for one in runs:
        assert RunSpec.parse(one.name) == one  # words of a-z, 0-9 and _ alone


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_of_the_command_line_leaves_it(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    for verb in (["train", "--run", f"digits/preact_tiny/eps8/atas/{name}/seed0"], ["data", "--dataset", name]):
        assert main(verb) == 2
    assert main(["evaluate", "--run", f"{name}/preact_tiny/eps8/atas/paper/seed0"]) == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["results"]
