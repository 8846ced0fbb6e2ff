"""OpenSSL's refusals of a path in words: which certificate, what it has, and the cure for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from OpenSSL.SSL import X509VerificationCodes as Codes

from shared.phrasing import day, listed, shown
from shared.validation.constraints import extension, outside
from shared.validation.faults import Fault, called, is_root, malformed, what
from shared.validation.leaf import usage_names
from shared.validation.malformed import faults as flaws_of
from shared.validation.openssl import UNREADABLE, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.bundle.link import Link

# Of x509_vfy.h; pyOpenSSL has no name for it.
_EXPLICIT_PARAMETERS = 94
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.INHIBIT_ANY_POLICY,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
    }
)
"""Critical ones that OpenSSL processes (supported_nids in its crypto/x509/v3_purp.c)."""
_EXTENSIONS = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: "authorityKeyIdentifier",
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: "subjectKeyIdentifier",
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: "authorityInfoAccess",
    ExtensionOID.TLS_FEATURE: "TLS feature",
}
_CURRENT = "Export the certificate again with the intermediates that its authority publishes now."


def fault(path: Sequence[Link], refusal: Refusal) -> Fault:
    """Put OpenSSL's refusal of a path into words.

    Args:
        path: From the leaf on; its last certificate was taken for trusted.
        refusal: What OpenSSL said of it.
    """
    depth = min(refusal.depth, len(path) - 1)
    if refusal.code == UNREADABLE:
        return malformed(path, depth, flaws_of(path[depth].der))
    tell = _TOLD.get(refusal.code)
    if tell is not None:
        return tell(path, depth)
    if flaws := flaws_of(path[depth].der):
        return malformed(path, depth, flaws)
    return Fault(
        says=f"OpenSSL refuses {called(path, depth)} ({refusal.said})",
        cure=f"Have {what(path, depth)} issued again without that.",
    )


def _lapsed(path: Sequence[Link], depth: int) -> Fault:
    view = path[depth].view
    says = (
        f"{called(path, depth)} is valid only from {day(view.not_valid_before_utc)} to {day(view.not_valid_after_utc)}"
    )
    if not is_root(path, depth):
        return Fault(says=says, cure=_CURRENT)
    return Fault(
        says=says,
        cure="Have the certificate issued by an authority whose root is valid, and that one put among the trusted.",
    )


def _no_authority(path: Sequence[Link], depth: int) -> Fault:
    constraints = extension(path[depth], x509.BasicConstraints)
    usage = extension(path[depth], x509.KeyUsage)
    if constraints is None:
        lacks = "has no basicConstraints that can be read, and so is no authority's"
    elif not constraints.ca:
        lacks = "has basicConstraints with CA:FALSE, and so is no authority's"
    elif usage is not None and not usage.key_cert_sign:
        lacks = "has a keyUsage without keyCertSign, and so may not sign certificates"
    else:
        return malformed(path, depth, flaws_of(path[depth].der))
    return Fault(
        says=f"{called(path, depth)} {lacks}, but issued '{shown(path[depth - 1].subject)}'",
        cure="Have the certificate issued by an authority, or that one issued again with CA:TRUE and keyCertSign.",
    )


def _too_deep(path: Sequence[Link], depth: int) -> Fault:
    constraints = extension(path[depth], x509.BasicConstraints)
    allowed = constraints.path_length if constraints is not None else None
    below = [f"'{shown(link.subject)}'" for link in path[1:depth] if not link.is_self_issued]
    return Fault(
        says=f"{called(path, depth)} allows {allowed} authorities below it (its path length), and there are "
        f"{len(below)} in the chain, {listed(below)}",
        cure="Have the certificate issued by an authority that is not as far below, or that one issued again with a "
        "larger path length.",
    )


def _wrong_purpose(path: Sequence[Link], depth: int) -> Fault:
    usages = extension(path[depth], x509.ExtendedKeyUsage)
    if not usages:
        return malformed(path, depth, flaws_of(path[depth].der))
    allowed = usage_names(usages)
    anything = (
        "" if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages else ", which OpenSSL does not take for it"
    )
    return Fault(
        says=f"{called(path, depth)} may not issue server certificates: its extendedKeyUsage allows {allowed} and not "
        f"serverAuth{anything}",
        cure="Have the certificate issued by an authority that may issue those of TLS servers.",
    )


def _critical(path: Sequence[Link], depth: int) -> Fault:
    try:
        found = [one.oid for one in path[depth].view.extensions if one.critical and one.oid not in _UNDERSTOOD]
    except ValueError:
        found = []
    named = listed([_EXTENSIONS.get(oid, oid.dotted_string) for oid in found])
    return Fault(
        says=f"{called(path, depth)} has a critical extension that TLS clients do not process ({named}), so that "
        "they must refuse it (RFC 5280 section 4.2)",
        cure=f"Have {what(path, depth)} issued again without that extension, or with it not critical.",
    )


def _not_its_issuer(path: Sequence[Link], depth: int) -> Fault:
    """OpenSSL does not take a certificate for its issuer's, although its key is the one that signed it."""
    depth = min(depth, len(path) - 2)
    issuer = shown(path[depth + 1].subject)
    for at in (depth, depth + 1):
        if flaws := flaws_of(path[at].der):
            return malformed(path, at, flaws)
    named = shown(path[depth].view.issuer.rfc4514_string())
    if _beyond_ascii(named) != _beyond_ascii(issuer):
        return Fault(
            says=f"{called(path, depth)} writes the name of its issuer '{named}', and the authority whose key signed "
            f"it '{issuer}', which OpenSSL does not take for the same: of letters beyond ASCII, case counts",
            cure=f"Have {what(path, depth)} issued again, with the name as that authority writes it.",
        )
    return Fault(
        says=f"the authorityKeyIdentifier of {called(path, depth)} names another certificate than that of '{issuer}' "
        "that is there, although its key is the one that signed it",
        cure=f"Put the certificate of '{issuer}' that it names into the file.",
    )


