"""PGD10: standard adversarial training, the multi-step reference of every table.

Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018 (arXiv 1706.06083);
protocol of Rice, Wong, Kolter, ICML 2020 (arXiv 2002.11569). Tables I and II, row PGD10.
Variant `wa` (PGD-AT-WA, as FastAT_Benchmark has it) smooths the labels of the descent and reports a moving average of
the weights: a recipe, not another method.
Cost per batch: 11 forwards, 10 input backwards, 1 parameter backward.
Departures: the attack runs in eval mode (the official code attacks in train mode, docs/departures.md).
"""

from contextlib import nullcontext
from dataclasses import dataclass

from torch import nn
from torch.nn.functional import cross_entropy

from fastat.attacks import eval_mode, input_gradient, project_linf, uniform_like
from fastat.losses import check_label_smoothing
from fastat.types import Batch, Learner, StepReport, Task
from fastat.units import Length, in_pixels

VERSION = 1
PASSES = {"forward": 11, "input_backward": 10, "parameter_backward": 1}


@dataclass(frozen=True)
class Config:
    """Defaults: robust_overfitting train_cifar.py:139-142 (2/255 at eps 8/255), kept in proportion to eps."""

    n_steps: int = 10
    attack_mode: str = "eval"  # released: train, so that BatchNorm moves in every attack step (train_cifar.py:90)
    alpha: Length = "0.25 eps"
    label_smoothing: float = 0.0  # of the descent; the attack keeps the plain cross-entropy


class Method(nn.Module):
    """PGD10. No state."""

    REPLAYABLE = True

    def __init__(self, config: Config, task: Task):
        super().__init__()
        if config.n_steps < 1:
            raise ValueError(f"n_steps must be 1 or more, got {config.n_steps}")
        if config.attack_mode not in ("eval", "train"):
            raise ValueError(f"attack_mode must be eval or train, got {config.attack_mode!r}")
        check_label_smoothing(config.label_smoothing)
        self.config, self.task = config, task
        self.alpha = in_pixels(config.alpha, task.eps)

    def begin_epoch(self, model: nn.Module, learner: Learner, epoch: int) -> None:
        """Nothing to do."""

    def train_batch(self, model: nn.Module, batch: Batch, learner: Learner) -> StepReport:
        """Eq. 1 of the ATAS paper: the inner maximum by projected gradient ascent, then one descent."""
        x, y, eps = batch.x, batch.y, self.task.eps
        x_adv = project_linf(x + uniform_like(x, eps, self.task.rng), x, eps)
        with eval_mode(model) if self.config.attack_mode == "eval" else nullcontext():
            for _ in range(self.config.n_steps):
                grad = input_gradient(model, x_adv, y)
                x_adv = project_linf(x_adv + self.alpha * grad.sign(), x, eps)
        loss = cross_entropy(model(x_adv), y, label_smoothing=self.config.label_smoothing)
        learner.descend(loss)
        return StepReport(loss, x_adv)
