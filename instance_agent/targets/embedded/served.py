"""What one TLS connection of the embedded listener got; how it was chosen is not known here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one connection got.

    Attributes:
        host: The host name that was asked for and is bound; empty for the fallback.
        fingerprint_sha256: Lower-case hex SHA-256 of the leaf's DER.
        names: The leaf's dNSNames, lower case.
    """

    host: str
    fingerprint_sha256: str
    names: tuple[str, ...] = ()
