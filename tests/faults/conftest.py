"""The folder in which all is done, and what was tried, told at the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import harness


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Iterator[Path]:
    """A folder with two runs, all stages done undisturbed."""
    yield harness.world(tmp_path_factory.mktemp("whole"))
    harness.close()


def pytest_terminal_summary(terminalreporter) -> None:
    """How often each fault befell a stage."""
    if harness.TRIED:
        terminalreporter.section("faults that were tried")
        for (fault, stage), n in sorted(harness.TRIED.items()):
            terminalreporter.write_line(f"{fault:24} {stage:24} {n}")
