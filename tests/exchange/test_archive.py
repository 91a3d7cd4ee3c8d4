"""A grid's evidence as one archive: the report is made again from it, and nothing else can come out of one."""

import errno
import gzip
import hashlib
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastat import ROOT
from fastat.cli import main
from fastat.errors import BadInput
from fastat.exchange import archive, arrival
from fastat.machine import files, seals
from fastat.networks import models  # noqa: F401 (torch's own allocations come before any is measured)
from tests import fabricate
from tests.exchange.conftest import RUN, diverge, with_network
from tests.exchange.test_folder import contents

OTHER = RUN.replace("atas", "atta")
SECOND = RUN.replace("seed0", "seed1")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with the results of three runs, two methods, and a cost table, and the archive of it."""
    home = tmp_path_factory.mktemp("made")
    for k, name in enumerate((RUN, SECOND, OTHER)):
        with_network(home / "results", name, seed=k)
    (home / "results/tables").mkdir()
    cost = "method,forward,seconds,against_clean\natas,2,0.5,2.0\natta,2,0.5,2.0\n"
    (home / "results/tables/cost.csv").write_text(cost)
    (home / "results/tables/cost.md").write_text("| method |\n")
    with pytest.MonkeyPatch.context() as here:
        here.chdir(home)
        assert pack(home / "grid.tar.gz") == 0
    return home


@pytest.fixture
def grid(made, tmp_path, monkeypatch) -> Path:
    """A copy of that folder, as the current one."""
    shutil.copytree(made / "results", tmp_path / "home/results")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def pack(out: Path, *more: str) -> int:
    return main(["export", "--all", "--results", "results", "--out", str(out), *more])


def take_in(path: Path, results: Path) -> int:
    return main(["import", str(path), "--results", str(results)])


@pytest.fixture
def packed(made, tmp_path) -> Path:
    """The archive of it, without weights."""
    return Path(shutil.copy(made / "grid.tar.gz", tmp_path))


def reported(folder: Path) -> dict[str, bytes]:
    """What tidy, judge and page make of the results in a folder, from there."""
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        for verb in (["tidy", "--out", "results"], ["figure-data"], ["judge"], ["page", "--figures", "none"]):
            assert main(verb) == 0
    made = contents(folder / "results")
    return {path: content for path, content in made.items() if not path.startswith(("runs/", "data/", ".hashes"))}


# There and back


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")  # made-up norms that are all equal
def test_the_same_grid_gives_the_same_bytes_and_the_report_is_made_again_from_them(grid, packed, tmp_path, capsys):
    assert pack(tmp_path / "again.tar.gz") == 0 and pack(tmp_path / "plain.tar") == 0
    assert packed.read_bytes() == (tmp_path / "again.tar.gz").read_bytes()
    assert gzip.decompress(packed.read_bytes()) == (tmp_path / "plain.tar").read_bytes()
    capsys.readouterr()
    there = tmp_path / "there"
    assert take_in(packed, there / "results") == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        f"{name}: is now in {there / 'results'}" for name in (RUN, SECOND, OTHER)
    ]
    assert main(["verify", "--all", "--results", str(there / "results")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert all(
        line.endswith("ok; not here, but whole when it was packed: its data, weights.safetensors") for line in said
    )
    ours = reported(grid)
    assert reported(there) == ours
    assert {"measured.csv", "correct.csv", "evidence.jsonl", "problems.csv", "claims.csv", "verdicts.csv", "pairs.csv",
            "sanity.csv", "tables/table1.tex", "tables/supplement.csv", "report/index.html"} <= ours.keys()  # fmt: skip
    assert take_in(packed, there / "results") == 0
    assert "is there already" in capsys.readouterr().out


def test_the_weights_come_on_request_and_later_too(grid, packed, tmp_path, capsys):
    assert pack(tmp_path / "whole.tar.gz", "--weights") == 0
    there = tmp_path / "there"
    assert take_in(packed, there) == 0 and take_in(tmp_path / "whole.tar.gz", there) == 0
    assert f"{RUN}: is there already, and got weights.safetensors" in capsys.readouterr().out
    shutil.copytree(grid / "results/data", there / "data")
    assert main(["verify", "--all", "--results", str(there)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: ok" for name in (RUN, SECOND, OTHER)]
    come = {path: content for path, content in contents(there / "runs").items() if not path.endswith("packed.json")}
    assert come == contents(grid / "results/runs")


def test_an_archive_made_of_an_imported_one_is_the_same_and_has_no_weights_to_give(
    grid, packed, tmp_path, monkeypatch, capsys
):
    there = tmp_path / "there"
    assert take_in(packed, there / "results") == 0
    monkeypatch.chdir(there)
    assert pack(tmp_path / "again.tar.gz") == 0
    assert (tmp_path / "again.tar.gz").read_bytes() == packed.read_bytes()
    assert pack(tmp_path / "whole.tar.gz", "--weights") == 2
    assert "came without weights.safetensors" in capsys.readouterr().err


def test_tar_and_sha256sum_read_it_and_the_unpacked_folder_is_imported_too(packed, tmp_path):
    subprocess.run(["tar", "xzf", packed, "-C", tmp_path], check=True)
    subprocess.run(["sha256sum", "-c", "--quiet", "--strict", "SHA256SUMS"], cwd=tmp_path / "evidence", check=True)
    assert take_in(tmp_path / "evidence", tmp_path / "one") == 0 and take_in(packed, tmp_path / "two") == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    text = (tmp_path / "evidence/README.md").read_text()
    assert "3 runs" in text and "atas, atta" in text and "without the weights" in text
    with tarfile.open(packed) as tar:
        assert {(one.mtime, one.uid, one.gid, one.uname, one.mode) for one in tar} == {(0, 0, 0, "", 0o644)}


def test_the_config_of_the_results_says_which_runs(grid, tmp_path, capsys):
    named = {
        "grid": [{"dataset": "digits", "model": "preact_tiny", "eps": "77/255", "method": "atas", "seed": [0, 1, 2]}]
    }
    (grid / "results/config.json").write_text(json.dumps(named))
    assert pack(tmp_path / "grid.tar") == 2  # of other recipes than the config's, and one was never trained
    assert "only what `verify` finds whole" in capsys.readouterr().err and not (tmp_path / "grid.tar").exists()


def test_a_run_that_verify_does_not_believe_keeps_all_from_being_packed(grid, tmp_path, capsys):
    path = grid / "results/runs" / SECOND / "eval/steps.csv"
    path.write_text(path.read_text() + "carried,1,1,1,500\n")
    assert pack(tmp_path / "grid.tar") == 2
    assert f"{SECOND}/eval/steps.csv was not made from this run's rows" in capsys.readouterr().err
    (
        shutil.rmtree(grid / "results/runs" / SECOND),
        shutil.copytree(grid / "results/runs" / RUN, grid / "results/runs" / SECOND),
    )
    path = grid / "results/runs" / SECOND / "run.json"
    assert pack(tmp_path / "grid.tar") == 2
    assert "is of another run" in capsys.readouterr().err
    assert pack(tmp_path / "grid.zip") == 2
    assert "must end in .tar, .tar.gz or .tgz" in capsys.readouterr().err
    assert main(["export", "--all", "--results", str(tmp_path / "nowhere"), "--out", "x.tar"]) == 2
    assert not list(tmp_path.glob("*.tar"))


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")  # made-up norms that are all equal
def test_a_diverged_run_is_packed_and_comes_back(grid, tmp_path, capsys):
    diverge(grid / "results/runs" / OTHER)
    assert pack(tmp_path / "grid.tar") == 0 and take_in(tmp_path / "grid.tar", tmp_path / "there/results") == 0
    assert reported(tmp_path / "there") == reported(grid)


def test_a_grid_of_another_config_keeps_its_own(grid, packed, tmp_path, capsys):
    there = tmp_path / "there"
    fabricate.finished(there, OTHER)
    before = contents(there)
    assert take_in(packed, there) == 2
    assert "another run has that name. Nothing was imported" in capsys.readouterr().err
    assert contents(there) == before
    shutil.rmtree(there / "runs")
    (there / "tables").mkdir()
    (there / "tables/cost.csv").write_text("mine")
    assert take_in(packed, there) == 2
    assert "it is of another grid. Nothing was imported" in capsys.readouterr().err and not (there / "runs").exists()


def test_neither_way_needs_torch(grid, packed, tmp_path):
    code = "import sys; from fastat.cli import main; sys.exit(main(sys.argv[1:]) or 'torch' in sys.modules)"
    for words in (["export", "--all", "--out", str(tmp_path / "again.tgz")],
                  ["import", str(packed), "--results", str(tmp_path / "there")],
                  ["verify", "--all", "--results", str(tmp_path / "there")]):  # fmt: skip
        subprocess.run([sys.executable, "-c", code, *words], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert (tmp_path / "again.tgz").read_bytes() == packed.read_bytes()


def test_a_checkpoint_that_was_attacked_on_training_images_comes_to_where_its_data_are(tmp_path, monkeypatch, capsys):
    name, home = "digits/preact_tiny/eps77/external/theirs_train/seed0", tmp_path / "home"
    monkeypatch.setattr(fabricate, "N_TEST", 30)  # as many as there are training images
    folder = with_network(home / "results", name, part="train")
    fabricate.as_checkpoint(folder)
    monkeypatch.chdir(home)
    assert pack(tmp_path / "grid.tar") == 0
    shutil.copytree(home / "results/data", tmp_path / "there/data")
    assert take_in(tmp_path / "grid.tar", tmp_path / "there") == 0, capsys.readouterr().err
    assert main(["verify", "--all", "--results", str(tmp_path / "there")]) == 0
    assert f"{name}: is now in" in capsys.readouterr().out


def test_a_variant_whose_name_begins_with_seed_comes_back(tmp_path, monkeypatch, capsys):
    name, home = "digits/seed1/eps77/atas/seeded/seed0", tmp_path / "home"
    fabricate.finished(home / "results", name)
    monkeypatch.chdir(home)
    assert pack(tmp_path / "grid.tar") == 0
    assert take_in(tmp_path / "grid.tar", tmp_path / "there") == 0, capsys.readouterr().err
    assert f"{name}: is now in" in capsys.readouterr().out


def test_runs_on_another_disk_are_copied_there(packed, tmp_path, monkeypatch):
    replace, there = Path.replace, tmp_path / "there"

    def between_disks(self, target):
        if "runs" in Path(target).parts and "runs" in self.parts:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(self))
        return replace(self, target)

    assert take_in(packed, tmp_path / "here") == 0
    monkeypatch.setattr(Path, "replace", between_disks)
    assert take_in(packed, there) == 0
    assert contents(there) == contents(tmp_path / "here")


def test_an_import_that_a_run_at_work_refuses_leaves_nothing(grid, packed, tmp_path, capsys):
    there = tmp_path / "there"
    (there / "runs" / SECOND / "state").mkdir(parents=True)
    with files.exclusive(there / "runs" / SECOND / "state"):
        assert take_in(packed, there) == 2
    assert "another process is working on" in capsys.readouterr().err
    assert [path for path in there.rglob("*") if path.is_file()] == [there / "runs" / SECOND / "state/lock"]
    assert take_in(packed, there) == 0


def test_more_runs_may_be_held_than_a_process_may_open_at_first(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        arrival.allow_open(150)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 200
        arrival.allow_open(400 + arrival.BESIDES)
        with ExitStack() as held:
            for k in range(400):
                held.enter_context(files.exclusive(tmp_path / str(k)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_limit_of_open_files_is_named_where_it_cannot_be_raised(monkeypatch):
    def refused(*_):
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    monkeypatch.setattr(resource, "setrlimit", refused)
    with pytest.raises(BadInput, match="2000 files .* `ulimit -Hn` is 1024. Nothing was imported."):
        arrival.allow_open(2000)


def test_what_a_killed_import_left_goes_with_the_next(packed, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    there = tmp_path / "there"
    left, others = (there / f".import.{host}.{dead.pid}.part/runs/x" for host in (files.HOST, "another-host"))
    left.mkdir(parents=True), others.mkdir(parents=True)
    assert take_in(packed, there) == 0
    assert not left.exists() and others.exists()


# What may not come out of one


def members(path: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Of an archive of ours."""
    with tarfile.open(path) as tar:
        return [(one, tar.extractfile(one).read()) for one in tar]


