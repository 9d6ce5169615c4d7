"""The sum of all processes' gradient vectors, equal bit for bit in each: in shared memory, or by messages.

Both ways add along the tree of ``gradients``: each process finishes one slice of the vector, then everyone
gets all slices. Processes of one machine that train on its CPU see each other's vectors in shared memory and
pass nothing but two signs a step; all others send pieces to each other. The bits are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from reelmill.anonymous import anonymous_file
from reelmill.training.gradients import Node, OrderedSum, nodes_of

Way = Callable[[OrderedSum], Tensor]
"""From a process's own sums to the sum of all; their vectors are overwritten."""


class Exchange:
    """Adds up the vectors of all processes; ``pieces`` says which pieces each process holds.

    The way is chosen at the first call, together. The vectors' length must stay the same and be a multiple of
    the number of processes (``gradients.padded``).
    """

    def __init__(
        self, pieces: Sequence[range], rank: int, group: dist.ProcessGroup | None, device: torch.device
    ) -> None:
        self._nodes = [nodes_of(share) for share in pieces]
        self._rank, self._group, self._device = rank, group, device
        self.way: Way | None = None

    def __call__(self, mine: OrderedSum) -> Tensor:
        """The sum, a tensor of this process's own."""
        if self._group is None:
            return mine.total()
        if self.way is None:
            self.way = self._choose(mine.values[0])
        return self.way(mine)

    def _choose(self, like: Tensor) -> Way:
        if self._device.type == "cpu" and like.dtype == torch.float32:
            vectors = _shared_vectors(self._nodes, len(like), self._rank, self._group)
            if vectors:
                return InSharedMemory(self._nodes, self._rank, self._group, vectors)
        return ByMessages(self._nodes, self._rank, self._group)


class ByMessages:
    """Each process sends everyone its slice of what it has, finishes its own slice, and sends that."""

    def __init__(self, nodes: Sequence[Sequence[Node]], rank: int, group: dist.ProcessGroup | None) -> None:
        self._nodes, self._rank, self._group = nodes, rank, group

    def __call__(self, mine: OrderedSum) -> Tensor:
        rank, size = self._rank, len(self._nodes)
        others = [other for other in range(size) if other != rank]
        slices = [value.view(size, -1) for value in mine.values]  # of each node, one for each process
        received = [[torch.empty_like(slices[0][rank]) for _ in nodes] for nodes in self._nodes]
        received[rank] = [value[rank] for value in slices]
        self._pass_on(
            [(value[other], other) for other in others for value in slices],
            [(value, other) for other in others for value in received[other]],
        )
        whole = slices[0]  # all of it but this process's slice has been sent
        whole[rank].copy_(_summed(self._nodes, received))
        self._pass_on([(whole[rank], other) for other in others], [(whole[other], other) for other in others])
        return whole.view(-1)

    def _pass_on(self, sent: list[tuple[Tensor, int]], received: list[tuple[Tensor, int]]) -> None:
        """Send tensors to other processes, and fill tensors with what these send, in the order given."""
        # In pairs: gloo's own all-to-all and all-gather take three times as long.
        sends = [dist.P2POp(dist.isend, value, other, self._group) for value, other in sent]
        receives = [dist.P2POp(dist.irecv, value, other, self._group) for value, other in received]
        for work in dist.batch_isend_irecv(sends + receives):
            work.wait()


class InSharedMemory:
    """Each process finishes its slice of ``vectors``, where all see them.

    ``vectors`` has a tensor for each process, [its nodes + 1, length]: its sums, and a row whose slice number
    ``rank`` takes the total of that slice. A process that is lost ends the wait for it, as with messages.
    """

    def __init__(
        self,
        nodes: Sequence[Sequence[Node]],
        rank: int,
        group: dist.ProcessGroup | None,
        vectors: Sequence[Tensor],
    ) -> None:
        self._nodes, self._group = nodes, group
        self._mine = vectors[rank][:-1]
        slices = [vector.view(len(vector), len(nodes), -1) for vector in vectors]
        self._slices = [list(each[:-1, rank]) for each in slices]
        self._totals = [each[-1, number] for number, each in enumerate(slices)]
        self._total = self._totals[rank]

    def __call__(self, mine: OrderedSum) -> Tensor:
        for place, value in zip(self._mine, mine.values, strict=True):
            place.copy_(value)
        dist.barrier(self._group)  # all sums are there, and the last totals have been read
        self._total.copy_(_summed(self._nodes, self._slices))
        dist.barrier(self._group)  # all totals are there, and the sums have been read
        return torch.cat(self._totals, out=mine.values[0])


def _summed(nodes: Sequence[Sequence[Node]], slices: Sequence[Sequence[Tensor]]) -> Tensor:
    """The total of one slice, added up in the slices of the nodes themselves."""
    total = OrderedSum()
    for node, value in zip(chain(*nodes), chain(*slices), strict=True):
        total.add(node, value)
    return total.total()


def _shared_vectors(
    nodes: Sequence[Sequence[Node]], length: int, rank: int, group: dist.ProcessGroup | None
) -> list[Tensor] | None:
    """A tensor [nodes + 1, length] of each process, float32, seen by all; None in all if any cannot see one.

    They lie in anonymous files, so nothing is left behind whatever is killed. That each process really sees
    what the others have made is tried with a random number.
    """
    sizes = [4 * length * (len(own) + 1) for own in nodes]
    token = secrets.randbits(62)
    with anonymous_file(token.to_bytes(8, "little")) as file:
        file.truncate(sizes[rank])
        told = torch.tensor([_machine(), os.getpid(), file.fileno(), token])
        heard = [torch.empty_like(told) for _ in nodes]
        dist.all_gather(heard, told, group=group)
        maps = [_opened(one.tolist(), size) for one, size in zip(heard, sizes, strict=True)]
        blind = torch.tensor([one is None for one in maps]).any().int()
        dist.all_reduce(blind, group=group)  # and everyone has opened what is closed here
    if blind.item():
        return None
    return [torch.frombuffer(one, dtype=torch.float32).view(-1, length) for one in maps if one is not None]


def _opened(told: list[int], size: int) -> mmap.mmap | None:
    """The memory that a process has told of, if it is of this machine and can be seen from here."""
    machine, process, descriptor, token = told
    if machine != _machine():
        return None
    try:
        with Path(f"/proc/{process}/fd/{descriptor}").open("r+b", buffering=0) as file:
            seen = mmap.mmap(file.fileno(), size)
    except (OSError, ValueError):
        return None
    return seen if seen[:8] == token.to_bytes(8, "little") else None


def _machine() -> int:
    """A number that processes of one machine, and of one container on it, have in common."""
    facts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        facts += [
            Path("/proc/sys/kernel/random/boot_id").read_text(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return int.from_bytes(hashlib.sha256("\n".join(facts).encode()).digest()[:7], "little")
