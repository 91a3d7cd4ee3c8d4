"""Our driver against pyautoattack's own standard evaluation, image by image."""

import logging

import pytest
import torch
from pyautoattack import AutoAttack

from fastat.evaluation import autoattack
from fastat.networks import models

EPS = 0.02


@pytest.fixture(scope="module")
def frozen():
    """A network and the images that it labels itself, so that some stand and some fall."""
    torch.manual_seed(0)
    model = models.build("preact_tiny", 1, 10).eval()
    x = torch.rand(10, 1, 8, 8)
    with torch.no_grad():
        y = model(x).argmax(1)
    y[0] = (y[0] + 1) % 10
    return model, x, y


def test_verdict_equals_the_packages_standard_run_and_survives_interruption(frozen, tmp_path, monkeypatch):
    model, x, y = frozen
    index, partial = torch.arange(100, 110), tmp_path / "partial.csv"
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    with torch.random.fork_rng():
        reference = AutoAttack(model, eps=EPS, seed=0, version="standard")
        x_adv, _ = reference.run_standard_evaluation(x, y, batch_size=4)
    with torch.no_grad():
        expected = (model(x_adv).argmax(1) == y).tolist()

    def run():
        def take(at):
            return x[at - 100], y[at - 100]

        return autoattack.standard(model, take, index, eps=EPS, batch_size=4, seed=0, partial=partial)

    real, calls = autoattack.files.write_rows, []

    def write_then_stop(*args):
        real(*args)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(autoattack.files, "write_rows", write_then_stop)
    with pytest.raises(KeyboardInterrupt):
        run()
    rows = run()
    broken = {row["index"] for row in rows if not row["correct"]}
    assert [i not in broken for i in index.tolist()] == expected
    assert len({(row["attack"], row["index"]) for row in rows}) == len(rows)
