r"""The numbers of a Brownian path's tree: those of the parts around a time, kept for the next.

The tree of a cell has its root at the cell, and each part has two halves below it. A node has two
standard normal numbers for each channel, at the address (cell, place): place 0 for the cell's own,
1 for those that halve it, 2n and 2n + 1 for the halves of n.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy
import torch
from torch import Tensor

from diffsde.noise.normal import NormalTable
from diffsde.noise.philox import Node

__all__ = ["Around", "PathNumbers"]

_WORD = 2**64
# A product of matrices may be rounded in another way where a row begins at another place in memory.
# So a sample's rows have a multiple of so many numbers, the last of which are zeros.
_ALIGNED = 16


@dataclass(frozen=True)
class Around:
    """A time, and how many nodes around it are wanted.

    Attributes:
        cell: the beginning of its cell, () or (B, 1), on the host.
        rho: the time within the cell, from 0 to 1; of cell's shape.
        count: how many nodes: the cell, then the parts around the time, the longest first.
    """

    cell: Tensor
    rho: Tensor
    count: int

    def nodes(self) -> list[Node]:
        """Their addresses, which are one for all samples or one for each."""
        parts = 2.0 ** numpy.arange(self.count - 1)[:, None]
        places = numpy.floor(self.rho.reshape(-1).numpy() * parts) + parts
        cells = [int(c) % _WORD * _WORD for c in self.cell.flatten().tolist()]
        rows = [[c + int(p) for c, p in zip(cells, row, strict=True)] for row in places]
        return [cells, *rows] if self.cell.dim() else [node for (node,) in [cells, *rows]]


class PathNumbers:
    """The numbers of a batch.

    Args:
        table: of the seed.
        samples: whose numbers they are.
        channels: m, for each of which a node has two numbers.
        dtype, device: of what is handed out.
    """

    def __init__(
        self,
        table: NormalTable,
        samples: Sequence[int],
        channels: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._table, self._samples, self._of_node = table, samples, (2, channels)
        self._nodes: list[Node] = []  # those around the latest time
        room = (0, 2, len(samples), -(-channels // _ALIGNED) * _ALIGNED)
        self._rows = torch.empty(room, dtype=dtype, device=device)  # their numbers

    def around(self, times: Sequence[Around]) -> Iterator[Tensor]:
        """The numbers around one time after the other; each until the next.

        On a device those that are not there yet are drawn together.

        Yields:
            (B, 2 count, ≥ m), with zeros after the m channels.
        """
        wanted = [time.nodes() for time in times]
        before = [self._nodes, *wanted]
        kept = [_shared(nodes, last) for nodes, last in zip(wanted, before, strict=False)]
        missing = [node for nodes, n in zip(wanted, kept, strict=True) for node in nodes[n:]]
        drawn = self._drawn(missing)
        self._make_room(max(map(len, wanted), default=0))
        for nodes, n in zip(wanted, kept, strict=True):
            for row in self._rows[n : len(nodes)]:
                row[..., : self._of_node[1]] = next(drawn)
            self._nodes = nodes
            yield self._rows[: len(nodes)].flatten(0, 1).transpose(0, 1)

    def _make_room(self, nodes: int) -> None:
        """For a time on a coarse grid, few nodes are needed."""
        rows = self._rows
        if nodes > len(rows):
            more = rows.new_zeros((nodes - len(rows), *rows.shape[1:]))
            self._rows = torch.cat([rows, more])

    def of_cell(self, cell: Tensor) -> Tensor:
        """A cell's own numbers, (2, B, m); `cell` is () or (B, 1)."""
        return next(self._drawn(Around(cell, 0 * cell, 1).nodes())).to(self._rows.dtype)

    def _drawn(self, nodes: Sequence[Node]) -> Iterator[Tensor]:
        """The numbers of each node, (2, B, m), in float32."""
        where = self._of_node, torch.float32, self._rows.device
        return (z.transpose(0, 1) for z in self._table.at_nodes(self._samples, nodes, *where))


def _shared(nodes: Sequence[Node], others: Sequence[Node]) -> int:
    """How many nodes at the beginning of both are the same."""
    pairs = zip(nodes, others, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
