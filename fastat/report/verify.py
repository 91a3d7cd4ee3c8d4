"""Is a run what it says it is? Its files against its run.json, its folder, the config and the data. Never torch.

Nothing is believed for where it lies. A file that is not what was written, or of another run, recipe, network, data or
protocol, or not whole, is a `Problem`, and no number is made from it.
"""

import functools
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from fastat.config import catalog, external, grid
from fastat.config.attack_names import PARTS, is_name, parse, parts_for
from fastat.config.catalog import CATALOG
from fastat.config.grid import (
    BY_SUITE,
    attacks_for,
    every_run,
    files_of,
    is_attacked_by_name,
    is_under_autoattack,
    keeps_snapshots,
    load_config,
    protocol_of,
    protocol_of_run,
    protocols_of,
)
from fastat.config.recipe import difference, made_from, resolve
from fastat.config.spec import EXTERNAL, PATTERN, RunSpec
from fastat.data import prepared
from fastat.errors import BadInput
from fastat.machine import files, seals

LARGE = 10_000_000  # bytes of a data set that is not read each time
WHITEBOX = ("clean", "fgsm", "pgd10", "pgd50", "noise", "gradient", "far", "inside")
FAR_IMAGES = 100  # at most so many of `far`
COLUMNS = {name: [one for one in columns if one != "step"] for name, columns in grid.COLUMNS.items()}  # that are needed
BEST = ("best_whitebox", "best_autoattack")  # of the weights of the best epoch on held-out images
NUMBERS = {"index", "label", "correct", "alpha", "loss", "pgd10_loss", "n", "u", "w"}  # finite in every row
ACCURACIES = ("clean_acc", "fgsm_acc", "pgd10_acc")
KINDS = {  # what run.json says, where it says it
    "files": dict, "versions": dict, "machine": dict, "collapse": dict, "data": dict, "network": dict,
    "n_parameters": int, "epochs_done": int, "best_epoch": int,
    "data_sha256": str, "made_from": str, "git_commit": str, "device": str, "numerics": str,
}  # fmt: skip
OF_RECIPE = {"n_train": int, "n_test": int, "epochs": int, "arch": str, "network": dict, "params": dict}
OF_SIDECAR = {"protocol": dict, "versions": dict, "numerics": str, "run": str, "weights": str, "data": str, "rows": str}
PACKED = "packed.json"  # of a run that came in an archive: sha256 of what was whole then and did not come along

Rows = dict[str, NDArray[Any]]  # a table's columns by name: a data frame per file costs ten times as much


@dataclass(frozen=True)
class Problem:
    """Why a file, or a whole run, is left out; a row of problems.csv."""

    run: str
    file: str  # below the run's folder
    rule: str
    found: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.run}/{self.file} {self.rule} ({self.found}). {self.way_out}"


PROBLEM = [one.name for one in fields(Problem)]


class Wrong(Exception):
    """A rule that a file breaks, as `is not ...`, and what was found."""

    def __init__(self, rule: str, found: object):
        self.rule, self.found = rule, str(found)
        super().__init__(rule)


@dataclass
class Checked:
    """What can be believed of a run. `about` is None if nothing is; `evaluations` has those that can be.

    rows: theirs, if they are in tables: not of a training that diverged, or on a subset. sidecars: what each was made
    from. unverified: what nothing could be held against, as weights that are not there.
    packed: its packed.json; left_out: what is not there, and was whole when the run was packed.
    """

    name: str
    about: dict[str, Any] | None = None
    log: Rows = field(default_factory=dict)
    evaluations: list[str] = field(default_factory=list)
    rows: dict[str, Rows] = field(default_factory=dict)
    sidecars: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    packed: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    results: Path = Path("results")

    def wrong(self, file: str, wrong: Wrong, verb: str) -> None:
        """Note a problem that `verb` mends."""
        ours = self.name.partition("/")[0] in CATALOG and not file.startswith("eval/attacks")
        with_config = "" if ours else " --configfile FILE, the config that names it"
        how = f"{verb} --run {self.name}{files.option(self.results)}{with_config}"
        way_out = f"Make it again: python -m fastat {how}"
        if f"/{EXTERNAL}/" in self.name:
            again = "its `python -m fastat evaluate --weights FILE ...` again (docs/checkpoints.md)"
            way_out = f"Run {again}" if file.startswith("eval/") else f"Remove the folder, and run {again}"
        self.problems.append(Problem(self.name, file, wrong.rule, wrong.found, way_out))


