"""One evaluation or probe of a finished run: its weights are attacked, and looked at, into results/runs/NAME/eval."""

import csv
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import pad

from fastat import __version__
from fastat.config import catalog
from fastat.config.attack_names import PARTS, check_attack, is_name, lineage, parse, parts_for
from fastat.config.external import as_released
from fastat.config.grid import COLUMNS, check_n_images, files_of, protocol_of, protocols_of
from fastat.config.networks import Door, shown
from fastat.config.recipe import fingerprint
from fastat.config.spec import EXTERNAL, RunSpec
from fastat.data import datasets, subsets
from fastat.data.datasets import ImageSet, Part
from fastat.errors import BadInput, of_memory
from fastat.evaluation import autoattack, named, probes, whitebox
from fastat.machine import devices, files, numerics, seals
from fastat.networks import external, models, own
from fastat.training.collapse import Collapse, detect
from fastat.training.trainer import BEST

log = logging.getLogger(__name__)
WEIGHTS = {"last": "weights.safetensors", "best": BEST}  # of an epoch
PREFIX = {"last": "", "best": "best_"}  # of its files
PADDING = 4  # pixels on each side, by the released protocol
NEEDED = ("status", "epochs_done", "data_sha256", "n_train", "n_test")  # of run.json and its recipe


