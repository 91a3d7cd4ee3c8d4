"""What the integration says of known holes: .ci/audit, with stand-ins for pip-audit that end as it does."""

import os
import shutil
import subprocess

import pytest

from fastat import ROOT

WRITES = 'while [ "$1" != --output ]; do shift; done; echo "torch 2.14.1 PYSEC-2026-1" > "$2"; exit 1'


@pytest.mark.parametrize(
    "does,code,said",
    [
        ("exit 0", 0, "audit: no known holes"),
        (WRITES, 1, "audit: known holes\ntorch 2.14.1 PYSEC-2026-1"),
        ("echo 'ERROR: Failed to reach pypi.org' >&2; exit 1", 0, "audit: NOT DONE: "),
        (None, 0, "audit: NOT DONE: "),
    ],
)
def test_a_hole_fails_and_an_audit_that_could_not_be_done_is_said(does, code, said, tmp_path):
    for tool in ("bash", "sh", "dirname", "mktemp", "make", "grep", "tail", "cat", "rm"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    if does is not None:
        (tmp_path / "pip-audit").write_text(f"#!{shutil.which('sh')}\n{does}\n")
        (tmp_path / "pip-audit").chmod(0o755)
    done = subprocess.run(
        [ROOT / ".ci/audit"], env=os.environ | {"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == code and done.stdout.startswith(said), done