class Checker:
    """Checks the runs of one results folder.

    config: what the runs should be; None: whatever they say they are. full: trust no remembered hash. prepared_in: the
    folder of the prepared data; None: results/data.
    """

    def __init__(
        self,
        results: Path,
        config: dict[str, Any] | None = None,
        full: bool = False,
        prepared_in: Path | None = None,
    ):
        self.results, self.config, self.full = results, config, full
        self.prepared_in = prepared_in or results / "data"
        self.hashes = seals.Hashes(results, full)
        self.recipes: dict[RunSpec, dict[str, Any]] = {}
        self.data: dict[str, tuple[str, NDArray[np.int64]] | Wrong | None] = {}

    def check(self, name: str) -> Checked:
        """One run."""
        run = Checked(name, results=self.results)
        file = "run.json"
        try:
            spec = RunSpec.parse(name)
            run.about = self.run_json(spec, run)
            run.packed = self.packed(spec, run)
            self.against_data(spec, run.about, run)
            tensors = ["weights.safetensors"]
            if spec.method != EXTERNAL:
                file = "log.csv"
                run.log = read_log(self.bytes_of(spec, file, run), run.about)
                tensors += ["instances.safetensors"]
                tensors += ["best.safetensors"] if run.about["recipe"].get("hold_out") else []
            for file in tensors:
                self.large(spec, file, run)
        except (Wrong, BadInput) as error:
            run.about = None
            run.wrong(file, error if isinstance(error, Wrong) else Wrong("is no run's", error), "train")
            return run
        attacked = run.about["status"] in ("finished", EXTERNAL) and not spec.subset
        for name in self.evaluations(spec, run.about) if attacked else self.made_by_hand(spec):
            try:
                rows = self.evaluation(spec, name, run)
                run.evaluations.append(name)
                run.rows |= {name: rows} if attacked else {}
            except Wrong as wrong:
                run.wrong(f"eval/{name}.csv", wrong, "probe" if name == "surfaces_by_epoch" else "evaluate")
        return run

    # The training

    def run_json(self, spec: RunSpec, run: Checked) -> dict[str, Any]:
        """run.json, if it is of this run and of the recipe that the config asks for."""
        path = self.results / "runs" / spec.name / "run.json"
        if not path.exists():
            raise Wrong("is not there", "the run has not been trained, or not to its end")
        about = sealed(path, run)
        kinds_of = {"run": str, "recipe": dict, "status": str, "cause": str}
        for key, kinds in {**kinds_of, **({} if spec.method == EXTERNAL else {"train_seconds": int | float})}.items():
            if not isinstance(about.get(key), kinds):
                raise Wrong(f"has no {key}", about.get(key))
        if about["run"] != spec.name:
            raise Wrong("is of another run", about["run"])
        if about["status"] not in (statuses := (EXTERNAL,) if spec.method == EXTERNAL else ("finished", "diverged")):
            raise Wrong(f"has a status that is not {' or '.join(statuses)}", about["status"])
        if self.config is not None and (other := difference(about["recipe"], self.recipe(spec))):
            raise Wrong("is of another recipe than the config's", other)
        if spec.method == EXTERNAL:
            self.against_file(spec, about, run)
        if not spec.subset and {"made_from", "data_sha256"} <= about.keys():
            if made_from(about) != about["made_from"]:
                raise Wrong("is of another name, recipe or data than it says", f"made_from {about['made_from']}")
        check_kinds(about, KINDS)
        check_kinds(about["recipe"], OF_RECIPE)
        check_kinds(about.get("files") or {}, dict.fromkeys(about.get("files") or {}, str))
        return about

    def against_file(self, spec: RunSpec, about: dict[str, Any], run: Checked) -> None:
        """Whether run.json is of the file that the config names; where that is not here, of one that is called so."""
        for key, kinds in {"source": ("file", "sha256"), "found": ("arch", "normalise")}.items():
            if not isinstance(about.get(key), dict) or not set(kinds) <= about[key].keys():
                raise Wrong(f"has no {key}", about.get(key))
        if self.config is None:
            return
        path, source = Path(external.of_spec(spec, self.config).path), about["source"]
        if path.is_file():
            if (found := seals.sha256(path)) != source["sha256"]:
                raise Wrong("is of another file than the config's", f"{source['sha256']!s:.16}, {path} is {found:.16}")
        elif path.name != source["file"]:
            raise Wrong("is of another file than the config's", f"{source['file']}, not {path.name}")
        else:
            run.unverified.append(f"{path} is not here: whether it is what was evaluated is not known")

    def packed(self, spec: RunSpec, run: Checked) -> dict[str, Any]:
        """packed.json, which only a run that came in an archive has; {} without, and where it cannot be believed."""
        path = self.results / "runs" / spec.name / PACKED
        if not path.exists():
            return {}
        try:
            about = sealed(path, run)
        except Wrong as wrong:
            run.unverified.append(f"{PACKED} {wrong.rule}")
            return {}
        good = about.get("run") == spec.name and isinstance(about.get("files"), dict)
        if not good:
            run.unverified.append(f"{PACKED} is of another run")
        return about if good else {}

    def recipe(self, spec: RunSpec) -> dict[str, Any]:
        """What the config asks for. A seed changes no recipe."""
        assert self.config is not None
        spec = replace(spec, seed=0)
        if spec not in self.recipes:
            one = spec.method == EXTERNAL
            found = external.of_spec(spec, self.config).recipe if one else asdict(resolve(spec, self.config))
            self.recipes[spec] = json.loads(json.dumps(found))
        return self.recipes[spec]

    def bytes_of(self, spec: RunSpec, file: str, run: Checked) -> bytes:
        """A small file of a training, if it is the one that was written."""
        content = whole(self.results / "runs" / spec.name / file)
        self.same(file, hashlib.sha256(content).hexdigest(), run)
        return content

    def large(self, spec: RunSpec, file: str, run: Checked) -> None:
        """A tensor file of a training: the one that was written, or not there, which is said."""
        path = self.results / "runs" / spec.name / file
        try:
            self.same(file, self.hashes.of(path), run)
            with safe_open(path, framework="numpy"):  # one without a hash may be damaged
                pass
        except FileNotFoundError:
            self.absent(file, run)
        except OSError as error:
            raise Wrong("cannot be read", error.strerror) from error
        except SafetensorError as error:
            raise Wrong("is damaged", error) from error

    def same(self, file: str, found: str, run: Checked) -> None:
        """Hold a hash against run.json's."""
        assert run.about is not None
        said = run.about.get("files")
        if not isinstance(said, dict):
            run.unverified.append("run.json names no files: it was made before they had hashes")
        elif said.get(file) != found:
            raise Wrong("is not what this run wrote", f"sha256 {found[:16]}, run.json says {str(said.get(file))[:16]}")

    def absent(self, file: str, run: Checked) -> None:
        """A file that is not there: left out of an archive, where it was the one of run.json, or nobody knows why."""
        assert run.about is not None
        said = (run.about.get("files") or {}).get(file)
        if said and said == run.packed.get("files", {}).get(file):
            run.left_out.append(file)
        else:
            run.unverified.append(f"{file} is not there")

    # The data

    def prepared(self, dataset: str) -> tuple[str, NDArray[np.int64]] | None:
        """sha256 and test labels of the prepared data set, None if it is not there."""
        if dataset not in self.data:
            self.data[dataset] = read_prepared(self.prepared_in / f"{dataset}.safetensors", self.full)
        found = self.data[dataset]
        if isinstance(found, Wrong):
            raise found
        return found

    def labels(self, dataset: str, part: str) -> NDArray[np.int64] | None:
        """Of the prepared test or training images, None if these are not there."""
        found = self.prepared(dataset) if catalog.facts(dataset) else None
        if found is None or part == "test":
            return found and found[1]
        try:
            return prepared.labels(self.prepared_in / f"{dataset}.safetensors", part)
        except (BadInput, OSError) as error:
            raise Wrong("is of data that are damaged", error) from error

    def against_data(self, spec: RunSpec, about: dict[str, Any], run: Checked) -> None:
        """The run must be of the data that lie there."""
        data = self.prepared(spec.dataset) if catalog.facts(spec.dataset) else None
        if data is None:
            packed = run.packed.get("data")
            then = trained_on(packed, spec, about) if isinstance(packed, str) else None
            if then is not None and then == about.get("data_sha256"):
                run.left_out.append("its data")
            else:
                run.unverified.append("its data are not there")
        elif "data_sha256" in about and trained_on(data[0], spec, about) != about["data_sha256"]:
            raise Wrong("is of other data than results/data holds", f"data_sha256 {about['data_sha256'][:16]}")

    # The evaluations

    def evaluations(self, spec: RunSpec, about: dict[str, Any]) -> Iterator[str]:
        """Which files should be there, or are. Of a checkpoint without a config: what was asked for then."""
        if spec.method == EXTERNAL:
            suite = external.of_spec(spec, self.config).suite if self.config is not None else ""
            for names in map(files_of, BY_SUITE):
                there = any((self.results / "runs" / spec.name / f"eval/{name}.csv").exists() for name in names)
                yield from names if there or {*names} <= {*files_of(suite)} else ()
        else:
            yield from files_of("all" if self.is_under_autoattack(spec) else "whitebox")
        by_hand = self.config is None and (self.results / "runs" / spec.name / "eval/attacks.csv").exists()
        if by_hand or (self.config is not None and is_attacked_by_name(spec, self.config)):
            yield "attacks"
        if spec.method == EXTERNAL:
            return
        if about["recipe"].get("hold_out"):
            yield from BEST if self.is_under_autoattack(spec) else BEST[:1]
        there = (self.results / "runs" / spec.name / "eval/surfaces_by_epoch.csv").exists()
        if there or (self.config is not None and keeps_snapshots(spec, self.config)):
            yield "surfaces_by_epoch"

    def made_by_hand(self, spec: RunSpec) -> list[str]:
        """Which files are there of a run that no table has accuracies of: it diverged, or was trained on a subset."""
        return [name for name in COLUMNS if (self.results / "runs" / spec.name / f"eval/{name}.csv").exists()]

    def is_under_autoattack(self, spec: RunSpec) -> bool:
        """Whether AutoAttack's rows should be there; without a config, also where they are."""
        if self.config is not None:
            return is_under_autoattack(spec, self.config)
        there = (self.results / "runs" / spec.name / "eval/autoattack.csv").exists()
        return there or self.asked is None or is_under_autoattack(spec, self.asked)

    @functools.cached_property
    def asked(self) -> dict[str, Any] | None:
        """The config of the workflow that filled the folder; None if it is not there, or damaged."""
        path = self.results / "config.json"
        try:
            return load_config([path]) if path.exists() else None
        except BadInput:
            return None

    def evaluation(self, spec: RunSpec, name: str, run: Checked) -> Rows:
        """The rows of eval/NAME.csv, if whole and of these weights, data and protocol; none of a run that diverged."""
        path = self.results / "runs" / spec.name / f"eval/{name}.csv"
        content = whole(path)
        assert run.about is not None
        if run.about["status"] == "diverged":
            if n := len(read_rows(content, COLUMNS[name])[COLUMNS[name][0]]):
                raise Wrong("has rows, of another training than this one, which diverged", n)
            return {}
        protocol = self.sidecar(spec, name, path.with_suffix(".json"), hashlib.sha256(content).hexdigest(), run)
        rows = read_rows(content, COLUMNS[name])
        if name.endswith(("whitebox", "autoattack", "attacks")):
            part = run.about["recipe"].get("part", "test")
            n_test = sizes(spec, run.about)[0 if part == "train" else 1]
            check_values(rows, n_test, self.labels(spec.dataset, part))
            if name.endswith("whitebox"):
                check_whitebox(rows, n_test)
            elif name == "attacks":
                return checked_attacks(rows, n_test, protocol.get("attacks") or {}, self.wanted_attacks(spec))
            else:
                n = protocol.get("autoattack", {}).get("n_images")
                check_autoattack(rows, n_test if n == "all" else n, catalog.facts(spec.dataset))
        elif not len(rows[COLUMNS[name][0]]):
            raise Wrong("has no rows", 0)
        return rows

    def wanted_attacks(self, spec: RunSpec) -> tuple[str, ...] | None:
        """The attacks by name that the config asks for; None: without a config, all that are there."""
        return None if self.config is None else attacks_for(self.config, spec.dataset)

    def sidecar(self, spec: RunSpec, name: str, path: Path, rows: str, run: Checked) -> dict[str, Any]:
        """The protocol that the rows were made with, if eval/NAME.json is of this run and these rows."""
        assert run.about is not None
        wanted = None
        if self.config is not None:
            whole_protocol = protocol_of_run(spec, self.config)
            asked = attacks_for(self.config, spec.dataset) if is_attacked_by_name(spec, self.config) else ()
            whole_protocol["attacks"] = protocols_of(asked, whole_protocol)
            wanted = {**protocol_of(name, whole_protocol), "numerics": whole_protocol["numerics"]}
        if not path.exists():
            run.unverified.append(f"eval/{name}.csv was made before evaluations named their weights")
            return wanted or {}
        about = sealed(path, run)
        check_kinds(about, OF_SIDECAR)
        check_kinds(about.get("protocol") or {}, {"autoattack": dict})
        weights = (run.about.get("files") or {}).get("best.safetensors" if name in BEST else "weights.safetensors")
        expected = {"run": spec.name, "data": run.about.get("data_sha256"), "rows": rows}
        expected |= {"made_from": run.about.get("made_from")} if spec.method == EXTERNAL else {}
        for key, value in ({**expected, "weights": weights} if weights else expected).items():
            if about.get(key) != value:
                raise Wrong(f"was not made from this run's {key}", f"{about.get(key)!s:.16}, here {value!s:.16}")
        protocol = about.get("protocol")
        if not isinstance(protocol, dict):
            raise Wrong("names no protocol", protocol)
        by_name = protocol.get("attacks") if name == "attacks" else {}
        if not isinstance(by_name, dict) or not all(isinstance(one, dict) for one in by_name.values()):
            raise Wrong("names no protocol of each attack", protocol)
        said = {**protocol, "numerics": about.get("numerics")}
        if wanted is not None and name == "attacks":  # beside those that the config asks for, others are nobody's fault
            said["attacks"] = {key: by_name[key] for key in wanted["attacks"] if key in by_name}
        if wanted is not None and (other := difference(said, wanted)):
            raise Wrong("is of another protocol than the config's", other)
        run.sidecars[name] = about
        return protocol


