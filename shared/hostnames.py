"""Host names: their syntax, their IDNA form and what a wildcard covers."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from email.errors import MessageError
from email.header import decode_header, make_header
from typing import TYPE_CHECKING
from urllib.parse import unquote

import idna

from shared.phrasing import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

# Letters, digits and inner hyphens, at most 63 of them: RFC 1035 section 2.3.1 as relaxed by RFC 1123 section 2.1.
# Underscores are therefore refused: no public CA may issue for them, and several TLS clients refuse them.
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_MAX_LENGTH = 253
"""RFC 1035 section 2.3.4: 255 octets on the wire are 253 characters of text."""
_MAX_ENCODED = 4 * _MAX_LENGTH
_LABELS_UNDER_WILDCARD = 2

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
"""What this machine is called by itself."""
DEFAULT_HOST = "*"
"""In place of a host: what clients get that ask for no name, or for one that nothing else answers for."""

ASKED_LABEL = "[a-z0-9_-]{1,63}"
"""As a regular expression, the first label of a name that a wildcard answers for. Clients ask for more than a host may
be called: underscores and hyphens at either end are in names that DNS serves (RFC 2181 section 11)."""
_ASKED = re.compile(rf"{ASKED_LABEL}(\.[a-z0-9]([a-z0-9-]{{0,61}}[a-z0-9])?)*\Z")

_URL = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)
_PORT = re.compile(r"(.+):\d{1,5}\Z")


def normalise_host(text: str) -> str:
    """Bring a host name to the one form certcast uses: A-labels, lower case, no trailing dot.

    Unicode is mapped and checked as UTS-46 and IDNA 2008 say; a wildcard is `*` as the whole leftmost label with at
    least two labels after it (RFC 9525 section 6.3).

    Args:
        text: A host name as a person wrote it.

    Returns:
        The host name, `*.parent` for a wildcard.

    Raises:
        ValueError: It is no host name that a TLS client can ask for; the text is a sentence that says why.
    """
    host = text.strip()
    if meant := _decoded(host):
        raise ValueError(f"'{shown(host)}' is a host name in another encoding: write {meant}")
    return _normal(host)


def _normal(host: str) -> str:
    _refuse_what_is_no_host(host)
    wildcard = host.startswith("*.")
    name = _ascii(host.removeprefix("*."), host).removesuffix(".")
    _refuse_what_is_no_host(name)  # once more: the mapping makes plain digits of superscript ones
    labels = name.split(".")
    if "*" in name:
        raise ValueError(
            f"'{shown(host)}' has a * where none may be: write it once, as all of the first label, as in *.example.com"
        )
    if wildcard and len(labels) < _LABELS_UNDER_WILDCARD:
        raise ValueError(f"'{shown(host)}' is too wide: a wildcard needs at least two labels after the *")
    for label in labels:
        if not _LABEL.match(label):
            raise ValueError(
                f"'{shown(host)}' is not a host name: its labels may have letters, digits and inner hyphens, 1 to 63 "
                "of them (RFC 1123 section 2.1)"
            )
    normal = f"*.{name}" if wildcard else name
    if len(normal) > _MAX_LENGTH:
        raise ValueError(f"'{shown(host)}' is too long: a host name has at most {_MAX_LENGTH} characters (RFC 1035)")
    return normal


def _refuse_what_is_no_host(host: str) -> None:
    """Say what to write instead of a URL, a host with a port or path, or an address."""
    if not host:
        raise ValueError("the host name is empty")
    if url := _URL.match(host):
        raise ValueError(f"'{shown(host)}' is a URL: write the host alone, '{shown(url.group(1))}'")
    if "/" in host:
        raise ValueError(f"'{shown(host)}' has a path: write the host alone, '{shown(host.partition('/')[0])}'")
    if "@" in host:
        raise ValueError(f"'{shown(host)}' has a user name: write the host alone")
    if _is_address(host):
        raise ValueError(
            f"'{shown(host)}' is an IP address, and TLS clients never ask for one by SNI (RFC 6066 section 3): write a "
            "host name"
        )
    if port := _PORT.match(host):
        raise ValueError(
            f"'{shown(host)}' has a port: write the host alone, '{shown(port.group(1))}', and the port in PortNumber"
        )


def _is_address(host: str) -> bool:
    """Whether browsers would take this for an address: any IPv6, or a name whose last label is a number."""
    try:
        ipaddress.IPv6Address(host.removeprefix("[").split("]")[0])
    except ValueError:
        return host.rstrip(".").rpartition(".")[2].isdecimal()
    return True


def _ascii(name: str, host: str) -> str:
    """Lower-case A-labels; text that is ASCII already is taken as it is, so that older IDNA 2003 names stay usable."""
    if name.isascii():
        return name.lower()
    try:
        return idna.encode(name, uts46=True, std3_rules=True).decode("ascii")
    except UnicodeError as problem:
        raise ValueError(f"'{shown(host)}' is not a valid international host name: {shown(str(problem))}") from None


def _decoded(host: str) -> str | None:
    """The A-labels meant by percent-encoded text, by a word of RFC 2047, or by UTF-8 taken for Latin-1."""
    readings: list[Callable[[], str]] = []
    if len(host) > _MAX_ENCODED:
        return None
    if "%" in host:
        readings.append(lambda: unquote(host, errors="strict"))
    if host.startswith("=?"):
        readings.append(lambda: str(make_header(decode_header(host))))
    if not host.isascii():
        readings.append(lambda: host.encode("cp1252").decode("utf-8"))
        readings.append(lambda: host.encode("latin-1").decode("utf-8"))
    for reading in readings:
        with suppress(ValueError, LookupError, MessageError):
            return _normal(reading())
    return None


def unmatched(name: str) -> str | None:
    """Why no client takes a certificate's name for the host that it asks for; None for a name that is a host.

    Certificate names are compared as they are (RFC 9525 section 6.3): what is put right where a person writes it, such
    as a dot at the end or letters that are no ASCII, stays wrong here.

    Args:
        name: A dNSName, in lower case.

    Returns:
        What follows the name: " with a trailing dot, which no client matches".
    """
    for is_so, clause in _FLAWS:
        if is_so(name):
            return clause
    try:
        normalise_host(name)
    except ValueError:
        return ", which is no host name that clients ask for"
    if all(_is_international(label) for label in name.split(".") if label.startswith("xn--")):
        return None
    return " with a label xn-- that stands for no letters, which no browser asks for"


def _is_international(label: str) -> bool:
    """Whether a label is the A-label of letters: Punycode (RFC 3492) of more than ASCII."""
    try:
        letters = label.removeprefix("xn--").encode("ascii").decode("punycode")
    except (UnicodeError, ValueError, OverflowError):
        return False
    return not letters.isascii()


_FLAWS: tuple[tuple[Callable[[str], bool], str], ...] = (
    (lambda name: not name, ", which is empty"),
    (lambda name: not name.isascii(), " with letters that are no ASCII, which no client matches"),
    (lambda name: not name.isprintable(), " with a control character, which no client matches"),
    (lambda name: " " in name, " with a space, which no client matches"),
    (lambda name: name.endswith("."), " with a trailing dot, which no client matches"),
    (_is_address, ", which is an IP address, and clients look for one elsewhere"),
)


def covers(pattern: str, host: str) -> bool:
    """Whether a certificate's name answers for a host: equal, or `*` for exactly one label (RFC 9525 section 6.3).

    Args:
        pattern: A dNSName, normalised.
        host: A normalised host; a wildcard host needs the equal wildcard.
    """
    return pattern in {host, wildcard_of(host)}


def covering(host: str, candidates: Collection[str]) -> str | None:
    """The name that answers for a host: the equal one before the wildcard; None when neither is there."""
    if host in candidates:
        return host
    wildcard = wildcard_of(host)
    return wildcard if wildcard is not None and wildcard in candidates else None


def wildcard_of(host: str) -> str | None:
    """The one wildcard that can cover a host, `*.x.com` for `a.x.com`; None for `x.com` and for a wildcard itself."""
    label, _, parent = host.partition(".")
    return f"*.{parent}" if "." in parent and label not in {"", "*"} else None


def hosts_for(asked: str | None) -> tuple[str, ...]:
    """The hosts that a certificate may be bound for when a client asks for a name: the first one that is bound answers.

    This is the rule for every target. What a server decides by itself is held to it by tests/contracts/names.py.

    Args:
        asked: The server name as the client sent it (RFC 6066 section 3); None for none.

    Returns:
        The name itself, the wildcard of its parent, the default; the default alone for what is no name.
    """
    name = (asked or "").removesuffix(".")
    if len(name) > _MAX_LENGTH or not name.isascii() or not _ASKED.match(name.lower()):
        return (DEFAULT_HOST,)
    name = name.lower()
    wildcard = wildcard_of(name)
    return (name, DEFAULT_HOST) if wildcard is None or _is_address(wildcard) else (name, wildcard, DEFAULT_HOST)
