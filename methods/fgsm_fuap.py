"""FGSM-FUAP: FGSM-UAP with one prior per cluster of the network's features, which a small head tells apart.

Pan, Li, Yao, "Adversarial initialization with universal adversarial perturbation: A new approach to fast adversarial
training", AAAI 2024. Not in the ATAS paper. Its code calls it FGSM-UAP, and one prior for all images FGSM-One-UAP.
The image's features are read at a random point of the ball, and the prior is added there. The head learns to classify
through as many units as there are priors; an image takes the prior of its largest unit, before the ReLU.
Cost per batch: 3 forwards, 1 input backward, 2 parameter backwards, and the head's.
State: per cluster as FGSM-UAP per class; the head and its Adam.
Departures, `released`: as FGSM-UAP. Adam counts its steps on the host: no CUDA graph replays its step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastat.adam import Adam
from fastat.attacks import uniform_like
from fastat.features import logits_and_features
from fastat.types import Batch, Learner, StepReport, Task
from methods import fgsm_uap

VERSION = 1
PASSES = {"forward": 3, "input_backward": 1, "parameter_backward": 2}
NEEDS = ("features",)


@dataclass(frozen=True)
class Config(fgsm_uap.Step):
    """Defaults: fat/fgsm_uap.py and test_cifar10/fgsm_uap_test.py of its code, CIFAR10 at eps 8/255."""

    n_groups: int = 50  # CIFAR100: 200, Tiny-ImageNet: 300
    head_lr: float = 1e-3  # of Adam

    def __post_init__(self) -> None:
        """Raises: ValueError, as every method does for what it cannot use."""
        super().__post_init__()
        if not (self.n_groups >= 1 and self.head_lr > 0):
            raise ValueError(f"n_groups must be 1 or more and head_lr above 0, got {self.n_groups} and {self.head_lr}")


class Method(fgsm_uap.Priors):
    """FGSM-FUAP."""

    ONE_PROCESS = "its head has an optimiser of its own"
    config: Config

    def __init__(self, config: Config, task: Task):
        super().__init__(config, task, config.n_groups)
        if task.n_features < 1:
            raise ValueError(
                "the network must have an nn.Linear, since what its last one reads are the features; it has none"
            )
        self.cluster = nn.Linear(task.n_features, config.n_groups).to(task.device)
        self.classify = nn.Linear(config.n_groups, task.n_classes).to(task.device)
        self.adam = Adam([*self.cluster.parameters(), *self.classify.parameters()], config.head_lr)

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """The groups are those of before the head's step (fat/fgsm_uap.py:79-95); the network is in train mode."""
        x, eps = batch.x, self.task.eps
        near = (x + uniform_like(x, eps, self.task.rng)).clamp_(0, 1)
        with torch.no_grad():
            _, features = logits_and_features(model, near)
        units = self.cluster(features)
        group = units.argmax(1)
        scores = self.classify(units.relu())
        self.adam.step(cross_entropy(scores, batch.y, label_smoothing=self.config.label_smoothing))
        return self.train_from(near, group, model, batch, learner)

    def get_extra_state(self) -> Tensor:
        """The head's Adam."""
        return self.adam.state()

    def set_extra_state(self, state: Tensor) -> None:
        """The inverse of `get_extra_state`."""
        self.adam.load(state)