def lines(results: Path, names: list[str] | None, config: dict[str, Any] | None) -> tuple[list[str], bool]:
    """A line for each run (None: all), or for each thing that is wrong with it, and whether anything is.

    Every file is read, whatever is remembered of it.
    """
    if not results.is_dir():
        raise BadInput(f"{results} is not there. Name another folder with --results.")
    checker = Checker(results, config, full=True)
    if names is None:
        names = [spec.name for spec in every_run(config)] if config else runs_below(results / "runs")[0]
        if not names:
            raise BadInput(f"{results / 'runs'} holds no run. Name another folder with --results.")
    runs = [checker.check(RunSpec.parse(name).name) for name in sorted(names)]
    for run, wrong in list(among_neighbours(runs)):
        run.wrong("run.json", wrong, "train")
    checker.hashes.keep()
    said = []
    for run in runs:
        good = f"unverified: {'; '.join(dict.fromkeys(run.unverified))}" if run.unverified else "ok"
        if run.left_out:
            good += f"; not here, but whole when it was packed: {', '.join(run.left_out)}"
        said += [str(problem) for problem in run.problems] or [f"{run.name}: {good}"]
    return said, any(run.problems for run in runs)


def runs_below(folder: Path) -> tuple[list[str], list[Problem]]:
    """The names of the runs below results/runs, and the run.json that lie where no run is."""
    names, strays = [], []
    for path in folder.rglob("run.json"):
        name = str(path.parent.relative_to(folder))
        try:
            names.append(RunSpec.parse(name).name)
        except BadInput:
            way_out = f"Move it out of {folder}, or give it the name in its run.json"
            strays.append(Problem(name, "run.json", "lies where no run is", PATTERN, way_out))
    return names, strays


