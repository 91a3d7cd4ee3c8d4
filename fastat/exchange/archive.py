"""A grid's evidence in one tar file, the same bytes each time, and its way back. Never torch.

The first member is manifest.json, which names every other one with size and sha256: what it does not name, or names
otherwise, is not read. Members are plain files; nothing is extracted that leaves the folder, is a link or a device.
"""

import gzip
import hashlib
import io
import json
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fastat import __version__
from fastat.config.grid import every_run, load_config
from fastat.config.spec import RunSpec
from fastat.errors import BadInput
from fastat.exchange import card, contents
from fastat.machine import seals
from fastat.machine.files import atomic
from fastat.machine.foreign import head, instead
from fastat.report import clean, verify
from fastat.report.verify import PACKED, Checked
from fastat.report.versus import counted

TOP, MANIFEST, README = "evidence", "manifest.json", "README.md"
ENDINGS = (".tar", ".tar.gz", ".tgz")
BESIDE_RUNS = ("config.json", "tables/cost.csv", "tables/cost.md")  # of results: what no report makes from runs
LARGEST_MANIFEST = 100_000_000  # bytes; 205 runs have 0.5 MB
DENSEST = 100  # times its own size, an archive may unpack to; ours: 5 to 15
AROUND = 4096  # bytes of tar, at most, around a member
BLOCK = 2**20
GZIP = b"\x1f\x8b"  # how a packed one begins
DAMAGED = (tarfile.TarError, zlib.error, EOFError, ValueError)  # what reading an archive raises, besides OSError
Content = Path | bytes


