"""Text in its encodings, and PFX files that were written as text."""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
from dataclasses import dataclass
from urllib.parse import unquote

from shared.validation.recognising.damage import is_pfx

_MARKS = {
    codecs.BOM_UTF8: ("utf-8", ""),
    codecs.BOM_UTF16_LE: ("utf-16-le", "UTF-16"),
    codecs.BOM_UTF16_BE: ("utf-16-be", "UTF-16"),
}
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f]")
"""What is in no text; the one left out between ends a file of DOS."""
_ARMOUR = re.compile(r"\A\s*-----BEGIN [A-Z0-9 ]{1,40}-----([A-Za-z0-9+/=\s]*)-----END [A-Z0-9 ]{1,40}-----\s*\Z")
_DATA_URL = re.compile(r"\Adata:[^,\s]{0,200};base64,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{48,}\Z")
"""Shorter text is prose, or a word: no certificate and no key is so short."""
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u2060\x1a"))
_URL_SAFE = str.maketrans("-_", "+/")
_QUOTED = re.compile(r"\Ab?([\"'`])(.*)\1[,;]?\Z", re.DOTALL)
_MAX_LAYERS = 3
_MAX_PADDING = 2
_GROUP = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A file that is text.

    Attributes:
        value: It, without mark and white space around it.
        encoding: Its encoding by the name that iconv knows; empty where it is ASCII or UTF-8.
    """

    value: str
    encoding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """What a text encodes.

    Attributes:
        content: The octets.
        way: How, as in "base64 text".
        cure: What makes a file named `decoded` of the file FILE, as a sentence.
    """

    content: bytes
    way: str
    cure: str


def text_of(content: bytes) -> Text | None:
    """A file as text; None where it is none."""
    for mark, (codec, encoding) in _MARKS.items():
        if content.startswith(mark):
            return _read(content.removeprefix(mark), codec, encoding)
    if content and not any(content[1:200:2]):
        return _read(content, "utf-16-le", "UTF-16LE")
    if content and not any(content[:200:2]):
        return _read(content, "utf-16-be", "UTF-16BE")
    # The attributes before a block of PEM may be in any encoding.
    return _read(content, "utf-8", "") or (_read(content, "latin-1", "") if b"-----BEGIN " in content else None)


def _read(content: bytes, codec: str, encoding: str) -> Text | None:
    try:
        text = content.decode(codec)
    except UnicodeDecodeError:
        return None
    if not text.isprintable() and _CONTROL.search(text):
        return None
    return Text(value=text.translate(_INVISIBLE).strip(), encoding=encoding)


def pfx_in_text(content: bytes) -> bytes | None:
    """The PFX that a file holds as base64 text; None where it holds none.

    Taken are lines of any length, quotation marks, a byte-order mark, UTF-16, JSON as `az keyvault secret show` prints
    it, `data:` URLs, the alphabet for URLs, PEM-like lines around it, and base64 of base64. What is decoded is shorter
    than what it was decoded from, so that a limit on the file is one on both.
    """
    for _ in range(_MAX_LAYERS):
        text = text_of(content)
        inner = None if text is None else decoded_of(text.value)
        if inner is None:
            return None
        content = inner.content
        if is_pfx(content):
            return content
    return None


def is_json(text: str) -> bool:
    """Whether a text begins as JSON does."""
    return text[:1] in {"{", '"', "["}


def decoded_of(text: str) -> Inner | None:
    """What is encoded in a text, if it is nothing but that."""
    if is_json(text) and (value := _json_value(text)) is not None:
        octets = _from_base64(value)
        cure = "Save its value alone in a file named `decoded`."
        return Inner(content=value.encode() if octets is None else octets, way="JSON text", cure=cure)
    octets = _from_base64(text)
    if octets is None:
        return None
    return Inner(content=octets, way="base64 text", cure="Decode it: `base64 -d -i FILE > decoded`.")


def _json_value(text: str) -> str | None:
    """The string that a JSON text is, or has as "value"; None where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        value = value.get("value")
    return value.strip() if isinstance(value, str) and not _CONTROL.search(value) else None


def _from_base64(text: str) -> bytes | None:
    quoted = _QUOTED.match(text)
    text = quoted[2] if quoted else text
    armoured = _ARMOUR.match(text)
    text = armoured[1] if armoured else _DATA_URL.sub("", text)
    if "-----" in text:  # PEM, of which the alphabet for URLs would make noise
        return None
    text = "".join(text.replace("\\r", "").replace("\\n", "").split())
    text = (unquote(text) if "%" in text else text).translate(_URL_SAFE)
    bare = text.rstrip("=")
    if len(text) - len(bare) > _MAX_PADDING or len(bare) % _GROUP == 1 or not _BASE64.match(bare):
        return None
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % _GROUP))
    except (binascii.Error, ValueError):
        return None
