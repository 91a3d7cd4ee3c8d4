"""What the hand-computed tests share: networks small enough to differentiate on paper."""

import ast
import difflib
import inspect
import textwrap
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, softmax

import methods
from fastat.config.recipe import Recipe, Schedule
from fastat.training.learner import SGDLearner


class Linear(nn.Module):
    """z = W x + b, with the gradients of the cross-entropy written out."""

    def __init__(self, n_classes: int = 10):
        super().__init__()
        self.layer = nn.Linear(64, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))

    def residual(self, x, y, s=1.0):
        """softmax(z) - target, per image; the target is s on y and shares the rest."""
        k = self.layer.out_features
        target = one_hot(y, k) * s + (1 - one_hot(y, k)) * (1 - s) / (k - 1)
        return (softmax(self(x), 1) - target).detach()

    def grad_x(self, x, y, s=1.0):
        """W^T (softmax - target): gradient of each image's own loss."""
        return (self.residual(x, y, s) @ self.layer.weight.detach()).reshape(x.shape)

    def grad_w(self, x, y, s=1.0):
        """Gradient of the mean loss with respect to W."""
        return self.residual(x, y, s).T @ x.flatten(1) / len(y)


@dataclass
class Step:
    """One method on one network, with plain SGD of learning rate 0.1: what a test worked out can be compared with."""

    method: nn.Module
    model: nn.Module
    learner: SGDLearner

    def run(self, batch, **changes):
        return self.method.train_batch(self.model, replace(batch, **changes), self.learner)


@pytest.fixture
def linear() -> Linear:
    torch.manual_seed(0)
    return Linear()


@pytest.fixture
def start(tiny_task):
    """What builds a method at its first epoch, from its name, a network and parameters."""

    def build(name, model, epoch=1, task=tiny_task, **params) -> Step:
        n_params = sum(p.numel() for p in model.parameters())
        method = methods.build(name, replace(task, n_params=n_params), **params)
        recipe = Recipe(task.n_epochs, 4, Schedule("piecewise", 0.1), weight_decay=0.0, momentum=0.0)
        learner = SGDLearner(model, recipe)
        method.begin_epoch(model, learner, epoch)
        return Step(method, model, learner)

    return build


@pytest.fixture
def clipped():
    """The projection of x_adv on the ball around x, written out."""
    return lambda x_adv, x, eps: torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(0, 1)


@pytest.fixture
def atas_alpha():
    """ATAS's step size after the first visit, from each image's own gradient, written out; (B, 1, 1, 1)."""

    def alpha(grad, beta=0.5, c=1.28, gamma=1.28 * 16 / 255):
        v = (1 - beta) * grad.square().sum((1, 2, 3), keepdim=True)
        return gamma / (c + v.sqrt())

    return alpha


@pytest.fixture
def refused(tiny_task):
    """What checks that a method refuses parameters, and with which words."""

    def check(name, message, **params):
        with pytest.raises(ValueError, match=message):
            methods.build(name, tiny_task, **params)

    return check


@pytest.fixture
def lines_that_differ():
    """The lines of one function that another does not have: without docstrings and comments."""

    def lines(function):
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        code = tree.body[1:] if ast.get_docstring(tree) else tree.body
        return "\n".join(map(ast.unparse, code)).splitlines()

    def difference(theirs, ours):
        return [line[2:].strip() for line in difflib.ndiff(lines(theirs), lines(ours)) if line.startswith("+ ")]

    return difference
