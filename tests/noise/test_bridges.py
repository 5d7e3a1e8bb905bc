"""The weights of a tree's numbers give the covariances of Brownian motion, exactly."""

from __future__ import annotations

import numpy
import pytest

from diffsde.noise.bridges import bridge_weights

TIMES = numpy.array([0.0, 2**-40, 0.003, 0.25, 1 / 3, 0.5, 0.71875, 0.9, 1 - 2**-40, 1.0])


def covariances(t: float) -> numpy.ndarray:
    """Of W(t) and ∫₀ᵗ W."""
    return numpy.array([[t, t**2 / 2], [t**2 / 2, t**3 / 3]])


@pytest.mark.parametrize("depth", [0, 1, 5, 16, 36])
def test_the_path_and_its_integral_have_their_law_at_any_time(depth: int) -> None:
    for t, weights in zip(TIMES, bridge_weights(TIMES, depth), strict=True):
        numpy.testing.assert_allclose(weights @ weights.T, covariances(t), rtol=1e-12, atol=1e-15)


def test_two_times_are_as_near_as_on_a_path() -> None:
    """E W(s) W(t) = min(s, t): the numbers of the parts around both times count in both."""
    times, depth = TIMES[2:-2], 16
    weights = bridge_weights(times, depth)[:, 0].reshape(len(times), -1, 2)
    parts = numpy.floor(times[:, None] * 2.0 ** numpy.arange(depth + 1))
    for s, of_s, around_s in zip(times, weights, parts, strict=True):
        for t, of_t, around_t in zip(times, weights, parts, strict=True):
            shared = numpy.concatenate([[True], around_s == around_t])  # the cell's own count too
            together = (of_s * of_t)[shared].sum()
            assert together == pytest.approx(min(s, t), rel=1e-12)


def test_what_is_on_an_end_of_a_part_needs_none_of_its_numbers() -> None:
    """The rows are those of the cell and of the parts that have a time within them."""
    counts = {0.0: 1, 1.0: 1, 0.5: 2, 0.25: 3, 2**-16: 17, 0.3: 18}
    for t, count in counts.items():
        assert bridge_weights(numpy.array([t]), 16).shape == (1, 2, 2 * count)


def test_a_time_counts_the_same_beside_others() -> None:
    together = bridge_weights(TIMES, 16)
    for t, weights in zip(TIMES, together, strict=True):
        alone = bridge_weights(numpy.array([t]), 16)[0]
        assert numpy.array_equal(weights[:, : alone.shape[1]], alone)
        assert not weights[:, alone.shape[1] :].any()
