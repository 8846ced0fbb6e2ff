"""Passwords in the forms in which PKCS#12 files use them, and in those in which people and programs get them wrong."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BYTE_ORDER_MARK = "\ufeff"
_MISREAD_MARK = BYTE_ORDER_MARK.encode().decode("cp1252")
_LINE_ENDS = "\r\n"
_INVISIBLE = "\0\u200b\u200c\u200d\u2060"
"""Besides white space: the end of a C string, and characters of no width that come along from pages."""
_QUOTES = "\"'`\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"
_CODE_PAGES = ("cp1252", "cp850", "cp437")
"""Of Windows in the west: for its windows, and for its console."""
_GIVE_IT_SO = "Give it so, in CertificatePassword or in the secret that this refers to."
_EXPORT_IT = "Export the file again, with the password alone."
_LEAVE_IT_OUT = "Leave CertificatePassword out, or better, export the file again with a password."


@dataclass(frozen=True, slots=True, kw_only=True)
class Password:
    """A password in the two forms in which PKCS#12 files use it.

    Attributes:
        utf8: For PBES2 and PBMAC1 (RFC 8018).
        bmp: For the derivation of PKCS#12 itself: UTF-16 with a final null character (RFC 7292 appendix B.1).
        said: How it differs from the password that was given, as a clause; empty where it does not.
        cure: What to do about it where its characters are others; empty where only the octets that stand for them are.
    """

    utf8: bytes = field(repr=False)
    bmp: bytes = field(repr=False)
    said: str = field(default="", compare=False)
    cure: str = field(default="", compare=False)


NONE = (Password(utf8=b"", bmp=b""), Password(utf8=b"", bmp=b"\0\0"))
"""No password, and the empty one."""


def spellings(passwords: Sequence[bytes | None]) -> tuple[Password, ...]:
    """The distinct forms to try.

    An absent and an empty password differ in PKCS#12 (nothing against one null character), programs disagree which one
    "no password" means, and no person can tell them apart: so either is tried for both.
    """
    tried: dict[Password, None] = {}
    for password in passwords or (None,):
        for form in NONE if not password else (Password(utf8=password, bmp=_bmp(_text(password))),):
            tried[form] = None
    return tuple(tried)


def respellings(passwords: Sequence[bytes | None]) -> Iterator[Password]:
    """Distinct forms that are none of `spellings`, but that people or programs take for the same, likely ones first.

    Of a password in ASCII without white space around it there are five.
    """
    tried = dict.fromkeys(spellings(passwords))
    for password in passwords:
        if password:
            text = _text(password)
            for form in (*_other_octets(text), *_other_characters(text)):
                if form not in tried:
                    tried[form] = None
                    yield form


def oddities(passwords: Sequence[bytes | None]) -> str:
    """What is at either end of a password that is hardly meant, as a clause; empty where there is nothing."""
    for password in passwords:
        text = _text(password or b"")
        if (meant := _bare(text)) != text:
            return _around(text, meant)
    return ""


def _text(password: bytes) -> str:
    try:
        return password.decode()
    except UnicodeDecodeError:
        return password.decode("latin-1")


def _bmp(text: str) -> bytes:
    return text.encode("utf-16-be") + b"\0\0"


def _of(text: str, said: str, cure: str = "") -> Password:
    return Password(utf8=text.encode(), bmp=_bmp(text), said=said, cure=cure)


def _other_octets(text: str) -> Iterator[Password]:
    """The same characters, as programs wrote them by mistake (OpenSSL's passphrase-encoding(7) tells of the first)."""
    if text.isascii():
        return
    utf8 = text.encode()
    misread = utf8.decode("latin-1")
    said = "each octet of its UTF-8 taken for a character, as OpenSSL before 1.1 did"
    yield Password(utf8=utf8, bmp=_bmp(misread), said=said)
    yield _of(misread, said)
    for form in ("NFC", "NFD"):
        normal = unicodedata.normalize(form, text)
        composed = "composed" if form == "NFC" else "decomposed"
        yield _of(normal, f"its letters and accents {composed} (Unicode's {form})")
    for page in _CODE_PAGES:
        if (octets := _encoded(text, page)) is not None:
            said = f"in code page {page.removeprefix('cp')} and not in UTF-8"
            yield Password(utf8=octets, bmp=_bmp(text), said=said)
            yield Password(utf8=octets, bmp=_bmp(octets.decode("latin-1")), said=said)
    if (misread_as_windows := _decoded(utf8, "cp1252")) is not None:
        yield _of(misread_as_windows, "its UTF-8 taken for code page 1252")
    for page in ("latin-1", "cp1252"):
        octets = _encoded(text, page)
        if octets is not None and (meant := _decoded(octets, "utf-8")) is not None:
            yield _of(meant, "its octets read as UTF-8, after something had read them as code page 1252")


def _other_characters(text: str) -> Iterator[Password]:
    """What was more likely meant, at one end or at both, and what was more likely given to the program that wrote."""
    for meant in (text.rstrip(_LINE_ENDS), _unmarked(text), text.rstrip(), _bare(text, quotes=""), _bare(text)):
        if meant and meant != text:
            yield _of(meant, f"without {_around(text, meant)}", _GIVE_IT_SO)
    for end, name in (("\r", "a carriage return"), ("\n", "a line feed"), ("\r\n", "a line end (CR LF)")):
        yield _of(text + end, f"with {name} after it", _EXPORT_IT)
    for form in NONE:
        yield Password(utf8=form.utf8, bmp=form.bmp, said="without any password", cure=_LEAVE_IT_OUT)


def _encoded(text: str, page: str) -> bytes | None:
    try:
        return text.encode(page)
    except UnicodeEncodeError:
        return None


def _decoded(octets: bytes, encoding: str) -> str | None:
    try:
        return octets.decode(encoding)
    except UnicodeDecodeError:
        return None


def _unmarked(text: str) -> str:
    return text.removeprefix(BYTE_ORDER_MARK).removeprefix(_MISREAD_MARK)


def _bare(text: str, quotes: str = _QUOTES) -> str:
    """The text without what is hardly meant at its ends: a mark, space, quotation marks, and space inside these."""
    for _ in range(2):
        text = _unmarked(text).strip().strip(_INVISIBLE + BYTE_ORDER_MARK).strip()
        if len(text) > 1 and text[0] in quotes and text[-1] in quotes:
            text = text[1:-1]
    return text


def _around(text: str, meant: str) -> str:
    """What is around a part of a text, in words: it is part of a password, and is not quoted."""
    before, _, after = text.partition(meant) if meant else (text, "", "")
    found = []
    if _unmarked(before) != before:
        found.append("a byte-order mark (U+FEFF) before it")
    for rest, where in ((_unmarked(before), "before"), (after, "after")):
        if any(letter in _QUOTES for letter in rest):
            found.append(f"a quotation mark {where} it")
        if any(letter in _LINE_ENDS for letter in rest):
            found.append(f"a line end {where} it")
        if any((letter.isspace() and letter not in _LINE_ENDS) or letter in _INVISIBLE for letter in rest):
            found.append(f"a space or an invisible character {where} it")
    return " and ".join(found)
