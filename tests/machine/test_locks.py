"""Locks of others are seen, and not taken."""

import pytest

from fastat.machine import files, locks


@pytest.mark.skipif(not locks.seen(), reason="this system lists no locks")
def test_a_held_folder_is_seen_and_a_free_one_is_not(tmp_path):
    with files.exclusive(tmp_path / "a"), files.exclusive(tmp_path / "b"):
        pass
    with files.exclusive(tmp_path / "a"):
        seen = locks.seen()
        assert locks.is_held((tmp_path / "a/lock").stat(), seen)
        assert not locks.is_held((tmp_path / "b/lock").stat(), seen)
    assert not locks.is_held((tmp_path / "a/lock").stat(), locks.seen())


def test_waiting_locks_and_other_kinds_are_read_from_the_systems_list(tmp_path):
    listing = tmp_path / "locks"
    listing.write_text(
        "1: FLOCK  ADVISORY  WRITE 17102 fe:00:3418254 0 EOF\n"
        "1: -> FLOCK  ADVISORY  WRITE 17103 fe:00:3418254 0 EOF\n"
        "2: POSIX  ADVISORY  READ  -1 00:2d:9001 1073741826 1073742335\n"
    )
    assert locks.seen(listing) == {(0xFE, 3418254), (0, 9001)}
    assert locks.seen(tmp_path / "none") == set()
