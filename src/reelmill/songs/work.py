"""What a worker is given to do, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from reelmill.songs.store.song import Song


@dataclass(frozen=True, kw_only=True)
class Work:
    """A shard to be made, and which of its two halves."""

    shard: int
    first: int
    count: int
    text: bool
    audio: bool


class Source(Protocol):
    """What a worker asks and tells. Calls come from two of its threads."""

    @property
    def waits(self) -> bool:
        """Whether there may be work later where there is none now."""
        ...

    def next(self) -> Work | None:
        """The next shard to make, leased; None if there is nothing to begin now."""
        ...

    def taken_up(self, shard: int, songs: int, song: Song) -> None:
        """``song`` is in its shard, the last of ``songs`` so far."""
        ...

    def release(self, shard: int) -> None:
        """A shard is in hand no longer, finished or not."""
        ...

    def again(self, work: Work) -> None:
        """Work that came to nothing, and is to be looked at again."""
        ...

    def doubt(self) -> list[str]:
        """Once all is made: what is wrong with what has only been looked at so far; it is handed out then."""
        ...
