"""Averages of weights, compared with the recursion written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffsde.training.optimizers import AveragedNetwork


@pytest.mark.parametrize("decay", [0.9, 0.5, 0.999])
def test_an_average_warms_up(decay: float) -> None:
    """After n updates the next weights count with the share 1 − min(decay, (1 + n) / (10 + n))."""
    network = nn.Linear(1, 1, bias=False)
    average = AveragedNetwork(network, decay)
    generator = torch.Generator().manual_seed(0)
    expected = None
    for n in range(120):
        weight = float(torch.randn((), generator=generator))
        nn.init.constant_(network.weight, weight)
        average.update_parameters(network)
        keep = min(decay, (1 + n) / (10 + n))
        # The first update replaces the initial weights.
        expected = weight if expected is None else keep * expected + (1 - keep) * weight
        assert average.module.weight.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