# Neighbours


def among_neighbours(runs: Iterable[Checked]) -> Iterator[tuple[Checked, Wrong]]:
    """What single runs cannot show: trained on other data than the others, or with the weights of another seed."""
    believed = [run for run in runs if run.about is not None]
    weights: dict[tuple[str, str], list[Checked]] = {}
    data: dict[tuple[str, int | None, int | None], dict[str, list[Checked]]] = {}
    for run in believed:
        assert run.about is not None
        spec = RunSpec.parse(run.name)
        if said := (run.about.get("files") or {}).get("weights.safetensors"):
            weights.setdefault((replace(spec, seed=0).name, said), []).append(run)
        if found := run.about.get("data_sha256"):
            data.setdefault((spec.dataset, *sizes(spec, run.about)), {}).setdefault(found, []).append(run)
    for same in weights.values():
        for run in same if len(same) > 1 else ():
            others = ", ".join(other.name for other in same if other is not run)
            yield run, Wrong("has the weights of another seed", others)
    for by_hash in data.values():
        most = max(len(found) for found in by_hash.values())
        majority = [hashed for hashed, found in by_hash.items() if len(found) == most]
        for hashed, found in by_hash.items():
            if len(by_hash) > 1 and majority != [hashed]:
                for run in found:
                    yield run, Wrong("is of other data than its neighbours", f"data_sha256 {hashed[:16]}")


