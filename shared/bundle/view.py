"""What can be read of a certificate that breaks rules of its encoding: a stand-in, never served and never trusted."""

from __future__ import annotations

import warnings
from contextlib import suppress
from itertools import product

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from shared.bundle.outline import SEQUENCE, Element, Outline, element, elements, inside

MAX_EXTENSIONS = 100
_EXTENSIONS = 0xA3
_SET = 0x31
_BOOLEAN = 0x01
_OCTETS = 0x04
_DNS_NAME = 0x82
_UTF8 = 0x0C
_NO_PARTS = b"\x30\x00"
_TRUE = bytes.fromhex("0101ff")
BASIC_CONSTRAINTS = bytes.fromhex("551d13")
ALTERNATIVE_NAMES = bytes.fromhex("551d11")

# How text is written (X.680 section 41): UTF-8, printable, Teletex as encoders took it, IA5, universal, BMP.
TEXT = {_UTF8: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}

# Parts of a stand-in: version and serial number, ecdsa-with-SHA256, no signature, 1970 to 9999, a key of no known kind.
_V3 = bytes.fromhex("a003020102 020101")
_ALGORITHM = bytes.fromhex("300a 06082a8648ce3d040302")
_EMPTY = bytes.fromhex("030100")
_ALL_TIME = b"\x30\x20\x17\x0d700101000000Z\x18\x0f99991231235959Z"
NO_KEY = bytes.fromhex("3008 3003 06012a 030100")
_NOTHING = Outline(
    algorithm=_ALGORITHM, issuer=_NO_PARTS, validity=_ALL_TIME, subject=_NO_PARTS, key=NO_KEY, extensions=()
)


def parsed(der: bytes) -> x509.Certificate | None:
    """The certificate as the library parses it, though it may find a part unreadable later; None where it does not."""
    with warnings.catch_warnings(), suppress(Exception):  # cryptography raises several kinds with nothing in common
        # Serial numbers that are not positive; browsers and OpenSSL take them.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return x509.load_der_x509_certificate(der)
    return None


def view_of(der: bytes) -> x509.Certificate:
    """What the library can read of an untrusted certificate.

    That is the certificate itself; or, where any part of it cannot be read, a stand-in without a signature, so that
    nothing can be verified with it. It has the same names, key, dates and extensions, as far as these can be read or
    their meaning is plain; dates that cannot be read are all time, and a key that cannot is of no known kind.

    Raises:
        ValueError: Not even its names can be read.
    """
    certificate = parsed(der)
    if certificate is not None and _is_readable(certificate):
        return certificate
    outline = Outline.read(der)
    extensions: dict[bytes, bytes] = {}
    for extension in outline.extensions[:MAX_EXTENSIONS]:
        if plain := legible(extension):
            extensions.setdefault(inside(plain)[0].content, plain)
    tries = product((outline.algorithm, _ALGORITHM), (outline.validity, _ALL_TIME), (outline.key, NO_KEY))
    for algorithm, validity, key in tries:
        with suppress(Exception):
            found = _put_together(outline, algorithm, validity, key, list(extensions.values()))
            if _is_readable(found):
                return found
    raise ValueError("its names cannot be read")


def legible(extension: bytes) -> bytes | None:
    """An extension, as DER, as an encoder without its faults would write it; None where it cannot be read."""
    with suppress(Exception):
        plain = _plain_extension(extension)
        if _is_readable(_put_together(_NOTHING, _ALGORITHM, _ALL_TIME, NO_KEY, [plain])):
            return plain
    return None


def _is_readable(certificate: x509.Certificate) -> bool:
    """Whether nothing that is asked of a certificate raises; its key is asked for where errors are expected."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of texts that are shorter or longer than X.520 has them
            for name in (certificate.subject, certificate.issuer):
                name.rfc4514_string()
        list(certificate.extensions)
    except Exception:  # noqa: BLE001 - a KeyError among them
        return False
    return True


def _put_together(
    outline: Outline, algorithm: bytes, validity: bytes, key: bytes, extensions: list[bytes]
) -> x509.Certificate:
    names = plain_name(outline.issuer), plain_name(outline.subject)
    more = element(_EXTENSIONS, element(SEQUENCE, *extensions)) if extensions else b""
    signed = element(SEQUENCE, _V3, algorithm, names[0], validity, names[1], key, more)
    return x509.load_der_x509_certificate(element(SEQUENCE, signed, algorithm, _EMPTY))


def plain_name(name: bytes, types: frozenset[int] = frozenset(TEXT)) -> bytes:
    """A name, as DER, whose texts of some types are UTF-8, whatever is wrong with them.

    Raises:
        ValueError: It is no name.
    """
    relative = []
    for one in inside(name):
        attributes = []
        for attribute in elements(one.content):
            kind, value = elements(attribute.content)
            plain = element(_UTF8, _decoded(value.content, value.tag).encode()) if value.tag in types else value.whole
            attributes.append(element(SEQUENCE, kind.whole, plain))
        if attributes:
            relative.append(element(_SET, *attributes))
    return element(SEQUENCE, *relative)


def _decoded(text: bytes, kind: int) -> str:
    try:
        return text.decode(TEXT[kind])
    except ValueError:
        return text.decode("latin-1")


def _plain_extension(extension: bytes) -> bytes:
    kind, *critical, value = inside(extension)
    flag = _TRUE if any(any(one.content) for one in critical) else b""
    content = value.content
    if kind.content == BASIC_CONSTRAINTS:
        content = _plain_constraints(content)
    elif kind.content == ALTERNATIVE_NAMES:
        names = [one.whole for one in names_of(content) if one.tag == _DNS_NAME and one.content.isascii()]
        content = element(SEQUENCE, *names)
    return element(SEQUENCE, kind.whole, flag, element(_OCTETS, content))


def _plain_constraints(content: bytes) -> bytes:
    """BasicConstraints whose cA is written out as FALSE or as another TRUE, or which limit a path without allowing one.

    Firefox's, Chrome's and OpenSSL's readers take the first and the last (pkixcheck.cpp, parse_certificate.cc).
    """
    parts = inside(content)
    allowed = any(part.tag == _BOOLEAN and any(part.content) for part in parts)
    return element(SEQUENCE, _TRUE, *(part.whole for part in parts if part.tag != _BOOLEAN)) if allowed else _NO_PARTS


def names_of(alternative_names: bytes) -> list[Element]:
    """The entries of a subjectAltName.

    Raises:
        ValueError: It is malformed.
    """
    return inside(alternative_names)


def dns_names_of(der: bytes) -> tuple[str, ...]:
    """A certificate's dNSNames as they are written but for the case of ASCII letters, in its order.

    They are compared octet by octet (RFC 9525 section 6.3), so that nothing else may be made equal: letters that are no
    ASCII, which have no place there (RFC 5280 section 4.2.1.6), stay what they are, or become replacement characters.
    """
    try:
        values = Outline.read(der).values(ALTERNATIVE_NAMES)
        names = [name for value in values for name in names_of(value) if name.tag == _DNS_NAME]
    except ValueError:
        return ()
    return tuple(name.content.lower().decode("utf-8", "replace") for name in names)
