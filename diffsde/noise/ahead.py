r"""Numbers drawn ahead: on a device, those of the nodes to come are drawn together.

Some three hundred small operations make a draw there, and starting them takes longer than
computing them. On the CPU each draw is made when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from diffsde.noise.normal import NormalTable, nodes_at_once
from diffsde.noise.philox import Node

__all__ = ["DrawnAhead"]

_ROWS = 2**12  # whose addresses are listed on the host for a draw

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

    def expect(self, nodes: Iterable[Node]) -> None:
        """Say which nodes will be asked for, in their order; others may be, too."""
        if not self._prompt:
            self._expected = [_key(node) for node in nodes]

    def at(self, node: Node) -> Tensor:
        """The numbers of each sample at its node, (len(samples), *shape)."""
        if self._prompt:
            return next(self._rows([node]))
        key = _key(node)
        if key not in self._drawn:
            keys = self._together(key)
            self._drawn = dict(zip(keys, self._rows(keys), strict=True))
        return self._drawn[key]

    def _together(self, first: _Key) -> list[_Key]:
        """A node and as many of those expected after it as fit."""
        known = first in self._expected
        following = self._expected[self._expected.index(first) :] if known else [first]
        fitting = nodes_at_once(self._samples, self._shape, self._device)
        fitting = min(fitting, _ROWS // max(1, len(self._samples)))
        return following[: max(1, fitting)]

    def _rows(self, nodes: Sequence[Node]) -> Iterator[Tensor]:
        return self._table.at_nodes(self._samples, nodes, self._shape, self._dtype, self._device)


def _key(node: Node) -> _Key:
    return node if isinstance(node, int) else tuple(node)
