"""What OpenSSL says of one path, as `openssl verify -purpose sslserver` does."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from OpenSSL.crypto import (
    FILETYPE_ASN1,
    X509,
    Error,
    X509Store,
    X509StoreContext,
    X509StoreContextError,
    X509StoreFlags,
    load_certificate,
)
from OpenSSL.SSL import X509VerificationCodes

from shared.bundle.link import Link
from shared.bundle.outline import Outline, elements

if TYPE_CHECKING:
    from collections.abc import Sequence


_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of X509_VERIFY_PARAM_set_flags(3), which pyOpenSSL has no name for."""

INVALID_CA = X509VerificationCodes.ERR_INVALID_CA
INVALID_PURPOSE = X509VerificationCodes.ERR_INVALID_PURPOSE
UNREADABLE = X509VerificationCodes.ERR_INVALID_EXTENSION
_NOT_ISSUED = frozenset(
    {
        X509VerificationCodes.ERR_CERT_SIGNATURE_FAILURE,
        X509VerificationCodes.ERR_UNABLE_TO_GET_ISSUER_CERT,
        X509VerificationCodes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        X509VerificationCodes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
        X509VerificationCodes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
        X509VerificationCodes.ERR_SELF_SIGNED_CERT_IN_CHAIN,
    }
)

_EXTENDED_KEY_USAGE = bytes.fromhex("551d25")
_NETSCAPE_TYPE = bytes.fromhex("6086480186f8420101")
_NETSCAPE_SERVER = 0x40
_BITS = 3  # of a BIT STRING: behind its tag, its length and the number of bits that are not used
_SERVER_AUTH = bytes.fromhex("2b06010505070301")
# What OpenSSL takes for serverAuth besides: server gated cryptography, of Microsoft and of Netscape.
_SERVER_USAGES = {_SERVER_AUTH, bytes.fromhex("2b0601040182370a0303"), bytes.fromhex("6086480186f8420401")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a path does not verify.

    Attributes:
        code: OpenSSL's, of X509_STORE_CTX_get_error(3).
        said: OpenSSL's words for it.
        depth: The certificate it is about: 0 is the leaf, 1 what issued it.
    """

    code: int
    said: str
    depth: int


@dataclass(slots=True)
class Verifier:
    """Verifies paths as of one moment.

    Attributes:
        moment: When the certificates must be valid; None where no date counts.
    """

    moment: datetime | None
    _loaded: dict[Link, X509] = field(default_factory=dict)

    def refusal(self, path: Sequence[Link], *, ignore_critical: bool = False) -> Refusal | None:
        """Why a path does not verify, where its last certificate is trusted; None where it does.

        Args:
            path: From the leaf on, each followed by its issuer; two at least, or a leaf that is trusted itself.
            ignore_critical: Whether critical extensions that OpenSSL does not know are let pass.
        """
        store = X509Store()
        store.set_flags(
            X509StoreFlags.PARTIAL_CHAIN
            | (_NO_CHECK_TIME if self.moment is None else 0)
            | (X509StoreFlags.IGNORE_CRITICAL if ignore_critical else 0)
        )
        if self.moment is not None:
            store.set_time(self.moment)
        depth = 0
        try:
            for depth, link in enumerate(path):  # noqa: B007 - told where one cannot be loaded
                self._load(link)
            leaf, *between = map(self._load, path[:-1] or path)
            store.add_cert(self._load(path[-1]))
            X509StoreContext(store, leaf, between).verify_certificate()
        except X509StoreContextError as problem:
            code, depth, said = problem.errors
            return Refusal(code=code, said=said, depth=depth)
        except Error:
            return Refusal(code=UNREADABLE, said="OpenSSL cannot read it", depth=depth)
        return next((_unfit(depth) for depth, link in enumerate(path) if depth and not serves(link)), None)

    def _load(self, link: Link) -> X509:
        if link not in self._loaded:
            self._loaded[link] = load_certificate(FILETYPE_ASN1, link.der)
        return self._loaded[link]


def _unfit(depth: int) -> Refusal:
    return Refusal(code=INVALID_PURPOSE, said="unsuitable certificate purpose", depth=depth)


def signed(issuer: Link, link: Link) -> bool:
    """Whether OpenSSL takes one for the issuer of the other, where the library cannot tell.

    Where OpenSSL objects to either for another reason, it has not looked at the signature, and names and key
    identifiers that fit are believed: a path that they do not lead along is not found to be sound later.
    """
    found = Verifier(None).refusal((link, issuer), ignore_critical=True)
    return found is None or found.code not in _NOT_ISSUED


def serves(link: Link) -> bool:
    """Whether its extendedKeyUsage, if any, names serverAuth: to OpenSSL, anyExtendedKeyUsage does not say so.

    pyOpenSSL has no way to set a purpose, which would have OpenSSL look at this itself.
    """
    with suppress(ValueError):  # one that is malformed is no authority to OpenSSL
        for value in Outline.read(link.der).values(_EXTENDED_KEY_USAGE):
            [usages] = elements(value)
            return any(usage.content in _SERVER_USAGES for usage in elements(usages.content))
    return True


def serves_netscape(leaf: Link) -> bool:
    """Whether its netscape-cert-type, if any, has the bit of TLS servers, which OpenSSL asks of a leaf."""
    with suppress(ValueError):
        for value in Outline.read(leaf.der).values(_NETSCAPE_TYPE):
            return len(value) > _BITS and bool(value[_BITS] & _NETSCAPE_SERVER)
    return True
