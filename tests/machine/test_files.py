"""Files that are whole or absent, and as open as their owner wants."""

import os
import stat

import pytest
import torch
from safetensors.torch import save_file

from fastat.machine import files


@pytest.mark.parametrize("mask,mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_what_is_written_follows_the_umask_also_what_safetensors_writes(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        with files.atomic(tmp_path / "weights.safetensors") as partial:
            save_file({"x": torch.zeros(1)}, partial)
        files.write_json(tmp_path / "run.json", {})
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == mode, path.name


def test_a_block_that_fails_leaves_the_old_file_and_no_part(tmp_path):
    files.write_json(tmp_path / "run.json", {"whole": True})
    with pytest.raises(RuntimeError), files.atomic(tmp_path / "run.json") as partial:
        partial.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert "true" in (tmp_path / "run.json").read_text()