def written(path: Path, content: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """A tar file of these members."""
    with tarfile.open(path, "w") as tar:
        for member, text in content:
            tar.addfile(member, io.BytesIO(text))
    return path


def relisted(content, change) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The same behind a manifest that `change` has altered, sealed as if it were ours."""
    about = json.loads(content[0][1])
    change(about)
    about.pop("seal")
    text = json.dumps({**about, "seal": seals.seal(about)}).encode()
    content[0][0].size = len(text)
    return [(content[0][0], text), *content[1:]]


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 4) -> tuple[tarfile.TarInfo, bytes]:
    """A member of any name and kind."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size if kind == tarfile.REGTYPE else 0
    return member, b"mine" if kind == tarfile.REGTYPE else b""


LOG = f"evidence/results/runs/{RUN}/log.csv"
EXTRA = {
    "up": named("evidence/results/../../../secret"),
    "absolute": named("/tmp/fastat-secret"),
    "beside": named("secret"),
    "unnamed": named("evidence/results/runs/evil.sh"),
    "a link": named("evidence/results/runs/x", tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": named("evidence/results/runs/x", tarfile.LNKTYPE, LOG),
    "a device": named("evidence/results/runs/x", tarfile.CHRTYPE),
    "a block device": named("evidence/results/runs/x", tarfile.BLKTYPE),
    "a pipe": named("evidence/results/runs/x", tarfile.FIFOTYPE),
    "a folder": named("evidence/results/runs/x", tarfile.DIRTYPE),
    "a link in a file's place": named(LOG, tarfile.SYMTYPE, "/etc/passwd"),
    "a file twice": named(LOG),
    "an empty name": named("evidence/"),
}  # fmt: skip


def refused(path: Path, tmp_path: Path, capsys) -> str:
    """What is said of an archive that is not imported, of which nothing is left."""
    there = tmp_path / "there"
    assert take_in(path, there) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and said.count("\n") == 1
    assert not there.exists() and not Path("/tmp/fastat-secret").exists()
    return said


@pytest.mark.parametrize("what", EXTRA)
@pytest.mark.parametrize("where", [1, -1])
def test_a_member_that_the_manifest_does_not_name_is_refused(packed, tmp_path, what, where, capsys):
    content = members(packed)
    content.insert(len(content) if where < 0 else where, EXTRA[what])
    said = refused(written(tmp_path / "evil.tar", content), tmp_path, capsys)
    assert "is no archive of `export --all`, or damaged" in said
    assert not (tmp_path / "secret").exists()


@pytest.mark.parametrize(
    "name,said",
    [
        ("results/../../secret", "leads out of its folder"),
        ("/etc/passwd", "leads out of its folder"),
        ("results/runs/x", "which no archive of `export` has"),
        ("results/.bashrc", "which no archive of `export` has"),
        ("results/data/digits.safetensors", "which no archive of `export` has"),
        (f"results/runs/{RUN}/state/lock", "which no archive of `export` has"),
        (f"results/runs/{RUN.replace('seed0', 'seed007')}/log.csv", "a run is named"),
        (f"runs/{RUN}/log.csv", "which no archive of `export` has"),
        (f"results/runs/{RUN}/eval/../../x.csv", "leads out of its folder"),
        ("other.txt", "which no archive of `export` has"),
    ],
)
def test_a_manifest_cannot_name_what_no_archive_has(packed, tmp_path, name, said, capsys):
    def change(about):
        about["files"][name] = {"bytes": 4, "sha256": "0" * 64}

    content = [*relisted(members(packed), change), named(f"evidence/{name}")]
    assert said in refused(written(tmp_path / "evil.tar", content), tmp_path, capsys)


@pytest.mark.parametrize(
    "file,said",
    [
        ("eval/best_whitebox.csv", "nothing in it proves"),
        ("other.csv", "nothing in it proves"),
        ("best.safetensors", "nothing in it proves"),
        (None, "nothing in it proves"),
    ],
)
def test_a_file_that_no_run_names_is_not_imported(packed, tmp_path, file, said, capsys):
    """Also of a run without its run.json, which may be there already and lack an evaluation."""
    name = f"results/runs/{RUN}/{file}" if file else f"results/runs/{RUN.replace('seed0', 'seed5')}/eval/whitebox.csv"

    def change(about):
        about["files"][name] = {"bytes": 4, "sha256": hashlib.sha256(b"mine").hexdigest()}

    content = [*relisted(members(packed), change), named(f"evidence/{name}")]
    assert said in refused(written(tmp_path / "evil.tar", content), tmp_path, capsys)


def test_an_archive_without_its_word_on_what_it_left_out_is_refused(packed, tmp_path, capsys):
    lost = f"results/runs/{RUN}/packed.json"
    content = relisted(members(packed), lambda about: about["files"].pop(lost))
    content = [one for one in content if one[0].name != f"evidence/{lost}"]
    said = refused(written(tmp_path / "evil.tar", content), tmp_path, capsys)
    assert "is unverified: its data are not there; weights.safetensors is not there" in said


def log(about):
    return about["files"][LOG.removeprefix("evidence/")]


@pytest.mark.parametrize(
    "change,said",
    [
        (lambda about: log(about).update(bytes=5), "bytes, its manifest says 5"),
        (lambda about: log(about).update(sha256="0" * 64), "has another sha256 than its manifest says"),
        (lambda about: log(about).update(bytes=-1), "no size or no sha256"),
        (lambda about: log(about).update(bytes=1.5), "no size or no sha256"),
        (lambda about: log(about).update(bytes=True), "no size or no sha256"),
        (lambda about: log(about).update(bytes=10**15), "more than 100 times"),
        (lambda about: log(about).update(sha256=None), "no size or no sha256"),
        (lambda about: about["files"].update({LOG[9:]: "x"}), "no size or no sha256"),
        (lambda about: about.update(files=[]), "is not what was written"),
        (lambda about: about.update(format=2), "take a newer fastat"),
        (lambda about: about.update(files={}), "is not in its manifest"),
        (lambda about: about["files"].pop(LOG.removeprefix("evidence/")), "is not in its manifest"),
    ],
)
def test_a_manifest_that_says_otherwise_is_refused(packed, tmp_path, change, said, capsys):
    content = relisted(members(packed), change)
    assert said in refused(written(tmp_path / "evil.tar", content), tmp_path, capsys)


def test_a_manifest_that_is_none_is_refused(packed, tmp_path, capsys):
    content = members(packed)
    for text in (
        b"",
        b"[]",
        b"{",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"files": {}}',
        content[0][1].replace(b'"bytes"', b'"bites"'),
    ):
        member = tarfile.TarInfo("evidence/manifest.json")
        member.size = len(text)
        said = refused(written(tmp_path / "evil.tar", [(member, text), *content[1:]]), tmp_path, capsys)
        assert "manifest" in said
    for order in (content[1:], content[1:] + content[:1], []):
        said = refused(written(tmp_path / "evil.tar", order), tmp_path, capsys)
        assert "its first file is not evidence/manifest.json" in said


def with_config(packed: Path, text: bytes) -> Path:
    """The same archive with a results/config.json."""

    def change(about):
        about["files"]["results/config.json"] = {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}

    member = tarfile.TarInfo("evidence/results/config.json")
    member.size = len(text)
    return written(packed.with_name("configured.tar"), [*relisted(members(packed), change), (member, text)])


GRID = {"dataset": "digits", "model": "preact_tiny", "eps": "77/255", "method": ["atas", "atta"], "seed": [0, 1]}


@pytest.mark.parametrize(
    "text,said",
    [
        (b"[1]", "is no config that can be taken: config.json must hold `key: value` lines"),
        (b"\xff\xfe{", "is no config that can be taken"),
        (b'{"grid": 5}', "is no config that can be taken"),
        (b'{"models": {"x": 1}}', "is no config that can be taken"),
        (json.dumps({"grid": [{**GRID, "seed": [0]}], "extra_grid": []}).encode(), f"does not name {SECOND}"),
    ],
)
def test_a_config_that_later_verbs_could_not_take_is_refused(packed, tmp_path, text, said, capsys):
    assert said in refused(with_config(packed, text), tmp_path, capsys)


def test_the_code_that_a_config_names_is_said_when_it_comes(packed, tmp_path, capsys):
    doors = {"x": {"factory": "evil.nets:Linear"}, "y": {"timm": "resnet18"}}
    datasets = {"mine": {"reader": "wicked:read"}}
    text = json.dumps({"grid": [GRID], "extra_grid": [], "models": doors, "datasets": datasets}).encode()
    there = tmp_path / "there"
    assert take_in(with_config(packed, text), there) == 0
    assert f"{there / 'config.json'} names code that `check`, `evaluate` and others import: evil.nets, wicked" in (
        capsys.readouterr().out
    )
    assert (there / "config.json").read_bytes() == text
    plain = json.dumps({"grid": [GRID], "extra_grid": []}).encode()
    assert take_in(with_config(packed, plain), tmp_path / "other") == 0
    assert "names code" not in capsys.readouterr().out


def test_what_a_few_bytes_unpack_to_is_bounded(packed, tmp_path, monkeypatch, capsys):
    """A bomb in each place where a tar file has bytes: none is written, and none fills the memory."""
    monkeypatch.setattr(archive, "LARGEST_MANIFEST", 10_000_000)
    content, n = members(packed), 200_000_000

    def bomb(before, header: bytes) -> Path:
        path = written(tmp_path / "small.tar", before)
        with open(path, "rb") as file, gzip.open(tmp_path / "bomb.tar.gz", "wb", 9) as out:
            text = file.read()
            out.write(text[: len(text.rstrip(b"\0")) // 512 * 512 + 512] if before else b"")
            out.write(header)
            for _ in range(n // 1_000_000):
                out.write(bytes(1_000_000))
        return tmp_path / "bomb.tar.gz"

    def header(name: str, kind: bytes) -> bytes:
        member = tarfile.TarInfo(name)
        member.type, member.size = kind, n
        return member.tobuf(tarfile.GNU_FORMAT)

    for before, name, kind in (
        ([], "evidence/manifest.json", tarfile.REGTYPE),
        ([], "x", tarfile.XHDTYPE),
        ([], "x", tarfile.GNUTYPE_LONGNAME),
        (content[:1], LOG, tarfile.REGTYPE),
        (content[:1], "x", tarfile.XHDTYPE),
        (content, "evidence/more", tarfile.REGTYPE),
        (content, "x", tarfile.XGLTYPE),
    ):
        path = bomb(before, header(name, kind))
        assert path.stat().st_size < 1_000_000
        tracemalloc.start()
        refused(path, tmp_path, capsys)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000, (name, kind)
        tracemalloc.stop()


def test_more_than_the_disk_has_room_for_is_said_first(packed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    assert "where 10 B are free" in refused(packed, tmp_path, capsys)


def test_an_archive_with_flipped_or_lost_bytes_is_refused_or_the_same(packed, tmp_path, capsys):
    rng, whole = random.Random(0), packed.read_bytes()
    plain = tmp_path / "plain.tar"
    plain.write_bytes(gzip.decompress(whole))
    assert take_in(packed, tmp_path / "good") == 0
    good = contents(tmp_path / "good")
    for path in (packed, plain):
        text = path.read_bytes()
        for k in range(40):
            at = rng.randrange(len(text))
            bad = text[:at] if k % 4 == 0 else text[:at] + bytes([text[at] ^ 1 << rng.randrange(8)]) + text[at + 1 :]
            (tmp_path / "bad").write_bytes(bad)
            capsys.readouterr()
            if take_in(tmp_path / "bad", tmp_path / "there") == 0:  # in a time or an owner, or in zeros at the end
                assert contents(tmp_path / "there") == good
                shutil.rmtree(tmp_path / "there")
            else:
                said = capsys.readouterr().err
                assert "Traceback" not in said and not (tmp_path / "there").exists()


def test_what_is_no_archive_is_called_what_it_is(tmp_path, capsys):
    for text, said in (
        (b"", "It is empty"), (b"<!doctype html><html>", "a web page"), (b"PK\x03\x04" + bytes(600), "a zip archive"),
        (b"\x1f\x8b" + bytes(600), "damaged"), (b"version https://git-lfs.github.com/spec/v1\n", "Git-LFS"),
        (bytes(10240), "first file is not"),
    ):  # fmt: skip
        (tmp_path / "some.tar.gz").write_bytes(text)
        assert said in refused(tmp_path / "some.tar.gz", tmp_path, capsys)
