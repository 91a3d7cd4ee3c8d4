"""The runs' own small files, which only figures need: surfaces, steps, what is known of each image. Never torch."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from fastat.report.tidy import RUN

log = logging.getLogger(__name__)


class Artifacts:
    """The files of the runs of one results folder.

    left_out: (run, file) of what report/verify.py does not believe; a run whose training is among them has none.
    """

    def __init__(self, results: Path, left_out: frozenset[tuple[str, str]] = frozenset()):
        self.results, self.left_out = results, left_out
        self.runs_left_out = {run for run, file in left_out if not file.startswith("eval/")}

    def path(self, run: str, file: str) -> Path | None:
        """Where a run's file lies; None if it is not believed."""
        if run in self.runs_left_out or (run, file) in self.left_out:
            return None
        return self.results / "runs" / run / file

    def tables(self, runs: pd.DataFrame, file: str) -> Iterator[pd.DataFrame]:
        """The CSV file of each run that has it, with RUN, collapse_epoch and collapsed_at_end as columns."""
        about = [*RUN, "collapse_epoch", "collapsed_at_end"]
        for run in runs.itertuples():
            if not (path := self.path(str(run.name), file)):
                continue
            try:
                rows = pd.read_csv(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:  # pandas' own errors and those of decoding are values'
                log.warning("%s cannot be read (%s): left out", path, error)
                continue
            if rows.empty:  # of a diverged run
                continue
            yield rows.assign(**{key: getattr(run, key) for key in about})

    def instances(self, runs: pd.DataFrame, *names: str) -> Iterator[tuple[Any, dict[str, NDArray[Any]]]]:
        """(run, tensors) of each run whose instances.safetensors holds all the names."""
        for run in runs.itertuples():
            if not (path := self.path(str(run.name), "instances.safetensors")):
                continue
            try:
                with safe_open(path, framework="numpy") as file:
                    held = {name: file.get_tensor(name) for name in names if name in file.keys()}
            except FileNotFoundError:
                continue
            except (SafetensorError, OSError, ValueError) as error:
                log.warning("%s cannot be read (%s): left out", path, error)
                continue
            if len(held) == len(names):
                yield run, held
