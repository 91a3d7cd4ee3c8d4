"""Our driver against pyautoattack's own standard evaluation, image by image."""

import logging
from types import SimpleNamespace

import pytest
import torch
from pyautoattack import AutoAttack

from fastat.errors import BadInput
from fastat.evaluation import autoattack
from fastat.networks import models

EPS = 0.04  # some stand and some fall
FAR = 0.3  # all fall, to the first attack: the others cost nothing


@pytest.fixture(scope="module")
def frozen():
    """A network and the images that it labels itself."""
    torch.manual_seed(0)
    model = models.build("preact_tiny", 1, 10).eval()
    x = torch.rand(10, 1, 8, 8)
    with torch.no_grad():
        y = model(x).argmax(1)
    y[0] = (y[0] + 1) % 10
    return model, x, y


def test_verdict_equals_the_packages_standard_run_and_survives_interruption(frozen, tmp_path, monkeypatch):
    model, (x, y) = frozen[0], (part[:6] for part in frozen[1:])
    index, partial = torch.arange(100, 106), tmp_path / "partial.csv"
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    with torch.random.fork_rng():
        reference = AutoAttack(model, eps=EPS, seed=0, version="standard")
        x_adv, _ = reference.run_standard_evaluation(x, y, batch_size=4)
    with torch.no_grad():
        expected = (model(x_adv).argmax(1) == y).tolist()
    assert 1 < sum(expected) < 5

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


@pytest.fixture
def interrupted(frozen, tmp_path, monkeypatch):
    """A partial file after two shards, and a call that goes on with it."""
    model, x, y = frozen
    index, partial = torch.arange(100, 110), tmp_path / "partial.csv"

    def run():
        options = {"eps": FAR, "batch_size": 4, "seed": 0, "partial": partial}
        return autoattack.standard(model, lambda at: (x[at - 100], y[at - 100]), index, **options)

    real, calls = autoattack.write_partial, []
    with monkeypatch.context() as patch:
        patch.setattr(autoattack, "write_partial", lambda *args: (real(*args), calls.append(1), 1 / (2 - len(calls))))
        with pytest.raises(ZeroDivisionError):
            run()
    return partial, run


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [line.replace(",1,", ",0,") if line.startswith("clean") else line for line in lines],
        lambda lines: lines[: len(lines) // 2] + lines[-1:],
        lambda lines: [*lines[:-1], "clean,3,1,1,", lines[-1]],
        lambda lines: [*lines[:-1], "clean,x,1,1,", lines[-1]],
        lambda lines: [*lines[:-1], lines[1]],  # without a checksum, and an image twice
        lambda lines: [*lines[:-1], "apgd-ce,3,1,1,"],  # ... an image of another evaluation
        lambda lines: [*lines[:-1], "apgd-ce,109,1,9,"],  # ... a verdict that is none
    ],
)
def test_a_partial_file_that_is_not_what_was_written_is_refused(interrupted, change):
    partial, run = interrupted
    partial.write_text("\n".join(change(partial.read_text().splitlines())) + "\n")
    with pytest.raises(BadInput, match="is damaged.*rm "):
        run()
    assert partial.exists()


def test_a_partial_file_made_before_there_was_a_checksum_goes_on_and_says_so(interrupted, caplog):
    partial, run = interrupted
    expected = run()
    lines = partial.read_text().splitlines()
    partial.write_text("\n".join(lines[: len(lines) // 2]) + "\n")
    assert "checksum" in lines[-1] and sorted(map(str, run())) == sorted(map(str, expected))
    assert "has no checksum" in caplog.text


def test_what_was_attacked_is_that_of_these_weights_data_numerics_and_packages(tmp_path, monkeypatch):
    """Verdicts on test images that were replaced came back as those on the new ones: their labels were the same."""
    from fastat.evaluation import run

    def kept(sha="a", data="b", numerics="portable", torch_version="2.14"):
        monkeypatch.setattr(run, "versions", lambda: {"fastat": "9", "torch": torch_version})
        one = SimpleNamespace(
            weights={"weights.safetensors": sha}, about={"data_sha256": data}, of_checkpoint=[], folder=tmp_path
        )
        protocol = {"autoattack": {"n_images": 3, "batch_size": 3}, "seed": 0, "numerics": numerics}
        return run.kept_rows(one, protocol, "last", torch.arange(3))

    others = [kept(sha="c"), kept(data="c"), kept(numerics="native"), kept(torch_version="2.15")]
    assert len({kept(), kept(), *others}) == 5
