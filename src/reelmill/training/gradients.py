"""Sums of gradients whose bits do not depend on which process made which part.

A global batch is cut into numbered pieces. The pieces' vectors are added along one fixed binary tree over
the numbers: node (level, place) is the sum of pieces ``place * 2**level`` up to ``(place + 1) * 2**level``.
Each process adds up the nodes that lie wholly in its share, the rest is exchanged (``exchange``), so any
number of processes comes to the same sum, bit for bit. As long as shares are equal powers of two each has one
node, and what is exchanged is as much as in an ordinary all-reduce.
"""

from __future__ import annotations

from torch import Tensor

Node = tuple[int, int]


def shares(total: int, parts: int) -> list[range]:
    """0 … ``total`` - 1 cut into ``parts`` consecutive ranges whose lengths differ by at most one."""
    bounds = [total * part // parts for part in range(parts + 1)]
    return [range(bounds[part], bounds[part + 1]) for part in range(parts)]


def nodes_of(pieces: range) -> list[Node]:
    """The nodes that a process holding ``pieces`` ends up with, in order."""
    nodes: list[Node] = []
    for piece in pieces:
        nodes.append((0, piece))
        while len(nodes) > 1 and _siblings(nodes[-2], nodes[-1]):
            _, (level, place) = nodes.pop(), nodes.pop()
            nodes.append((level + 1, place // 2))
    return nodes


class OrderedSum:
    """Adds vectors along the tree. They must come in the order of their numbers, and are changed in place."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.values: list[Tensor] = []

    def add(self, node: Node, value: Tensor) -> None:
        """Take in the vector of ``node`` and add up whatever has become complete."""
        self.nodes.append(node)
        self.values.append(value)
        while len(self.nodes) > 1 and _siblings(self.nodes[-2], self.nodes[-1]):
            self._merge()

    def total(self) -> Tensor:
        """The sum of all vectors, none missing."""
        while len(self.nodes) > 1:
            self._merge()
        return self.values[0]

    def _merge(self) -> None:
        right = self.values.pop()
        self.nodes.pop()
        level, place = self.nodes[-1]
        self.nodes[-1] = (level + 1, place // 2)
        self.values[-1].add_(right)


def _siblings(left: Node, right: Node) -> bool:
    return left[0] == right[0] and left[1] % 2 == 0 and right[1] == left[1] + 1


def padded(length: int, processes: int) -> int:
    """``length`` rounded up to a multiple of ``processes``."""
    return -(-length // processes) * processes
