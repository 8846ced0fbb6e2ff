"""PFX files that something broke on their way, and files that are nothing at all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shared.pkcs12.asn1 import Asn1Error
from shared.pkcs12.file import Pkcs12
from shared.validation.recognising.guise import UPLOAD_AS_IT_IS, Guise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# PFX ::= SEQUENCE { version INTEGER (3), authSafe SEQUENCE ... } (RFC 7292 section 4), with a length of any form.
_START = re.compile(
    rb"\x30(?:\x80|[\x10-\x7f]|\x81[\s\S]|\x82[\s\S]{2}|\x83[\s\S]{3}|\x84[\s\S]{4})\x02\x01\x03\x30[\s\S]{1,5}\x06\x09"
)
_SEARCHED_BYTES = 16_384
"""How far down a PFX is looked for behind something else, such as the headers of an answer."""
_REPLACEMENT = b"\xef\xbf\xbd"
_SURELY_TEXT = 2
_FILLING = 16
_MANY = 128
_ASCII = 0x80
_LENGTH_OCTETS = 0x80


def is_pfx(content: bytes) -> bool:
    """Whether a file begins as a PFX does; it may be cut short or damaged."""
    return _START.match(content) is not None


def damage_of(content: bytes) -> Guise | None:
    """What broke a file, as far as it shows."""
    if not content:
        return Guise(what="it is empty", cure="Upload it again: the transfer, or what made the file, failed.")
    if not content.strip(content[:1]) and (len(content) >= _FILLING or content[0] == 0):
        filling = "zero" if content[0] == 0 else "the same"
        cure = "Upload it again: the transfer, or the copy that was made before, failed."
        return Guise(what=f"all of its {len(content)} octets are {filling}", cure=cure)
    return _converted(content) or _cut_short(content)


def _converted(content: bytes) -> Guise | None:
    if not _is_sequence(content):
        return None
    for name, restored in _restored(content):
        if restored != content and _parses(restored):
            return Guise(what=f"it is a PFX that was almost certainly handled as text: {name}", cure=UPLOAD_AS_IT_IS)
    if content.count(_REPLACEMENT) >= _SURELY_TEXT:
        lost = "what is no UTF-8 in it was replaced (by EF BF BD) and is lost"
        return Guise(what=f"it was handled as text: {lost}", cure=UPLOAD_AS_IT_IS)
    if len(content) > _MANY and max(content) < _ASCII and min(content) < ord("\t"):
        lost = "all octets above 127 in it were replaced and are lost"
        return Guise(what=f"it was handled as text: {lost}", cure=UPLOAD_AS_IT_IS)
    return None


def _is_sequence(content: bytes) -> bool:
    return content.removeprefix(b"\xef\xbb\xbf").removeprefix(b"\xff\xfe")[:1] == b"\x30"


def _restored(content: bytes) -> Iterator[tuple[str, bytes]]:
    """What it was before each of the usual conversions, where that can be told."""
    yield "its line feeds became CR LF", content.replace(b"\r\n", b"\n")
    yield "its carriage returns became CR LF", content.replace(b"\r\n", b"\r")
    yield "a byte-order mark was put before it", content.removeprefix(b"\xef\xbb\xbf")
    ways: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
        ("Latin-1 became UTF-8", lambda octets: octets.decode("utf-8-sig").encode("latin-1")),
        ("code page 1252 became UTF-8", lambda octets: _from_windows(octets.decode("utf-8-sig"))),
        ("Latin-1 became UTF-16", lambda octets: octets.decode("utf-16").encode("latin-1")),
        ("code page 1252 became UTF-16", lambda octets: _from_windows(octets.decode("utf-16"))),
        ("code page 437 became UTF-16", lambda octets: octets.decode("utf-16").encode("cp437")),
    )
    for name, restore in ways:
        try:
            yield name, restore(content)
        except UnicodeError:
            continue


def _from_windows(text: str) -> bytes:
    """Code page 1252 as Windows reads it: the five octets that have no character stand for a control character."""
    return b"".join(_windows_octet(letter) for letter in text)


def _windows_octet(letter: str) -> bytes:
    return letter.encode("latin-1") if ord(letter) < 0xA0 else letter.encode("cp1252")  # noqa: PLR2004 - first letter


def _cut_short(content: bytes) -> Guise | None:
    if not is_pfx(content) or content[1] <= _LENGTH_OCTETS:
        return None
    start = 2 + content[1] - _LENGTH_OCTETS
    stated = start + int.from_bytes(content[2:start])
    if stated <= len(content):
        return None
    missing = stated - len(content)
    what = f"it is a PFX that is cut short: {missing} of the {stated} octets that it states are missing"
    return Guise(what=what, cure="Upload it again, whole.")


def behind(content: bytes) -> Guise | None:
    """A PFX that something else stands before."""
    found = _START.search(content, 1, _SEARCHED_BYTES)
    if found is None or not _parses(content[found.start() :]):
        return None
    octets = "an octet" if found.start() == 1 else f"{found.start()} octets"
    what = f"a PFX is in it, but behind {octets} of something else, such as headers"
    return Guise(what=what, cure="Save the PFX alone, and upload it as it is.")


def _parses(content: bytes) -> bool:
    try:
        Pkcs12.parse(content)
    except Asn1Error:
        return False
    return True
