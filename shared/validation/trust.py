"""Whom certcast trusts to issue certificates, and the path that leads there; no URL in a certificate is fetched."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.bundle.link import Link
from shared.errors import ConfigurationError
from shared.phrasing import shown
from shared.validation.browsers import Browsers
from shared.validation.chain import Search
from shared.validation.choosing import Choice, unanchored, weak_authorities
from shared.validation.constraints import extension
from shared.validation.leaf import usage_names
from shared.validation.openssl import Verifier, serves, serves_netscape
from shared.verdict import Caution, VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

PUBLIC = "public"
OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a leaf is served with.

    Attributes:
        chain: Leaf-to-root order, without the root.
        objections: Why clients would not believe it.
        warnings: What its uploader should know.
    """

    chain: tuple[Link, ...]
    objections: tuple[Violation, ...] = ()
    warnings: tuple[Caution, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The trusted roots, built once.

    Attributes:
        roots: The trusted root certificates; None trusts any chain.
        name: For people: "public", "off" or the path.
        browsers: Whether paths must keep to the rules of the web's authorities too.
    """

    roots: tuple[x509.Certificate, ...] | None
    name: str
    browsers: bool = False
    _links: tuple[Link, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        if self.roots is not None and not self.roots:
            raise ValueError("no roots are no trust in anything: use None to trust any chain")
        object.__setattr__(self, "_links", tuple(map(Link.of, self.roots or ())))

    @classmethod
    def from_setting(cls, setting: str) -> Trust:
        """What `CERTCAST_TRUST` says.

        Args:
            setting: "public" for certifi's roots, "off", or the path of a PEM file with roots.

        Raises:
            ConfigurationError: There are no roots to be had there.
        """
        setting = setting.strip()
        if setting == OFF:
            return cls(roots=None, name=OFF)
        if not setting:
            raise ConfigurationError("CERTCAST_TRUST is empty: write public, off, or the path of a PEM file with roots")
        path = Path(certifi.where() if setting == PUBLIC else setting)
        try:
            with warnings.catch_warnings():
                # A few public roots have the serial number zero.
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                roots = x509.load_pem_x509_certificates(path.read_bytes())
        except OSError as problem:
            raise ConfigurationError(
                f"CERTCAST_TRUST names the file {path}, which cannot be read ({problem.strerror}): write public, off, "
                "or the path of a PEM file with roots"
            ) from problem
        except ValueError as problem:
            raise ConfigurationError(
                f"CERTCAST_TRUST names the file {path}, which has no PEM certificates that can be read: convert each "
                "root with `openssl x509 -inform DER -in root.cer -out root.pem`"
            ) from problem
        return cls(roots=tuple(roots), name=setting, browsers=setting == PUBLIC)

    def choose(self, leaf: Link, others: Sequence[Link], *, host: str | None, now: datetime) -> Chosen:
        """Choose the path to serve a leaf with: a good one, wherever there is one.

        Args:
            leaf: What is served, or would be.
            others: Every other certificate of its file, in any order, strangers among them.
            host: A name the leaf covers, or None when it has none. One is enough: the path does not depend on it, as
                all the leaf's names are held against the authorities' constraints.
            now: A leaf that is not valid now is verified as of the nearest moment that it is, and once it has expired
                no date counts: its dates are another verdict's.
        """
        ends = leaf.view.not_valid_after_utc
        moment = min(max(now, leaf.view.not_valid_before_utc), ends)
        search = Search.among(leaf, others, self._links)
        choice = Choice(
            search,
            Verifier(moment if now < ends else None),
            Browsers(name=host.replace("*", "a"), moment=moment) if self.browsers and host is not None else None,
            anything=self.roots is None,
        )
        if (path := choice.good()) is not None:
            return Chosen(
                chain=path.intermediates,
                objections=_purpose(search.leaf) if self.roots is not None else (),
                warnings=weak_authorities(path),
            )
        path = choice.likeliest()
        if self.roots is None:
            return Chosen(chain=path.intermediates)
        if not path.trusted:
            return Chosen(chain=path.intermediates, objections=(unanchored(path, search, self.name),))
        found = choice.furthest()
        detail = f"The chain of '{shown(search.leaf.subject)}' does not verify: {found.says}. {found.cure}"
        return Chosen(chain=path.intermediates, objections=(Violation(code=found.code, detail=detail),))


def _purpose(leaf: Link) -> tuple[Violation, ...]:
    """What `leaf.purpose` lets pass, as some clients do and OpenSSL does not."""
    usages = extension(leaf, x509.ExtendedKeyUsage) or ()
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages and not serves(leaf):
        found = f"its extendedKeyUsage allows {usage_names(usages)} and does not name serverAuth"
    elif not serves_netscape(leaf):
        found = "its netscape-cert-type does not name SSL servers"
    else:
        return ()
    detail = f"'{shown(leaf.subject)}' is no server certificate to OpenSSL: {found}. Order one for TLS servers."
    return (Violation(code=VerdictCode.NOT_A_SERVER_CERTIFICATE, detail=detail),)
