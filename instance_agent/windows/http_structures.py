"""The structures of the HTTP Server API for certificate records, to and from `SslRecord`; calls nothing.

Text is kept as UTF-16 bytes and numbers in their sizes on Windows, so that it reads and writes the same everywhere.
https://learn.microsoft.com/en-us/windows/win32/api/http/
"""

from __future__ import annotations

import ctypes
import ipaddress
import struct
import uuid
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from instance_agent.targets.iis.bindings import ANY_ADDRESS
from instance_agent.targets.iis.international import in_letters
from instance_agent.targets.iis.records import SslRecord, SslSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

_U32, _POINTER = ctypes.c_uint32, ctypes.c_void_p
_EXACT: Final = 0
_NEXT: Final = 1
_AF_INET: Final = 2
_AF_INET6: Final = 23  # of Windows
_IPV4_BYTES: Final = 16
_IPV6_BYTES: Final = 28
_LONGEST_TEXT: Final = 1024
_CENTRAL: Final = "central"


class Kind(IntEnum):
    """`HTTP_SERVICE_CONFIG_ID` of the three kinds of records."""

    ADDRESS = 1
    NAME = 5
    CENTRAL = 6


class Version(ctypes.Structure):
    """`HTTPAPI_VERSION`."""

    _fields_ = (("major", ctypes.c_uint16), ("minor", ctypes.c_uint16))


class _Storage(ctypes.Structure):
    """`SOCKADDR_STORAGE`: 128 bytes on a boundary of eight."""

    _fields_ = (("words", ctypes.c_uint64 * 16),)


class _AddressKey(ctypes.Structure):
    _fields_ = (("address", _POINTER),)


class _NameKey(ctypes.Structure):
    _fields_ = (("address", _Storage), ("host", _POINTER))


class _CentralKey(ctypes.Structure):
    _fields_ = (("address", _Storage),)


class _Parameters(ctypes.Structure):
    """`HTTP_SERVICE_CONFIG_SSL_PARAM`."""

    _fields_ = (
        ("hash_length", _U32),
        ("hash", _POINTER),
        ("application", ctypes.c_uint32 * 4),  # a GUID, on a boundary of four
        ("store", _POINTER),
        ("check_mode", _U32),
        ("freshness_s", _U32),
        ("retrieval_timeout_ms", _U32),
        ("ctl_identifier", _POINTER),
        ("ctl_store", _POINTER),
        ("flags", _U32),
    )


_KEYS: Final[dict[Kind, type[ctypes.Structure]]] = {
    Kind.ADDRESS: _AddressKey,
    Kind.NAME: _NameKey,
    Kind.CENTRAL: _CentralKey,
}


def _query_type(kind: Kind) -> type[ctypes.Structure]:
    fields = (("what", ctypes.c_int), ("key", _KEYS[kind]), ("token", _U32))
    return type(f"_{kind.name}Query", (ctypes.Structure,), {"_fields_": fields})


def _set_type(kind: Kind) -> type[ctypes.Structure]:
    fields = (("key", _KEYS[kind]), ("parameters", _Parameters))
    return type(f"_{kind.name}Set", (ctypes.Structure,), {"_fields_": fields})


