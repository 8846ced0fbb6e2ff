"""One input of the corpus: how it is made, and what is right about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.corpus.workshop import Workshop


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One input.

    Attributes:
        name: What it is, in a few words.
        make: Makes it.
        password: The one that is given; None gives none.
        verdicts: The codes that are right, the most fundamental first; none where it is accepted.
        warnings: The codes of the warnings that are right.
        says: What the reasons and warnings must say, among other things.
        openssl: Whether `openssl pkcs12 -legacy` opens it with the password; None where that is not asked.
        library: Whether `cryptography` is to find the same leaf in it, where it is accepted.
        hosts: What HostHeader names; none leaves it to the certificate.
        trusts: Whether the corpus's authorities are trusted alone; otherwise any chain is.
        group: What the table calls it together with others of its verdict; its name where empty.
    """

    name: str
    make: Callable[[Workshop], bytes] = field(repr=False)
    password: str | None = "secret"
    verdicts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    openssl: bool | None = True
    library: bool = True
    hosts: tuple[str, ...] = ()
    trusts: bool = False
    group: str = ""
