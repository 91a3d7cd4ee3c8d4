"""Entry points of installed packages: read, not imported."""

import sys

import pytest

from fastat.config import plugins
from fastat.errors import BadInput


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A call that puts a package with entry points where Python finds installed ones: (its name, the lines)."""
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.entries.cache_clear()

    def put(package: str, *lines: str, group: str = "fastat.networks") -> None:
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        (tmp_path / f"{package}.py").write_text("raise RuntimeError('imported')\n")

    yield put
    plugins.entries.cache_clear()


def test_they_are_listed_by_group_and_not_imported(installed):
    installed("netspack", "small = netspack:small", "large = netspack.big:Net.build [extra]")
    installed("otherpack", "sgd = otherpack:sgd", group="fastat.methods")
    assert plugins.entries("fastat.networks") == {"large": "netspack.big:Net.build", "small": "netspack:small"}
    assert plugins.entries("fastat.methods") == {"sgd": "otherpack:sgd"}
    assert plugins.entries("fastat.nothing") == {}
    assert not {"netspack", "otherpack"} & sys.modules.keys()


@pytest.mark.parametrize(
    "first,second,message",
    [
        ("Small = onepack:small", "a = twopack:a", "'Small' of onepack in fastat.networks: a name must be of a-z"),
        ("a = onepack:a", "a = twopack:a", "two packages offer 'a' in fastat.networks: onepack:a and twopack:a"),
    ],
)
def test_names_that_cannot_be_used_are_refused(installed, first, second, message):
    installed("onepack", first)
    installed("twopack", second)
    with pytest.raises(BadInput, match=message):
        plugins.entries("fastat.networks")