_QUERIES: Final = {kind: _query_type(kind) for kind in Kind}
_SETS: Final = {kind: _set_type(kind) for kind in Kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What identifies a record.

    Attributes:
        kind: Which of the three.
        ip: Its address; that of no host where the kind has none.
        host: Its name, with kind `NAME`.
        port: TCP port.
    """

    kind: Kind
    ip: str = "0.0.0.0"  # noqa: S104 - what the API asks for where there is no address
    host: str = ""
    port: int

    def __str__(self) -> str:
        return f"{self.host or self.ip}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A record as the API takes it.

    Attributes:
        key: Its key.
        structure: `HTTP_SERVICE_CONFIG_SSL_SET` or the one of its kind.
        kept: What the structure points to.
    """

    key: Key
    structure: ctypes.Structure
    kept: list[object] = field(repr=False)


def keys_of(endpoint: str) -> Iterator[Key]:
    """The keys that a record with this `Binding.endpoint` can have: two for all addresses or international names."""
    name, _, digits = endpoint.rpartition(":")
    port = int(digits)
    if name == _CENTRAL:
        yield Key(kind=Kind.CENTRAL, port=port)
    elif name == ANY_ADDRESS:
        yield Key(kind=Kind.ADDRESS, port=port)
        yield Key(kind=Kind.ADDRESS, ip="::", port=port)
    elif _is_address(name):
        yield Key(kind=Kind.ADDRESS, ip=name, port=port)
    else:
        for host in dict.fromkeys((in_letters(name), name)):
            yield Key(kind=Kind.NAME, host=host, port=port)


def exact_query(key: Key) -> ctypes.Structure:
    """The query for one record; what it points to lives as long as it does."""
    query = _QUERIES[key.kind](what=_EXACT)
    kept: list[object] = []
    query.key = _native_key(key, kept)
    query.kept = kept
    return query


def next_query(kind: Kind, token: int) -> ctypes.Structure:
    """The query for the record number `token` of a kind."""
    return _QUERIES[kind](what=_NEXT, token=token)


def written(record: SslRecord) -> Written:
    """A record as the API takes it."""
    kept: list[object] = []
    key = _key_of(record)
    digest = bytes.fromhex(record.thumbprint)
    application = uuid.UUID(record.application).bytes_le if record.application else bytes(16)
    parameters = _Parameters(
        hash_length=len(digest),
        hash=_pointer(digest, kept) if digest else None,
        application=(ctypes.c_uint32 * 4)(*struct.unpack("<4I", application)),
        store=_text_pointer(record.store, kept),
        check_mode=record.settings.check_mode,
        freshness_s=record.settings.freshness_s,
        retrieval_timeout_ms=record.settings.retrieval_timeout_ms,
        ctl_identifier=_text_pointer(record.settings.ctl_identifier, kept),
        ctl_store=_text_pointer(record.settings.ctl_store, kept),
        flags=record.settings.flags,
    )
    return Written(key=key, structure=_SETS[key.kind](key=_native_key(key, kept), parameters=parameters), kept=kept)


def read(buffer: ctypes.Array[ctypes.c_char], kind: Kind) -> SslRecord:
    """The record that a query put into a buffer."""
    found = _SETS[kind].from_buffer(buffer)
    key, parameters = found.key, found.parameters
    ip, port = _address(key.address if kind is Kind.ADDRESS else ctypes.addressof(key.address))
    digest = ctypes.string_at(parameters.hash, parameters.hash_length) if parameters.hash else b""
    return SslRecord(
        ip=ip if kind is Kind.ADDRESS else None,
        host=_text(key.host).lower() if kind is Kind.NAME else None,
        port=port,
        thumbprint=digest.hex().upper(),
        application=f"{{{uuid.UUID(bytes_le=struct.pack('<4I', *parameters.application))}}}",
        store=_text(parameters.store),
        settings=SslSettings(
            check_mode=parameters.check_mode,
            freshness_s=parameters.freshness_s,
            retrieval_timeout_ms=parameters.retrieval_timeout_ms,
            ctl_identifier=_text(parameters.ctl_identifier),
            ctl_store=_text(parameters.ctl_store),
            flags=parameters.flags,
        ),
    )


def _key_of(record: SslRecord) -> Key:
    if record.ip is not None:
        return Key(kind=Kind.ADDRESS, ip=record.ip, port=record.port)
    if record.host is not None:
        return Key(kind=Kind.NAME, host=record.host, port=record.port)
    return Key(kind=Kind.CENTRAL, port=record.port)


def _native_key(key: Key, kept: list[object]) -> ctypes.Structure:
    packed = _packed(key.ip, key.port)
    if key.kind is Kind.ADDRESS:
        return _AddressKey(address=_pointer(packed, kept))
    storage = _Storage.from_buffer_copy(packed.ljust(ctypes.sizeof(_Storage), b"\0"))
    if key.kind is Kind.NAME:
        return _NameKey(address=storage, host=_text_pointer(key.host, kept))
    return _CentralKey(address=storage)


def _packed(ip: str, port: int) -> bytes:
    """`SOCKADDR_IN` or `SOCKADDR_IN6`: family as the machine has it, port and address as the network has them."""
    address = ipaddress.ip_address(ip)
    if address.version == 4:  # noqa: PLR2004 - IPv4
        return struct.pack("<H", _AF_INET) + struct.pack(">H", port) + address.packed + bytes(8)
    return struct.pack("<H", _AF_INET6) + struct.pack(">HI", port, 0) + address.packed + bytes(4)


def _address(at: int) -> tuple[str, int]:
    (family,) = struct.unpack("<H", ctypes.string_at(at, 2))
    packed = ctypes.string_at(at, _IPV6_BYTES if family == _AF_INET6 else _IPV4_BYTES)
    (port,) = struct.unpack(">H", packed[2:4])
    return str(ipaddress.ip_address(packed[8:24] if family == _AF_INET6 else packed[4:8])), port


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _pointer(content: bytes, kept: list[object]) -> int:
    buffer = ctypes.create_string_buffer(content, len(content))
    kept.append(buffer)
    return ctypes.addressof(buffer)


def _text_pointer(text: str, kept: list[object]) -> int | None:
    return _pointer(f"{text}\0".encode("utf-16-le"), kept) if text else None


def _text(at: int | None) -> str:
    """The UTF-16 text at an address, to its end."""
    if not at:
        return ""
    units = bytearray()
    while len(units) < 2 * _LONGEST_TEXT and (unit := ctypes.string_at(at + len(units), 2)) != b"\0\0":
        units += unit
    return units.decode("utf-16-le", errors="replace")
