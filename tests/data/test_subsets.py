"""Samples in which every class has its share, and the tenths of the images by gradient norm."""

import pytest
import torch

from fastat.data import subsets
from fastat.data.subsets import stratified
from fastat.errors import BadInput


def test_a_stratified_sample_has_every_class_in_its_share():
    labels = torch.arange(10).repeat(36)
    sample = stratified(labels, 50, seed=0)
    assert torch.bincount(labels[sample]).tolist() == [5] * 10
    assert torch.equal(sample, stratified(labels, 50, seed=0))
    with pytest.raises(BadInput, match="361 images asked for, but there are only 360"):
        stratified(labels, 361, seed=0)


def test_deciles_go_by_the_mean_over_epochs_and_leave_out_unvisited_ones():
    norms = torch.tensor([[float(k), float(k)] for k in range(20)])
    norms[3, 1] = float("nan")
    assert subsets.deciles(norms).tolist() == [k // 2 + 1 for k in range(20)]
    norms[5] = float("nan")
    with pytest.raises(ValueError, match="never visited"):
        subsets.deciles(norms)
