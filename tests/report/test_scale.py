"""Tables, verdicts, claims, pairs and the sanity panel stay linear in the number of runs. Rows are made up."""

import time

from fastat.report import claims, pairs, sanity, tables, verdicts
from fastat.report.results import of_rows
from tests import fabricate

EPS = {"digits": "8/255", "fashion": "8/255"}


def judged(n_cells, folder) -> dict[str, float]:
    """Processor seconds of each part, on n cells of two seeds: the least of two."""
    who = fabricate.runs(n_cells, 2)
    measured, correct = fabricate.measured(who, epochs=10), fabricate.correct(who, n=64)
    found = of_rows(measured, correct)
    parts = {
        "rows": lambda: of_rows(measured, correct),
        "tables": lambda: tables.write_all(found, EPS, folder),
        "sanity": lambda: sanity.write_csv(found, folder / "sanity.csv"),
        "pairs": lambda: pairs.write_csv(found, folder / "pairs.csv"),
        "claims": lambda: claims.write_report(found, folder, folder / "claims.csv"),
        "verdicts": lambda: verdicts.write_report(found, folder / "verdicts.csv", folder / "reproduction.md"),
    }
    taken = {}
    for name, part in parts.items():
        times = []
        for _ in range(2):
            started = time.process_time()
            part()
            times.append(time.process_time() - started)
        taken[name] = min(times)
    return taken


def test_four_times_the_runs_take_at_most_about_four_times_as_long(tmp_path):
    few, many = judged(100, tmp_path), judged(400, tmp_path)
    for name in few:  # sixteen times as long would be quadratic; what is the same for any number only helps
        assert many[name] < 8 * few[name] + 0.05, f"{name}: {few[name]:.2f} s for 200 runs, {many[name]:.2f} for 800"


def test_every_run_leaves_as_many_rows_however_many_there_are():
    for n_cells in (48, 96):
        who = fabricate.runs(n_cells, 2)
        compared = pairs.compared(fabricate.correct(who, n=64))
        places = n_cells // len(fabricate.METHODS)
        assert places * 2 * 11 <= len(compared) <= 2 * 2 * n_cells  # at most two for each cell and attack
        panel = sanity.panel(of_rows(fabricate.measured(who, epochs=2)).runs)
        assert len(panel) == len(who) * len(sanity.CHECKS)
        assert not panel.duplicated([*fabricate.RUN, "check"]).any()
