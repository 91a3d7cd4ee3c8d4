"""Losses that torch does not name as the papers do."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def soft_target_loss(logits: Tensor, y: Tensor, s: float) -> Tensor:
    """Mean cross-entropy against the target s on the true class and (1 - s) / (K - 1) on each other.

    Shapes: logits (B, K), y (B,) -> scalar. With s = 1 it is the plain cross-entropy.
    Source: FGSM_SDI.py:126-131 and FGSM_MEP.py, there for K = 10 only.
    """
    n_classes = logits.shape[1]
    return cross_entropy(logits, y, label_smoothing=min((1 - s) * n_classes / (n_classes - 1), 1.0))


def check_soft_target(s: float, n_classes: int, name: str = "s") -> None:
    """Refuse a target that does not prefer the true class.

    Raises: ValueError.
    """
    if not 1 / n_classes < s <= 1:
        least = f"1/K = {1 / n_classes:.3g} (K = {n_classes} classes)"
        raise ValueError(f"{name} must be above {least} and at most 1, got {s}")


def check_label_smoothing(share: float) -> None:
    """Refuse what torch's `label_smoothing` cannot be: `share` of the target is spread evenly over all K classes.

    It is the soft target s = 1 - share (K - 1) / K. Raises: ValueError.
    """
    if not 0 <= share < 1:
        raise ValueError(f"label_smoothing must be 0 or more and below 1, got {share}")


def nuclear_norm(matrix: Tensor) -> Tensor:
    """The sum of the singular values of (B, K), in float32. Its gradient is U V^T of the SVD."""
    return torch.linalg.svdvals(matrix.float()).sum()
