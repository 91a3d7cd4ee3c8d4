"""Tables, page and figures are the same whatever the locale, the backend and matplotlib's own settings are."""

import os
import subprocess
import sys
from pathlib import Path

from fastat import ROOT
from tests import fabricate


def report(folder: Path, **environment: str) -> dict[str, bytes]:
    """Every file that judge, draw and page make in this environment, from made-up results."""
    results, who = folder / "results", fabricate.runs(12, 2)
    fabricate.write(results, who)
    fabricate.correct(who).to_csv(results / "correct.csv", index=False)
    own = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    for call in (["figure-data"], ["judge"], ["draw", "--only", "curves", "fig08"], ["page"]):
        done = subprocess.run([sys.executable, "-m", "fastat", *call], cwd=folder, env=own, capture_output=True)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
    made = [
        path for path in folder.rglob("*") if path.is_file() and path.suffix in (".md", ".tex", ".csv", ".svg", ".html")
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in made}


def test_the_report_does_not_depend_on_its_surroundings(tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/matplotlibrc").write_text("font.size: 30\nsavefig.dpi: 20\naxes.facecolor: black\n")
    odd = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "MPLBACKEND": "module://nobody.has.this"}
    plain, other = report(tmp_path / "plain"), report(tmp_path / "odd", **odd)
    assert plain.keys() == other.keys() and len(plain) > 40
    assert [name for name, content in plain.items() if content != other[name]] == []
    assert "±".encode() in plain["results/tables/table2.md"]