class Finished:
    """A finished run: its run.json, its data, and its networks in eval mode.

    door: how its network is built, as a config or the command line says it: no code is imported for what a file says.
    Raises: BadInput if the run is not finished, or a file of it is not what its run.json says.
    """

    def __init__(self, spec: RunSpec, results: Path, device: torch.device, door: Door):
        self.spec, self.results, self.device, self.door = spec, results, device, door
        self.folder = results / "runs" / spec.name
        way_out = (
            f"Train it: python -m fastat train --run {spec.name}{files.option(results)} (and --configfile, as ever)"
        )
        self.again = "Train it again."
        if spec.method == EXTERNAL:
            way_out = "Name its file: python -m fastat evaluate --weights FILE ... (docs/checkpoints.md)"
            self.again = f"Remove {self.folder}, and evaluate its file again."
        if not (self.folder / "run.json").exists():
            raise BadInput(f"{self.folder} holds no finished run. {way_out.replace('it:', 'it first:')}")
        self.about = seals.read(self.folder / "run.json")
        if self.about.get("run") != spec.name or not isinstance(self.about.get("recipe"), dict):
            raise BadInput(f"{self.folder}/run.json is of the run {self.about.get('run')!r}. {way_out}")
        needed = {*NEEDED, *(("found", "made_from", "protocol") if spec.method == EXTERNAL else ())}
        if absent := needed - self.about.keys() - self.about["recipe"].keys():
            raise BadInput(f"{self.folder}/run.json is damaged: it lacks {', '.join(sorted(absent))}. {way_out}")
        self.check_door()
        there = (file for file in WEIGHTS.values() if (self.folder / file).exists())
        self.weights = {file: seals.sha256(self.folder / file) for file in there}
        self.started = time.perf_counter()

    def check_door(self) -> None:
        """Raises: BadInput if the network of run.json is another than the one that was named."""
        recorded = self.about["recipe"].get("network") or {}
        if recorded and not self.door:
            raise BadInput(
                f"{self.spec.name}: its network comes from {shown(recorded)}: name it in a config (--configfile), as "
                f"{self.spec.model} under `models`, or by --network '{json.dumps(recorded)}'. No code is imported for "
                f"what a file in {self.results} says"
            )
        if recorded != self.door:
            others = shown(self.door) if self.door else "ours"
            raise BadInput(
                f"{self.spec.name}: run.json says that its network comes from {shown(recorded)}, the config that it is "
                f"{others}. Name the one that it was trained with, or train it again"
            )

    def data(self) -> ImageSet:
        """What it was trained on, and the test images."""
        sizes = {key: self.about["recipe"][key] for key in ("n_train", "n_test")}
        path = self.results / f"data/{self.spec.dataset}.safetensors"
        data = datasets.load(path, self.device, **sizes)
        if data.sha256 != self.about["data_sha256"]:
            raise BadInput(
                f"{path} is not what {self.spec.name} was trained on (its sha256 is {data.sha256[:16]}, the run's "
                f"{self.about['data_sha256'][:16]}). Prepare the old data again, or train the run again."
            )
        return attacked(subsets.held_out(data, self.about["recipe"].get("hold_out", 0))[0], self.about["recipe"])

    @property
    def n_attacked(self) -> int | None:
        """How many images there are to attack; None: all of the test part."""
        recipe = self.about["recipe"]
        return catalog.required(self.spec.dataset).n_train if recipe.get("part") == "train" else recipe["n_test"]

    def collapse(self) -> Collapse:
        """What log.csv says of catastrophic overfitting.

        Raises: BadInput if the file is missing or damaged.
        """
        path = self.folder / "log.csv"
        try:
            with open(path, encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            fgsm_acc, pgd_acc = ([float(row[name]) for row in rows] for name in ("fgsm_acc", "pgd10_acc"))
            return detect(fgsm_acc, pgd_acc, catalog.required(self.spec.dataset).n_classes)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{path} is missing or damaged ({error}). Train it again.") from error

    def network(self, file: str = "weights.safetensors") -> nn.Module:
        """The network with the weights of one of its files."""
        path = self.folder / file
        if not path.exists():
            raise BadInput(
                f"{path} is not there: it was removed, or left out of the archive that the run came in (`export --all` "
                f"takes weights along with --weights). {self.again}"
            )
        model = self.untrained()
        try:
            found, wrote = seals.sha256(path), self.about.get("files")  # runs of before it say nothing of their files
            if wrote is not None and found != wrote.get(file):
                raise BadInput(f"{path} is not what this run wrote: run.json has another sha256. {self.again}")
            held = load_file(path)
            model.load_state_dict(held)
        except (RuntimeError, OSError, SafetensorError) as error:
            if of_memory(error):
                raise
            cause = " ".join(str(error).split())[:300]
            raise BadInput(f"{path} is damaged or of another network: {cause}. {self.again}") from error
        for name, tensor in held.items():
            if not tensor.isfinite().all():
                raise BadInput(f"{path}: {name} holds what is no number: no accuracy would mean anything. Train again.")
        return model.to(self.device).to(memory_format=devices.layout(self.device)).eval()

    def untrained(self) -> nn.Module:
        """The network with weights that mean nothing."""
        facts = catalog.required(self.spec.dataset)
        if self.spec.method == EXTERNAL:
            network = external.rebuilt(self.about, self.spec.model, self.door, facts)
            self.check_code()
            return network
        if not self.door:
            arch = self.about["recipe"].get("arch", "shared")
            ours = models.build(self.spec.model, facts.shape[0], facts.n_classes, arch)
            numerics.without_onednn(ours)
            return ours
        numerics.without_onednn()
        model = own.build(self.door, facts.shape[0], facts.n_classes)
        then, now = self.about.get("network"), own.source(self.door)
        if then != now:
            log.warning("%s: the code of its network was %s when it was trained, is now %s", self.spec.name, then, now)
        return model

    def check_code(self) -> None:
        """Raises: BadInput if the code that built a checkpoint's network is another than when its file was read."""
        then, now = self.about.get("network"), own.source(self.door) if self.door else {}
        if then != now:
            raise BadInput(
                f"{self.spec.name}: the code of its network was {then} when its rows were made, is now {now}. Bring it "
                f"back, or evaluate the file again: under another --name, or after rm -r {self.folder}"
            )

    @property
    def of_checkpoint(self) -> list[str]:
        """What rows depend on besides weights and protocol: of what was trained here nothing, as run.json names it."""
        return [self.about["made_from"]] if self.spec.method == EXTERNAL else []

    def write(
        self,
        name: str,
        rows: Iterable[dict[str, Any]],
        protocol: dict[str, Any],
        epoch: str = "last",
        made: dict[str, Any] | None = None,
    ) -> None:
        """Write eval/NAME.csv, and eval/NAME.json: what it was made from. epoch: whose weights, `last` or `best`.

        made: what is to be said of single attacks.
        """
        path = self.folder / f"eval/{name}.csv"
        self.announce(path, protocol_of(name, protocol))
        parts = parts_for(catalog.required(self.spec.dataset).n_classes)
        files.write_rows(path, COLUMNS[name], list(rows))
        about = {
            **self.made_from(path, protocol_of(name, protocol), protocol["numerics"], epoch),
            **({"made": made} if made is not None else {}),
            **({"parts": parts} if name.endswith("autoattack") and len(parts) < len(PARTS) else {}),
        }
        seals.write(path.with_suffix(".json"), about)
        self.started = time.perf_counter()

    def made_from(self, rows: Path | None, protocol: dict[str, Any], wanted: str, epoch: str) -> dict[str, Any]:
        """What the rows in a file were made from. protocol: what they depend on. wanted: numerics. None: no rows."""
        return {
            "run": self.spec.name,
            "weights": self.weights.get(WEIGHTS[epoch]),
            "data": self.about["data_sha256"],
            "protocol": protocol,
            "numerics": wanted,
            "device": devices.name(self.device),
            "rows": rows and seals.sha256(rows),
            "seconds": time.perf_counter() - self.started,
            "versions": versions(),
            **({"made_from": self.about["made_from"]} if self.spec.method == EXTERNAL else {}),
        }

    def announce(self, path: Path, protocol: dict[str, Any]) -> None:
        """Say that rows by another protocol are there and will be replaced; of attacks by name each has its own."""
        try:
            before = seals.read(path.with_suffix(".json"))["protocol"]
        except (BadInput, KeyError):
            return
        kept = ". The images are kept in state/: by the old protocol the old rows come back at once"
        if before != protocol and path.stem != "attacks":
            log.warning(
                "%s: WARNING: its rows, by %s, are replaced by others, by %s%s",
                path, json.dumps(before), json.dumps(protocol), kept if path.stem.endswith("autoattack") else "",
            )  # fmt: skip


def attacked(data: ImageSet, recipe: dict[str, Any]) -> ImageSet:
    """The data with what is attacked as their test part: of a checkpoint it may be the training part.

    By the released protocol all images have a black border of PADDING pixels (data.py:30,38 of the ATAS code).
    """
    test = data.train if recipe.get("part") == "train" else data.test
    if recipe.get("protocol") != "released":
        return replace(data, test=test)
    return replace(data, train=padded(data.train), test=padded(test))


def padded(part: Part) -> Part:
    """The images with a black border."""
    height, width = part.size
    border = (PADDING, PADDING, PADDING, PADDING)
    return Part(pad(part.images, border), part.labels, (height + 2 * PADDING, width + 2 * PADDING))


def versions() -> dict[str, str]:
    """Of what attacks."""
    return {"fastat": __version__, "torch": torch.__version__, "pyautoattack": metadata.version("pyautoattack")}


def evaluate(
    spec: RunSpec,
    protocol: dict[str, Any],
    results: Path,
    device: torch.device,
    suite: str,
    epoch: str | None,
    door: Door,
    attacks: tuple[str, ...] = (),
    shard: int | None = None,
) -> None:
    """Attack the weights and look at their loss: whitebox, surfaces, steps and autoattack. A diverged run has no rows.

    protocol: `evaluation` of the config, and `numerics`. suite: `whitebox`, `autoattack`, `attacks` or `all`. epoch:
    whose weights, `last`, or `best` on held-out images; None: both, where images were held out. door: how a network
    that is not ours is built. attacks: more of them, by name, on the last epoch's weights. shard: this one alone, from
    1, of AutoAttack's; its images are kept for the evaluation that takes all shards together.
    """
    protocol = {**protocol, "numerics": numerics.settled(protocol["numerics"], device)}
    devices.set_precision("float32")
    run = Finished(spec, results, device, door)
    protocol = as_released(run.about["recipe"], protocol)
    held_out = bool(run.about["recipe"].get("hold_out"))
    if epoch == "best" and not held_out:
        raise BadInput(f"{spec.name} has no best epoch: its recipe holds no image out. Set `hold_out`, as 0.02")
    facts = catalog.required(spec.dataset)
    for name in attacks:
        check_attack(parse(name), spec.eps, facts.shape, facts.n_classes)
    if suite in ("autoattack", "all") or any(parse(name).parts for name in attacks):
        check_n_images(protocol["autoattack"], spec.dataset, run.n_attacked)
    if shard is not None:
        attack_shard(run, protocol, shard, epoch or "last")
        return
    with files.exclusive(run.folder / "state"):
        for one in (epoch,) if epoch else ("last", "best") if held_out else ("last",):
            if suite != "attacks":
                evaluate_epoch(run, protocol, suite, one)
        if suite in ("attacks", "all") and attacks and epoch != "best":
            evaluate_attacks(run, protocol, attacks)


def evaluate_epoch(run: Finished, protocol: dict[str, Any], suite: str, epoch: str) -> None:
    """`evaluate`, of the weights of one epoch."""
    prefix = PREFIX[epoch]
    if run.about["status"] == "diverged":
        for name in files_of(suite):
            if prefix + name in COLUMNS:
                run.write(prefix + name, [], protocol)
        return
    data, model = run.data(), run.network(WEIGHTS[epoch])
    if suite in ("whitebox", "all"):
        settings = whitebox.Protocol(run.spec.eps, **protocol_of("whitebox", protocol))
        run.write(f"{prefix}whitebox", whitebox.attack_all(model, data.test, settings), protocol, epoch)
        if epoch == "last":
            probe_last(run, model, data, protocol)
    if suite in ("autoattack", "all"):
        run.write(f"{prefix}autoattack", autoattacked(run, model, data, protocol, epoch), protocol, epoch)


def probe_last(run: Finished, model: nn.Module, data: ImageSet, protocol: dict[str, Any]) -> None:
    """The loss around images, and along single steps."""
    eps, seed = run.spec.eps, protocol["seed"]
    run.write("surfaces", probes.rounded(probes.last_surfaces(model, data.test, eps=eps, seed=seed)), protocol)
    run.write("steps", probes.rounded(probes.single_steps(model, data.train, eps=eps, seed=seed)), protocol)


def attack_shard(run: Finished, protocol: dict[str, Any], shard: int, epoch: str) -> None:
    """AutoAttack on one shard of the images, and a file that says it is done, and of what weights, data and protocol.

    Shards may be at work side by side.
    """
    n = protocol["autoattack"].get("shards", 1)
    if n == 1:
        raise BadInput(
            f"--shard {shard}: the protocol has no shards. Write `evaluation: {{autoattack: {{shards: 4}}}}`"
        )
    if shard > n:
        raise BadInput(f"--shard must be from 1 to {n}, as many as the protocol has, got {shard}")
    name = f"state/{PREFIX[epoch]}shard{shard}of{n}"
    with files.exclusive(run.folder / name):
        kept: Path | None = None
        if run.about["status"] != "diverged":
            data, model = run.data(), run.network(WEIGHTS[epoch])
            index = shares(protocol, data.test.labels)[shard - 1]
            attack_share(run, model, data, protocol, epoch, index)
            kept = kept_rows(run, protocol, epoch, index)
        about = run.made_from(kept, protocol_of("autoattack", protocol), protocol["numerics"], epoch)
        seals.write(run.folder / f"{name}.json", {**about, "kept": kept and kept.name})


def shares(protocol: dict[str, Any], labels: Tensor) -> tuple[Tensor, ...]:
    """The images that AutoAttack attacks, in as many equal shares as the protocol has shards."""
    aa, n_test = protocol["autoattack"], len(labels)
    every = subsets.stratified(labels, n_test if aa["n_images"] == "all" else aa["n_images"], seed=0)
    return every.tensor_split(aa.get("shards", 1))


def kept_rows(run: Finished, protocol: dict[str, Any], epoch: str, index: Tensor) -> Path:
    """Where AutoAttack's finished images of a share are kept, so that they are not attacked again."""
    made_from = [protocol["autoattack"], protocol["seed"], index.tolist(), run.weights[WEIGHTS[epoch]]]
    made_from += [run.about["data_sha256"], protocol["numerics"], packages()]
    return run.folder / f"state/autoattack-{fingerprint(*made_from, *run.of_checkpoint)}.csv"


def packages() -> dict[str, str]:
    """The versions that verdicts are made with, but ours."""
    return {key: version for key, version in versions().items() if key != "fastat"}


def attack_share(
    run: Finished, model: nn.Module, data: ImageSet, protocol: dict[str, Any], epoch: str, index: Tensor
) -> list[dict[str, Any]]:
    """AutoAttack's rows of one share, which is attacked as if there were no others: in its own batches."""
    return autoattack.standard(
        model, data.test.take, index, eps=run.spec.eps, batch_size=protocol["autoattack"]["batch_size"],
        seed=protocol["seed"], partial=kept_rows(run, protocol, epoch, index),
    )  # fmt: skip


def autoattacked(
    run: Finished, model: nn.Module, data: ImageSet, protocol: dict[str, Any], epoch: str
) -> list[dict[str, Any]]:
    """AutoAttack's rows of all shares, as if they were one."""
    every = shares(protocol, data.test.labels)
    found = [row for index in every for row in attack_share(run, model, data, protocol, epoch, index)]
    order = {attack: k for k, attack in enumerate(dict.fromkeys(row["attack"] for row in found))}
    return sorted(found, key=lambda row: order[row["attack"]]) if len(every) > 1 else found


def evaluate_attacks(run: Finished, protocol: dict[str, Any], attacks: tuple[str, ...]) -> None:
    """Rows of the attacks, and of others that eval/attacks.csv has. What was attacked is not attacked again."""
    by_name = protocols_of(attacks, protocol)
    if run.about["status"] == "diverged":
        run.write("attacks", [], {**protocol, "attacks": by_name}, made={})
        return
    found, made = attacked_before(run, protocol, by_name)
    if to_do := named.in_order(by_name.keys() - made.keys()):
        data, model = run.data(), run.network()
        for name in to_do:
            broken = named.broken_before(name, found)
            whole = [name, by_name[name], run.spec.eps_255, run.about["data_sha256"], run.weights[WEIGHTS["last"]]]
            whole += [protocol["numerics"], packages(), *run.of_checkpoint, *([broken] if parse(name).before else [])]
            partial = run.folder / f"state/attack-{fingerprint(*whole)}.csv"
            found += named.attack_all(
                model, data.test, name, eps=run.spec.eps, protocol=by_name[name], partial=partial, broken=broken
            )
            made[name] = by_name[name], versions()
    found.sort(key=lambda row: str(row["attack"]))
    said, by_whom = ({name: made[name][k] for name in sorted(made)} for k in (0, 1))
    run.write("attacks", found, {**protocol, "attacks": said}, made=by_whom)


Made = dict[str, tuple[Any, Any]]  # attack -> its protocol, and what its rows were made with


def attacked_before(
    run: Finished, protocol: dict[str, Any], by_name: dict[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], Made]:
    """The rows that are there, of these weights and data: of eval/attacks.csv, and AutoAttack's of eval/autoattack.csv.

    by_name: the attacks that are asked for. Left out are rows of these by another protocol, and what stands on them.
    """
    rows, about = written(run, "attacks", protocol["numerics"])
    said, made_with = about.get("protocol", {}).get("attacks", {}), about.get("made", {})
    replaced = {name for name in said.keys() & by_name.keys() if said[name] != by_name[name]}
    good = [name for name in said if name in made_with and is_name(name)]
    good = [name for name in good if not replaced & {str(one) for one in lineage(parse(name))}]
    found, made = [row for row in rows if row["attack"] in good], {name: (said[name], made_with[name]) for name in good}
    for name in by_name.keys() - made.keys():
        if parse(name).is_in_suites(run.spec.eps) and "shards" not in protocol["autoattack"]:
            rows, about = written(run, "autoattack", protocol["numerics"])
            if about.get("protocol") == protocol_of("autoattack", protocol):
                found, made[name] = found + named.last_words(rows, name), (by_name[name], about["versions"])
    return found, made


def written(run: Finished, name: str, wanted: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of eval/NAME.csv, of these weights and data, and what they were made from.

    wanted: numerics. What is damaged, or of others, is as if it were not there.
    """
    path = run.folder / f"eval/{name}.csv"
    expected = {"run": run.spec.name, "weights": run.weights.get(WEIGHTS["last"]), "data": run.about["data_sha256"]}
    expected |= {"made_from": run.about["made_from"]} if run.spec.method == EXTERNAL else {}
    if not path.exists() or not path.with_suffix(".json").exists():
        return [], {}
    try:
        about = seals.read(path.with_suffix(".json"))
        if {**expected, "numerics": wanted, "rows": seals.sha256(path)}.items() <= about.items():
            with open(path, encoding="utf-8", newline="") as file:
                numbers = ("index", "label", "correct")
                return [{**row, **{key: int(row[key]) for key in numbers}} for row in csv.DictReader(file)], about
    except (BadInput, KeyError, TypeError, ValueError) as error:
        log.warning("%s is damaged (%s): its attacks are made again", path, error)
    return [], {}


def probe(spec: RunSpec, results: Path, device: torch.device, wanted: str, door: Door) -> None:
    """Loss surfaces of D_1 and D_10 around the collapse, from kept snapshots (Fig. 2). A diverged run has no rows.

    wanted: numerics. door: how a network that is not ours is built.
    """
    devices.set_precision("float32")
    if spec.method == EXTERNAL:
        raise BadInput(f"{spec.name} was trained elsewhere: there are no epochs to look at")
    protocol = {"numerics": numerics.settled(wanted, device)}
    run = Finished(spec, results, device, door)
    if run.about["status"] == "diverged":
        run.write("surfaces_by_epoch", [], protocol)
        return
    data = run.data()
    tenth = subsets.ranks(spec, results, len(data.train), data.sha256).to(device)
    groups = {f"D{k}": torch.nonzero(tenth == k).flatten()[:128] for k in (1, 10)}
    rows: list[dict[str, Any]] = []
    for epoch in probes.around(run.collapse().first, run.about["epochs_done"]):
        model = run.network(f"snapshots/epoch{epoch:03d}.safetensors")
        rows += probes.surfaces(model, data.train, groups, eps=spec.eps, seed=0, epoch=epoch)
    run.write("surfaces_by_epoch", probes.rounded(rows), protocol)
