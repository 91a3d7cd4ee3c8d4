"""AutoAttack in both norms against pyautoattack's own standard evaluation, image by image, on three networks."""

import logging

import pytest
import torch
from pyautoattack import AutoAttack
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from fastat.attacks import fgsm, pgd
from fastat.config.attack_names import parse
from fastat.data.datasets import Part
from fastat.evaluation import named

EPS = 0.3  # of the training with FGSM that collapses
KINDS = {  # what training images go through
    "clean": lambda _model, x, _y, _rng: x,
    "robust": lambda model, x, y, rng: pgd(model, x, y, eps=0.2, alpha=0.07, n_steps=5, rng=rng).x_adv,
    "collapsed": lambda model, x, y, _rng: fgsm(model, x, y, EPS).x_adv,
}
RADII = ("Linf eps=0.1", "L2 eps=0.5")  # at which some images stand and some fall
N = 32


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    return torch.tensor(found.images / 16 * 255).round()[:, None].float() / 255, torch.tensor(found.target)


@pytest.fixture(scope="module", params=KINDS)
def trained(request, digits):
    """A network after a few seconds of its kind of training, and that kind."""
    images, labels = digits[0][:1400], digits[1][:1400]
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
    model = nn.Sequential(*layers).train()
    rng = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for _ in range(600 if request.param == "collapsed" else 200):
        at = torch.randint(len(images), (128,), generator=rng)
        x_adv = KINDS[request.param](model, images[at], labels[at], rng)
        optimizer.zero_grad()
        cross_entropy(model(x_adv), labels[at]).backward()
        optimizer.step()
    return request.param, model.eval()


def test_the_networks_are_what_they_are_called(trained, digits):
    kind, model = trained
    x, y = digits[0][1400:], digits[1][1400:]
    with torch.no_grad():
        clean = float((model(x).argmax(1) == y).float().mean())
    by_fgsm = float(fgsm(model, x, y, EPS).correct.float().mean())
    options = {"alpha": 0.05, "n_steps": 20, "rng": torch.Generator().manual_seed(0)}
    by_pgd, near = (float(pgd(model, x, y, eps=eps, **options).correct.float().mean()) for eps in (EPS, 0.1))
    assert clean > 0.8
    assert (near > 0.6) == (kind != "clean") and (by_fgsm - by_pgd > 0.2) == (kind == "collapsed")


@pytest.mark.parametrize("radius", RADII)
def test_every_verdict_is_the_references(trained, radius, digits, tmp_path):
    _, model = trained
    x, y = digits[0][1400 : 1400 + N], digits[1][1400 : 1400 + N]
    attack = parse(f"autoattack {radius}")
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    with torch.random.fork_rng():
        reference = AutoAttack(model, norm=attack.norm, eps=attack.radius(0), seed=3, version="standard")
        x_adv, _ = reference.run_standard_evaluation(x, y, batch_size=N)
    far = torch.linalg.vector_norm((x_adv - x).flatten(1), torch.inf if attack.norm == "Linf" else 2, dim=1)
    assert far.max() <= attack.radius(0) * (1 + 1e-5)
    with torch.no_grad():
        expected = (model(x_adv).argmax(1) == y).int().tolist()
    part = Part((x * 255).round().to(torch.uint8), y, (8, 8))
    assert torch.equal(part.take(torch.arange(N))[0], x)
    protocol = {"n_images": "all", "batch_size": N, "seed": 3}
    found = named.attack_all(model, part, str(attack), eps=0.3, protocol=protocol, partial=tmp_path / "partial.csv")
    verdicts = {row["index"]: row["correct"] for row in found}
    assert [verdicts[i] for i in range(N)] == expected and 3 < sum(expected) < N - 3
    assert {row["attack"] for row in found} == {str(attack)}
