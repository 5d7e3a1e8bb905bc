r"""Numbers drawn ahead: on a device, those of the nodes to come are drawn together.

Some three hundred small operations make a draw there, and starting them takes longer than
computing them. On the CPU each draw is made when it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from diffsde.noise.normal import NormalTable
from diffsde.noise.philox import Nodes

__all__ = ["DrawnAhead"]

_NUMBERS = 2**20  # drawn together: some 100 MB while they are made
_ROWS = 2**12  # their addresses are listed on the host

_Key = int | tuple[int, ...]


class DrawnAhead:
    """Standard normal numbers of some samples, at one node after the other.

    Args:
        table: of the seed and the purpose.
        samples: whose numbers they are.
        shape: of one sample's numbers at a node.
        dtype: of the numbers.
        device: where they are made.
    """

    def __init__(
        self,
        table: NormalTable,
        samples: Sequence[int],
        shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._table, self._samples, self._shape = table, samples, tuple(shape)
        self._dtype, self._device = dtype, device
        self._prompt = device.type == "cpu"  # each draw when it is asked for
        self._expected: list[_Key] = []
        self._drawn: dict[_Key, Tensor] = {}

    def expect(self, nodes: Iterable[Nodes]) -> None:
        """Say which nodes will be asked for, in their order; others may be, too."""
        if not self._prompt:
            self._expected = [_key(node) for node in nodes]

    def at(self, node: Nodes) -> Tensor:
        """The numbers of each sample at its node, (len(samples), *shape)."""
        if self._prompt:
            return self._rows(self._samples, node)
        key = _key(node)
        if key not in self._drawn:
            self._drawn = self._draw(key)
        return self._drawn[key]

    def _draw(self, first: _Key) -> dict[_Key, Tensor]:
        """The numbers at a node and at as many of those expected after it as fit, by node."""
        known = first in self._expected
        following = self._expected[self._expected.index(first) :] if known else [first]
        n = len(self._samples)
        fitting = min(_NUMBERS // max(1, n * math.prod(self._shape)), _ROWS // max(1, n))
        keys = following[: max(1, fitting)]
        if len(keys) == 1:  # whose address need not be copied there
            return {first: self._rows(self._samples, first)}
        each = [node for key in keys for node in (key if isinstance(key, tuple) else [key] * n)]
        rows = self._rows([*self._samples] * len(keys), each)
        return dict(zip(keys, rows.view(len(keys), n, *self._shape), strict=True))

    def _rows(self, samples: Sequence[int], nodes: Nodes) -> Tensor:
        return self._table.rows(samples, nodes, self._shape, self._dtype, self._device)


def _key(node: Nodes) -> _Key:
    return node if isinstance(node, int) else tuple(node)
