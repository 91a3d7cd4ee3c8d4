"""A sealed file is what was written, or it is refused."""

import pytest

from fastat.errors import BadInput
from fastat.machine import seals


def test_a_sealed_file_is_read_as_it_was_written(tmp_path):
    about = {"b": [1, 2.5, None, float("inf")], "a": {"10": "ä", "9": (1, 2)}}
    seals.write(tmp_path / "x.json", about)
    found = seals.read(tmp_path / "x.json")
    assert found.pop("seal") == seals.seal(about) == seals.seal(found)
    assert found == {**about, "a": {"10": "ä", "9": [1, 2]}}
    (tmp_path / "x.json").write_text((tmp_path / "x.json").read_text().replace("2.5", "2.6"))
    with pytest.raises(BadInput, match="x.json is not what was written"):
        seals.read(tmp_path / "x.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_what_is_no_json_object_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BadInput, match="x.json"):
        seals.read(tmp_path / "x.json")
    with pytest.raises(BadInput, match="nothing.json cannot be read"):
        seals.read(tmp_path / "nothing.json")


def test_numbers_as_keys_do_not_break_the_seal(tmp_path):
    seals.write(tmp_path / "x.json", {"by_eps": {9: 1, 10: 2}})
    assert seals.read(tmp_path / "x.json")["by_eps"] == {"9": 1, "10": 2}


def test_a_table_that_was_changed_since_it_was_written_is_refused_and_one_that_nobody_kept_is_not(tmp_path):
    table, other = tmp_path / "measured.csv", tmp_path / "mine.csv"
    with seals.written(tmp_path, "tidy", ("measured.csv", "absent.csv")):
        table.write_text("value\n1\n")
        seals.check(table)  # while it is written nobody knows
    other.write_text("value\n1\n")
    seals.check(table)
    seals.check(other)
    table.write_text("value\n7\n")
    with pytest.raises(
        BadInput, match="measured.csv is not what `tidy` wrote: make it again by `python -m fastat tidy`"
    ):
        seals.check(table)
    with pytest.raises(KeyboardInterrupt), seals.written(tmp_path, "tidy", ("measured.csv",)):
        raise KeyboardInterrupt
    seals.check(table)