# Files


def whole(path: Path) -> bytes:
    """The content of a file."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Wrong("is not there", "it was not made, or deleted") from error
    except OSError as error:
        raise Wrong("cannot be read", error.strerror) from error


def sealed(path: Path, run: Checked) -> dict[str, Any]:
    """A JSON file with its seal."""
    try:
        about = seals.read(path)
    except BadInput as error:
        raise Wrong("is damaged", error) from error
    if seals.SEAL not in about:
        run.unverified.append(f"{path.name} has no seal: it was made before there were any")
    return about


def check_kinds(about: dict[str, Any], kinds: Mapping[str, type]) -> None:
    """Values are of these kinds, where there are any: what reads them later relies on it."""
    for key, kind in kinds.items():
        if about.get(key) is not None and not isinstance(about[key], kind):
            raise Wrong(f"has a {key} that is no {kind.__name__}", str(about[key])[:100])


def read_rows(content: bytes, columns: list[str]) -> Rows:
    """The columns of a CSV file, these among them, numbers where numbers belong."""
    try:
        frame = pd.read_csv(io.BytesIO(content))
    except (ValueError, pd.errors.EmptyDataError) as error:  # decoding and pandas' own
        raise Wrong("is no table", str(error).splitlines()[0]) from error
    if absent := [name for name in columns if name not in frame]:
        raise Wrong("lacks columns", ", ".join(absent))
    rows = {str(name): column.to_numpy() for name, column in frame.items()}
    for name in NUMBERS.intersection(columns) if len(frame) else ():
        if rows[name].dtype.kind not in "if" or not np.isfinite(rows[name]).all():
            raise Wrong(
                f"has cells in `{name}` that are no numbers", first(rows[name], ~np.isfinite(numbers(rows[name])))
            )
    return rows


def numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """As numbers, NaN where they are none."""
    if values.dtype.kind in "if":
        return values.astype(np.float64)
    return pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(np.float64)


def first(values: NDArray[Any], bad: NDArray[np.bool_]) -> object:
    """The first of those that are bad."""
    return values[bad][0]


def read_log(content: bytes, about: dict[str, Any]) -> Rows:
    """log.csv: a row per epoch that was trained."""
    log = read_rows(content, ["epoch", *ACCURACIES])
    epochs = log["epoch"].tolist()
    if not epochs or epochs != list(range(1, len(epochs) + 1)):
        raise Wrong("does not have one row per epoch", f"{len(epochs)} rows")
    done, asked = about.get("epochs_done", len(epochs)), about["recipe"].get("epochs", len(epochs))
    if done != len(epochs) or (about["status"] == "finished" and asked != len(epochs)):
        raise Wrong("has other epochs than were trained", f"{len(epochs)}, run.json says {done} of {asked}")
    for name in ACCURACIES:
        values = numbers(log[name])
        if not (good := (values >= 0) & (values <= 1)).all():
            raise Wrong(f"has values in `{name}` that are no accuracies", first(log[name], ~good))
    return log


def read_prepared(path: Path, full: bool) -> tuple[str, NDArray[np.int64]] | Wrong | None:
    """sha256 and test labels of a prepared data set, what is wrong with it, or None if there is none.

    A large one is read only in `full`: what is trained and attacked on was read then.
    """
    if not path.exists():
        return None
    try:
        if full:
            prepared.verify(path)
        elif path.stat().st_size < LARGE:
            prepared.read(path)
        return prepared.header(path)["sha256"], prepared.labels(path, "test")
    except (BadInput, OSError) as error:
        return Wrong("is of data that are damaged", error)


# Rules


def sizes(spec: RunSpec, about: dict[str, Any]) -> tuple[int | None, int | None]:
    """How many training and test images the run used; None: nobody knows."""
    facts = catalog.facts(spec.dataset)
    known = (facts.n_train, facts.n_test) if facts else (None, None)
    said = (about["recipe"].get("n_train"), about["recipe"].get("n_test"))
    return said[0] or known[0], said[1] or known[1]


def trained_on(sha256: str, spec: RunSpec, about: dict[str, Any]) -> str | None:
    """The data_sha256 that the run has if it is of the data set with this sha256; None: its sizes are unknown."""
    n_train, n_test = sizes(spec, about)
    return prepared.data_sha256(sha256, n_train, n_test) if n_train is not None and n_test is not None else None


def check_values(rows: Rows, n_test: int | None, known: NDArray[np.int64] | None) -> None:
    """Verdicts are 0 or 1, images are the data's, and so are their labels, where these are known."""
    index, labels, correct = rows["index"], rows["label"], rows["correct"]
    if (bad := (correct != 0) & (correct != 1)).any():
        raise Wrong("has verdicts that are neither 0 nor 1", first(correct, bad))
    if (bad := index % 1 != 0).any():
        raise Wrong("has images whose number is none", first(index, bad))
    if n_test is not None and len(index) and not (0 <= index.min() and index.max() < n_test):
        raise Wrong(f"has images beyond the {n_test} test images", index.max())
    if known is not None and (bad := known[index.astype(np.int64)] != labels).any():
        raise Wrong("has other labels than the data", f"image {first(index, bad)}")