def write(results: Path, out: Path, config: dict[str, Any] | None, with_weights: bool) -> str:
    """Pack the runs that a config names; a line that says what is in the archive.

    config: None: results/config.json or, without one, all runs that are there.
    Raises: BadInput if a run is unfinished, unverified or damaged.
    """
    if not out.name.endswith(ENDINGS):
        raise BadInput(f"--out {out} must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    said, kept = config, results / "config.json"
    if config is None and kept.exists():
        config = load_config([kept])
    runs = whole_grid(results, config)
    members = packed(results, runs, with_weights)
    if config is not None:
        members["results/config.json"] = kept if said is None else json.dumps(said, indent=1).encode()
    members[README] = readme(runs, with_weights).encode()
    listed = {path: digest(members[path]) for path in sorted(members)}
    sums = "".join(f"{about['sha256']}  {path}\n" for path, about in listed.items())
    members[contents.SUMS] = sums.encode()
    listed[contents.SUMS] = digest(members[contents.SUMS])
    write_tar(out, {MANIFEST: manifest(runs, listed), **dict(sorted(members.items()))})
    size = clean.size(sum(about["bytes"] for about in listed.values()))
    return f"{out}: {counted(len(runs), 'run')}, {len(listed)} files, {size} in {clean.size(out.stat().st_size)}."


def whole_grid(results: Path, config: dict[str, Any] | None) -> list[Checked]:
    """The runs, every byte of which was read.

    Raises: BadInput for the first that `verify` has something to say against.
    """
    checker = verify.Checker(results, config, full=True)
    names = [spec.name for spec in every_run(config)] if config else verify.runs_below(results / "runs")[0]
    if not names:
        raise BadInput(f"{results / 'runs'} holds no run. Name another folder with --results.")
    runs = [contents.believed(name, checker) for name in sorted(names)]
    for run, wrong in verify.among_neighbours(runs):
        raise BadInput(f"only what `verify` finds whole is given to others: {run.name} {wrong.rule} ({wrong.found}).")
    return runs


def packed(results: Path, runs: list[Checked], with_weights: bool) -> dict[str, Content]:
    """Path in the archive -> what lies there: the evidence of the runs, and what else a report needs."""
    members: dict[str, Content] = {
        f"results/{file}": results / file for file in BESIDE_RUNS if (results / file).is_file()
    }
    for run in runs:
        spec, folder = RunSpec.parse(run.name), f"results/runs/{run.name}"
        along = contents.evidence(results, run, with_weights)
        if with_weights and (lost := [file for file in run.left_out if file.endswith(".safetensors")]):
            raise BadInput(f"{run.name} came without {', '.join(lost)}. Leave --weights out, or get them first.")
        members |= {f"{folder}/{file}": results / "runs" / run.name / file for file in along}
        about = contents.packed(spec, results, run, along)
        members[f"{folder}/{PACKED}"] = (json.dumps(about, indent=2) + "\n").encode()
    return members


def digest(content: Content) -> dict[str, Any]:
    """Size and sha256."""
    if isinstance(content, Path):
        return {"bytes": content.stat().st_size, "sha256": seals.sha256(content)}
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def manifest(runs: list[Checked], listed: dict[str, dict[str, Any]]) -> bytes:
    """The first member."""
    about = {"format": 1, "made_by": f"fastat {__version__}", "runs": [run.name for run in runs], "files": listed}
    return (json.dumps({**about, seals.SEAL: seals.seal(about)}, indent=1) + "\n").encode()


def readme(runs: list[Checked], with_weights: bool) -> str:
    """What the archive is, for who unpacks it."""
    specs = [RunSpec.parse(run.name) for run in runs]
    datasets = sorted({spec.dataset for spec in specs})
    commits = sorted({str(run.about["git_commit"]) for run in runs if run.about and run.about.get("git_commit")})
    methods = ", ".join(sorted({spec.method for spec in specs}))
    weights = "with the weights" if with_weights else "without the weights, whose sha256 each run.json has"
    return f"""# The evidence of {counted(len(runs), "run")}

Trained and attacked by fastat; {weights}. Data sets: {", ".join(datasets)}. Methods: {methods}.
Code: {", ".join(commits) or "unknown commits"}.

`sha256sum -c SHA256SUMS` checks the files. Each run in `results/runs` has its recipe and hashes (`run.json`), its log
and the verdict on every image under every attack (`eval`). Tables, claims, figures and page are made again from them,
without the data, with fastat {__version__}:

    python -m fastat import ARCHIVE --results results
    python -m fastat verify --all --results results
    python -m fastat report --configfile results/config.json

{chr(10).join(card.how_to_get(dataset) for dataset in datasets)}
"""


def write_tar(out: Path, members: dict[str, Content]) -> None:
    """Write the members in this order, with no time and no owner."""
    with atomic(out) as partial, open(partial, "wb") as file:
        if out.name.endswith(".tar"):
            add_all(file, members)
        else:
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as zipped:
                add_all(zipped, members)


def add_all(file: Any, members: dict[str, Content]) -> None:
    """The tar file itself."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in members.items():
            about = tarfile.TarInfo(f"{TOP}/{path}")
            about.size, about.mode = digest_size(content), 0o644
            with open(content, "rb") if isinstance(content, Path) else io.BytesIO(content) as source:
                tar.addfile(about, source)


def digest_size(content: Content) -> int:
    """In bytes."""
    return content.stat().st_size if isinstance(content, Path) else len(content)


# The way back


def unpack(path: Path, staging: Path) -> None:
    """Write what lies below results/ in an archive into the folder `staging`, every file as the manifest names it.

    Raises: BadInput if it is no archive of ours, damaged, too large, or holds what it should not.
    """
    beginning = head(path, "Name a folder or an archive that `export` wrote.")
    try:
        with opened(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
            listed = declared(tar, path)
            total = sum(about["bytes"] for about in listed.values())
            check_size(path, total, staging)
            stream.limit = stream.given + total + AROUND * (len(listed) + 8)
            seen = {extract(tar, member, listed, path, staging) for member in iterated(tar, path)}
    except DAMAGED as error:
        if isinstance(error, BadInput):
            raise
        what = str(error).rstrip(".") or type(error).__name__
        known = "" if beginning.startswith(GZIP) else instead(beginning)
        raise damaged(path, f"{what}.{known}".rstrip(".")) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise damaged(path, f"{error}") from error  # gzip's own
    if lost := sorted(listed.keys() - seen):
        raise damaged(path, f"it lacks {lost[0]}, which its manifest names")


class Bounded:
    """A stream of which no more than `limit` bytes are read: a few may unpack to any number."""

    def __init__(self, stream: IO[bytes], path: Path):
        self.stream, self.path = stream, path
        self.given, self.limit = 0, LARGEST_MANIFEST + AROUND * 8

    def read(self, n: int) -> bytes:
        """At most n bytes.

        Raises: BadInput beyond the limit.
        """
        found = self.stream.read(n)
        self.given += len(found)
        if self.given > self.limit:
            raise damaged(self.path, "it unpacks to more than its manifest says")
        return found


@contextmanager
def opened(path: Path) -> Iterator[Bounded]:
    """The archive's bytes, unpacked if they are packed."""
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP
    with gzip.open(path, "rb") if packed else open(path, "rb") as stream:
        yield Bounded(stream, path)  # type: ignore[arg-type]


def damaged(path: Path, what: str) -> BadInput:
    """To be raised."""
    return BadInput(f"{path} is no archive of `export --all`, or damaged: {what}. Ask for it again, or copy it again.")


def iterated(tar: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    """The members that are left, each a plain file that comes once."""
    names = set()
    while (member := tar.next()) is not None:
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
            raise damaged(path, f"{member.name[:100]!r} in it is no plain file")
        if member.name in names:
            raise damaged(path, f"{member.name[:100]!r} stands in it twice")
        names.add(member.name)
        yield member


def declared(tar: tarfile.TarFile, path: Path) -> dict[str, dict[str, Any]]:
    """The files that the manifest names: path -> {bytes, sha256}, each where such a file belongs.

    Raises: BadInput.
    """
    first = next(iterated(tar, path), None)
    source = tar.extractfile(first) if first is not None and first.name == f"{TOP}/{MANIFEST}" else None
    if first is None or source is None or first.size > LARGEST_MANIFEST:
        raise damaged(path, f"its first file is not {TOP}/{MANIFEST}")
    try:
        about = json.loads(source.read())
        listed, said = about["files"], about[seals.SEAL]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(path, f"its {MANIFEST} cannot be read") from error
    if said != seals.seal(about) or not isinstance(listed, dict):
        raise damaged(path, f"its {MANIFEST} is not what was written")
    if about.get("format") != 1:
        raise BadInput(f"{path} is of a later form ({about.get('format')!r:.20}): take a newer fastat.")
    for name, one in listed.items():
        contents.check_path(name, f"{path}: {MANIFEST}")
        size, sha256 = (one.get("bytes"), one.get("sha256")) if isinstance(one, dict) else (None, None)
        if type(size) is not int or size < 0 or not re.fullmatch("[0-9a-f]{64}", str(sha256)):
            raise damaged(path, f"its {MANIFEST} says no size or no sha256 of {name[:100]!r}")
        target(name, str(path))
    return listed


def target(name: str, where: str) -> str:
    """Where a file of an archive belongs below results; '' of what belongs nowhere there.

    Raises: BadInput for a file that no archive of ours has.
    """
    below = name.removeprefix("results/")
    if name in (README, contents.SUMS, MANIFEST):
        return ""
    if name != below and below in BESIDE_RUNS:
        return below
    top, *words = below.split("/")
    run, file = "/".join(words[:6]), "/".join(words[6:])
    if name != below and top == "runs" and contents.is_of_a_run(file) and RunSpec.parse(run).name == run:
        return below
    raise BadInput(f"{where} holds {name[:100]!r}, which no archive of `export` has: nothing is imported.")


def check_size(path: Path, total: int, staging: Path) -> None:
    """Raises: BadInput if the files are more than the archive can hold, or than there is room for."""
    size = path.stat().st_size
    if total > DENSEST * size:
        what = f"it has {clean.size(size)} and says that it unpacks to {clean.size(total)}, more than {DENSEST} times"
        raise damaged(path, what)
    if total > (free := shutil.disk_usage(staging).free):
        raise BadInput(f"{path} needs {clean.size(total)} where {clean.size(free)} are free. Name another --results.")


def extract(
    tar: tarfile.TarFile, member: tarfile.TarInfo, listed: dict[str, dict[str, Any]], path: Path, staging: Path
) -> str:
    """Read a member, and write it where it belongs; its path in the archive.

    Raises: BadInput if the manifest does not name it, or names another size or sha256.
    """
    name = member.name.removeprefix(f"{TOP}/")
    about, source = listed.get(name), tar.extractfile(member)
    if about is None or source is None or name == member.name:
        raise damaged(path, f"{member.name[:100]!r} in it is not in its manifest")
    if member.size != about["bytes"]:
        raise damaged(path, f"{name} has {member.size} bytes, its manifest says {about['bytes']}")
    below, found = target(name, str(path)), hashlib.sha256()
    out = staging / below if below else None
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "xb") if out is not None else io.BytesIO() as file:
        while block := source.read(BLOCK):
            found.update(block)
            if out is not None:
                file.write(block)
    if found.hexdigest() != about["sha256"]:
        raise damaged(path, f"{name} has another sha256 than its manifest says")
    return name