def _beyond_ascii(text: str) -> str:
    return "".join(letter for letter in text if not letter.isascii())


def _unreadable_key(path: Sequence[Link], depth: int) -> Fault:
    return Fault(
        says=f"the key of {called(path, depth)} cannot be read",
        cure=f"Have {what(path, depth)} issued again with an RSA key, or an EC key on a named curve.",
    )


def _outside(path: Sequence[Link], depth: int) -> Fault:
    found = outside(path, depth)
    if found is None:
        says = f"an authority above {called(path, depth)} is not allowed to issue for one of its names"
    else:
        says = (
            f"{called(path, found.by)} is not allowed to issue for these names: its name constraints {found.rule}, "
            f"and {called(path, depth)} has {found.name}"
        )
    return Fault(
        says=says,
        cure="Have the certificate issued without that name, or by an authority that may issue for it.",
    )


def _odd_constraint(path: Sequence[Link], depth: int) -> Fault:
    return Fault(
        says=f"an authority above {called(path, depth)} has name constraints that OpenSSL cannot apply to its names",
        cure="Have that authority's certificate issued again with name constraints for host names only.",
    )


_TOLD: dict[int, Callable[[Sequence[Link], int], Fault]] = {
    Codes.ERR_CERT_HAS_EXPIRED: _lapsed,
    Codes.ERR_CERT_NOT_YET_VALID: _lapsed,
    Codes.ERR_INVALID_CA: _no_authority,
    Codes.ERR_KEYUSAGE_NO_CERTSIGN: _no_authority,
    Codes.ERR_PATH_LENGTH_EXCEEDED: _too_deep,
    Codes.ERR_INVALID_PURPOSE: _wrong_purpose,
    Codes.ERR_UNHANDLED_CRITICAL_EXTENSION: _critical,
    Codes.ERR_UNABLE_TO_GET_ISSUER_CERT: _not_its_issuer,
    Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: _not_its_issuer,
    Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: _not_its_issuer,
    Codes.ERR_PERMITTED_VIOLATION: _outside,
    Codes.ERR_EXCLUDED_VIOLATION: _outside,
    Codes.ERR_SUBTREE_MINMAX: _odd_constraint,
    Codes.ERR_UNSUPPORTED_CONSTRAINT_TYPE: _odd_constraint,
    Codes.ERR_UNSUPPORTED_CONSTRAINT_SYNTAX: _odd_constraint,
    Codes.ERR_UNSUPPORTED_NAME_SYNTAX: _odd_constraint,
    Codes.ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY: _unreadable_key,
    _EXPLICIT_PARAMETERS: _unreadable_key,
}