def by_attack(rows: Rows) -> dict[str, NDArray[np.intp]]:
    """Which rows each attack has, in the order in which the attacks appear."""
    codes, names = pd.factorize(rows["attack"])
    return {str(name): np.flatnonzero(codes == code) for code, name in enumerate(names)}


def check_whitebox(rows: Rows, n_test: int | None) -> None:
    """Every attack on every test image, once."""
    attacks = by_attack(rows)
    if unknown := sorted(set(attacks) - set(WHITEBOX)):
        raise Wrong("has rows of no attack of the suite", ", ".join(unknown))
    none = np.empty(0, np.intp)
    n_test = n_test or len(attacks.get("clean", none))
    for attack in WHITEBOX:
        index = np.sort(rows["index"][attacks.get(attack, none)])
        every = min(n_test, FAR_IMAGES) if attack == "far" else n_test
        if len(index) != every or (np.diff(index) == 0).any():
            raise Wrong(f"does not have every image once under {attack}", f"{len(set(index))} of {every} images")


def checked_attacks(rows: Rows, n_test: int | None, by_name: dict[str, Any], wanted: tuple[str, ...] | None) -> Rows:
    """The rows of the `wanted` attacks, None: of all. Each is on every image that its protocol names, once."""
    attacks = by_attack(rows)
    if strange := sorted(name for name in by_name if not is_name(name)):
        raise Wrong("has a protocol of no attack", ", ".join(strange))
    if unknown := sorted(set(attacks) - set(by_name)):
        raise Wrong("has rows of no attack of its protocol", ", ".join(unknown))
    for name, protocol in by_name.items():
        index = np.sort(rows["index"][attacks.get(name, np.empty(0, np.intp))])
        n_images = protocol.get("n_images") if parse(name).parts else n_test
        n_images = n_test if n_images == "all" else n_images
        if not len(index) or (np.diff(index) == 0).any() or n_images not in (None, len(index)):
            raise Wrong(f"does not have every image once under {name}", f"{len(set(index))} of {n_images} images")
    for name in by_name:
        check_survivors(rows, attacks, by_name, name)
    here = np.isin(rows["attack"].astype(str), list(by_name if wanted is None else wanted))
    return {name: column[here] for name, column in rows.items()}


