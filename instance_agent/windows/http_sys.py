"""http.sys's certificate records through the HTTP Server API (httpapi.dll).

What netsh prints is in the language of Windows, and its JSON exists on newer versions only; the API is on all.
https://learn.microsoft.com/en-us/windows/win32/http/http-server-api-version-1-0-functions
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from instance_agent.targets.iis.gateway import GatewayError
from instance_agent.windows import http_structures as native
from instance_agent.windows.http_structures import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from instance_agent.targets.iis.records import SslRecord

_INITIALIZE_CONFIG: Final = 2
_NO_ERROR: Final = 0
_NO_SUCH_RECORD: Final = frozenset({2, 1168})  # ERROR_FILE_NOT_FOUND, ERROR_NOT_FOUND
_TOO_SMALL: Final = frozenset({122, 234})  # ERROR_INSUFFICIENT_BUFFER, ERROR_MORE_DATA
_NO_MORE_ITEMS: Final = 259
_WIN32: Final = 0x80070000
_FIRST_SIZE: Final = 1024


class HttpApi:
    """The `HttpSys` of this machine.

    Args:
        library: httpapi.dll, loaded.
    """

    def __init__(self, library: Any) -> None:  # noqa: ANN401 - a library has the functions that it exports
        self._library = library

    def records(self, endpoints: Collection[str] | None = None) -> list[SslRecord]:
        """All records, or those of some endpoints: each is asked for by itself, however many others there are."""
        with self._initialised():
            if endpoints is None:
                return [record for kind in Kind for record in self._all(kind)]
            asked = [key for endpoint in endpoints for key in native.keys_of(endpoint)]
            return [record for key in asked if (record := self._one(key)) is not None]

    def put(self, record: SslRecord) -> None:
        """By one call where this Windows has it, which leaves no moment without a record; else delete and set."""
        written = native.written(record)
        with self._initialised():
            if hasattr(self._library, "HttpUpdateServiceConfiguration"):
                self._call("HttpUpdateServiceConfiguration", written)
                return
            there = self._one(written.key)
            if there is not None:
                self._call("HttpDeleteServiceConfiguration", written)
            try:
                self._call("HttpSetServiceConfiguration", written)
            except GatewayError:
                if there is not None:
                    self._call("HttpSetServiceConfiguration", native.written(there))
                raise

    def delete(self, record: SslRecord) -> None:
        """`HttpDeleteServiceConfiguration`."""
        with self._initialised():
            self._call("HttpDeleteServiceConfiguration", native.written(record))

    def _all(self, kind: Kind) -> Iterator[SslRecord]:
        token = 0
        while (record := self._query(native.next_query(kind, token), kind)) is not None:
            yield record
            token += 1

    def _one(self, key: native.Key) -> SslRecord | None:
        return self._query(native.exact_query(key), key.kind)

    def _query(self, query: ctypes.Structure, kind: Kind) -> SslRecord | None:
        size = ctypes.c_uint32(_FIRST_SIZE)
        while True:
            buffer = ctypes.create_string_buffer(size.value)
            code = self._library.HttpQueryServiceConfiguration(
                None, kind, ctypes.byref(query), ctypes.sizeof(query), buffer, size.value, ctypes.byref(size), None
            )
            if code == _NO_ERROR:
                return native.read(buffer, kind)
            if code == _NO_MORE_ITEMS or code in _NO_SUCH_RECORD:
                return None
            if code not in _TOO_SMALL or size.value <= len(buffer):
                raise _error("HttpQueryServiceConfiguration", code)

    def _call(self, function: str, written: native.Written) -> None:
        code = getattr(self._library, function)(
            None, written.key.kind, ctypes.byref(written.structure), ctypes.sizeof(written.structure), None
        )
        if code != _NO_ERROR:
            raise _error(f"{function} for {written.key}", code)

    @contextmanager
    def _initialised(self) -> Iterator[None]:
        code = self._library.HttpInitialize(native.Version(1, 0), _INITIALIZE_CONFIG, None)
        if code != _NO_ERROR:
            raise _error("HttpInitialize", code)
        try:
            yield
        finally:
            self._library.HttpTerminate(_INITIALIZE_CONFIG, None)


def _error(what: str, code: int) -> GatewayError:
    return GatewayError(f"http.sys refused {what}", code=_WIN32 | code)
