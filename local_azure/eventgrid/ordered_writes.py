"""Slots for writing a blob, so that the order in which events are numbered is the order in which storage changed.

A slot is taken just before the last byte of a request goes out, so that a client that stalls in the middle of an upload
keeps no other waiting.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator


class Slot:
    """The right to write some blobs, once it has been taken and until it ends."""

    def __init__(self, locks: Iterable[asyncio.Lock]) -> None:
        self._locks = list(locks)
        self._held: list[asyncio.Lock] = []
        self._over = False

    async def take(self) -> None:
        """Wait until no other is writing any of the blobs; does nothing once the slot has ended."""
        while self._locks and not self._over:
            lock = self._locks.pop(0)
            await lock.acquire()
            self._held.append(lock)
        if self._over:
            self.end()

    def end(self) -> None:
        """Let the next writer in; may be called again, and before the slot was taken."""
        self._over = True
        while self._held:
            self._held.pop().release()


class WriteOrder:
    """Keeps the writers of each blob in line; blobs do not wait for each other."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @contextmanager
    def slot(self, blobs: Iterable[tuple[str, str]]) -> Iterator[Slot]:
        """A slot for some blobs, named by container and name; it ends with the block at the latest."""
        # Sorted, so that two writers of the same blobs never wait for each other.
        slot = Slot([self._locks.setdefault(blob, asyncio.Lock()) for blob in sorted(set(blobs))])
        try:
            yield slot
        finally:
            slot.end()
