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


def tables(results: Path, runs: pd.DataFrame, file: str) -> Iterator[pd.DataFrame]:
    """The CSV file of each run that has it, with RUN, collapse_epoch and collapsed_at_end as columns."""
    about = [*RUN, "collapse_epoch", "collapsed_at_end"]
    for run in runs.itertuples():
        path = results / "runs" / str(run.name) / file
        try:
            rows = pd.read_csv(path)
        except FileNotFoundError:
            continue
        except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
            log.warning("%s cannot be read (%s): left out", path, error)
            continue
        yield rows.assign(**{key: getattr(run, key) for key in about})


def instances(results: Path, runs: pd.DataFrame, *names: str) -> Iterator[tuple[Any, dict[str, NDArray[Any]]]]:
    """(run, tensors) of each run whose instances.safetensors holds all the names."""
    for run in runs.itertuples():
        path = results / "runs" / str(run.name) / "instances.safetensors"
        try:
            with safe_open(path, framework="numpy") as file:
                held = {name: file.get_tensor(name) for name in names if name in file.keys()}
        except FileNotFoundError:
            continue
        except (SafetensorError, OSError) as error:
            log.warning("%s cannot be read (%s): left out", path, error)
            continue
        if len(held) == len(names):
            yield run, held
