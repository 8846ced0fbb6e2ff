"""Host names in the letters that IIS knows international ones by."""

from __future__ import annotations

import unicodedata

import idna


def in_letters(host: str) -> str:
    """A host with its A-labels in letters, `bücher.example` for `xn--bcher-kva.example`; others as they are.

    IIS's bindings and the file names of its Centralized Certificate Store have the letters: reported with the cure in
    https://github.com/win-acme/win-acme/issues/2434, https://github.com/win-acme/win-acme/issues/847 and
    https://github.com/ridercz/AutoACME/pull/36; simple-acme writes such files (`CentralSsl.PathForIdentifier`).
    Microsoft documents neither. A label that stands for no letters that a name may have stays what it is.
    """
    return ".".join(_letters(label) for label in host.split("."))


def _letters(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return idna.ulabel(label)
    except idna.IDNAError:
        return _of_older_rules(label)


def _of_older_rules(label: str) -> str:
    """Names of IDNA 2003, symbols among them; only ones that no file system and no reader takes for another."""
    try:
        text = label.removeprefix("xn--").encode("ascii").decode("punycode")
        again = text.encode("punycode").decode("ascii")
    except (UnicodeError, ValueError, OverflowError):
        return label
    plain = text.isprintable() and text == unicodedata.normalize("NFKC", text) == text.lower()
    return text if plain and not text.isascii() and again == label.removeprefix("xn--") else label