def check_survivors(rows: Rows, attacks: dict[str, NDArray[np.intp]], by_name: dict[str, Any], name: str) -> None:
    """An attack on survivors stands on another of the same protocol; what that broke is broken, and nothing undone."""
    before = parse(name).before
    if before is None:
        return
    if by_name.get(str(before)) != by_name[name]:
        raise Wrong(f"does not have, by one protocol, what {name} stands on", str(before))
    fallen, here = ({*rows["index"][at][rows["correct"][at] == 0]} for at in (attacks[str(before)], attacks[name]))
    if undone := fallen - here:
        raise Wrong(f"has images right under {name} that {before} broke", f"{len(undone)} images")


def check_autoattack(rows: Rows, n_images: int | None, facts: Any) -> None:
    """Every part of AutoAttack on every image that the parts before it left."""
    attacks, index, correct = by_attack(rows), rows["index"], rows["correct"]
    parts = ["clean", *(parts_for(facts.n_classes) if facts else PARTS)]
    if unknown := sorted(set(attacks) - set(parts)):
        raise Wrong("has rows of no part of AutoAttack", ", ".join(unknown))
    none = np.empty(0, np.intp)
    standing = np.unique(index[attacks.get("clean", none)])
    if not len(standing) or (n_images is not None and len(standing) != n_images):
        raise Wrong("does not have every image that its protocol names", f"{len(standing)} of {n_images}")
    for part in parts:
        here = attacks.get(part, none)
        if not np.array_equal(np.sort(index[here]), standing):
            raise Wrong(f"does not account for every image under {part}", f"{len(here)} of {len(standing)}")
        standing = np.sort(index[here[correct[here] == 1]])
