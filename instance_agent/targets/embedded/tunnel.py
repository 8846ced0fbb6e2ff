"""A connection that became a tunnel: bytes both ways, each side read no faster than the other takes them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from aiohttp import StreamReader, web
from aiohttp.http import StreamWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.client_proto import ResponseHandler

_BUFFER_BYTES = 65_536


class _Inlet:
    """What aiohttp calls the parser of an upgraded connection; this one parses nothing."""

    def __init__(self, stream: StreamReader) -> None:
        self._stream = stream

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take what came; never says that it was the last."""
        self._stream.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        """The connection has ended."""
        self._stream.feed_eof()

    def set_exception(self, error: BaseException, _: BaseException | None = None) -> None:
        """The connection has broken."""
        self._stream.set_exception(error)


class End:
    """One end of a tunnel.

    Args:
        protocol: An upgraded connection of aiohttp's server or client.
    """

    def __init__(self, protocol: web.RequestHandler | ResponseHandler) -> None:
        loop = asyncio.get_running_loop()
        self.stream = StreamReader(protocol, _BUFFER_BYTES, loop=loop)
        self.writer = StreamWriter(protocol, loop)
        inlet: Any = _Inlet(self.stream)
        if isinstance(protocol, web.RequestHandler):
            protocol.set_parser(inlet)
        else:
            protocol.set_parser(inlet, self.stream)


async def splice(one: End, other: End, on_progress: Callable[[], None]) -> None:
    """Carry bytes both ways until either end is over; what it sent before is still delivered."""
    pumps = [asyncio.create_task(_pump(*ends, on_progress)) for ends in ((one, other), (other, one))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(source: End, sink: End, on_progress: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        while data := await source.stream.readany():
            on_progress()
            await sink.writer.write(data, drain=False)
            await sink.writer.drain()
