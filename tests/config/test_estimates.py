"""What `plan --out` wrote, as jobs and `status` read it."""

import json

import pytest

from fastat.config import estimates
from fastat.config.estimates import Estimates
from fastat.errors import BadInput

CELL = {"train_seconds": 3, "evaluate_seconds": None, "gpu_bytes": 1, "host_bytes": 2}


def test_of_a_run_it_says_what_is_known_of_its_cell(tmp_path):
    assert estimates.read(tmp_path) == Estimates()
    (tmp_path / "plan.json").write_text(json.dumps({"device": "a V100", "cells": {"a/b/eps8/c/d": CELL}}))
    plan = estimates.read(tmp_path)
    assert plan == Estimates("a V100", {"a/b/eps8/c/d": {"train_seconds": 3.0, "host_bytes": 2.0}})
    assert plan.of("a/b/eps8/c/d/seed7", "train_seconds") == 3.0
    assert plan.of("a/b/eps8/c/d/seed7", "evaluate_seconds") is plan.of("a/b/eps8/c/e/seed7", "train_seconds") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"cells": {}}',
        '{"device": "x", "cells": 3}',
        '{"device": "x", "cells": {"a": 1}}',
        '{"device": "x", "cells": {"a": {"host_bytes": -1}}}',
        '{"device": "x", "cells": {"a": {"train_seconds": Infinity}}}',
        '{"device": "x", "cells": {"a": {"host_bytes": "x"}}}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_plan_is_refused_with_the_way_out(text, tmp_path):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(
        BadInput, match=r"plan.json is not what `python -m fastat plan --out .*` writes .* or remove it"
    ):
        estimates.read(tmp_path)
