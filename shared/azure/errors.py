"""Turns what the Azure SDKs raise into certcast's errors."""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)

from shared.errors import (
    AccessDeniedError,
    CertcastError,
    ConflictError,
    HeldError,
    MissingError,
    QueueBeingDeletedError,
    RefusedForNowError,
    UnavailableError,
    UnsupportedError,
)
from shared.phrasing import LOGGED_CHARS, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

UNCHANGED = MatchConditions.IfNotModified

_BUSY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}

_SOON = (
    "a role assignment takes up to half an hour to come into force: it is tried again; if it stays so, see the role "
    "assignments in docs/deploy.md"
)
# The codes are those of learn.microsoft.com, "Common REST API error codes", "Blob service error codes", "Queue service
# error codes" and "Table service error codes", and of Key Vault's "REST API error codes".
_FOR_NOW = {
    "AuthorizationPermissionMismatch": _SOON,
    "Forbidden": _SOON,
    "AuthorizationFailure": (
        "the account's network rules do not let this address in, or this identity has no role there; either takes "
        "minutes to come into force: it is tried again; if it stays so, see the network rules and the role "
        "assignments in docs/deploy.md"
    ),
}
_REFUSED = {
    "KeyBasedAuthenticationNotPermitted": (
        "the account takes no access keys; name it by CERTCAST_STORAGE__accountName in place of CERTCAST_STORAGE, "
        "to come with an identity"
    ),
}
_UNSUPPORTED = {
    "FeatureNotYetSupportedForHierarchicalNamespaceAccounts",
    "BlobTagsNotSupportedForAccountType",
    "FeatureNotEnabled",
}
_UNDER_LEASE = "the blob is under a lease; have it released by what holds it, or break it (az storage blob lease break)"
_HELD = {
    "LeaseIdMissing": _UNDER_LEASE,
    "LeaseIdMismatchWithBlobOperation": _UNDER_LEASE,
    "BlobImmutableDueToPolicy": (
        "an immutability policy or a legal hold keeps the blob as it is; keep such policies off this container"
    ),
    "BlobArchived": "the blob is in the archive tier, where it cannot be read; upload it again into tier Hot or Cool",
    "BlobBeingRehydrated": "the blob is on its way out of the archive tier, which takes hours; upload it again",
}
_BEING_DELETED = {
    "ContainerBeingDeleted": "the container",
    "TableBeingDeleted": "the table",
}


def translated(error: AzureError, doing: str) -> CertcastError:
    """Say in certcast's terms what went wrong while doing something (a phrase such as `reading blob a.pfx`)."""
    status = error.status_code if isinstance(error, HttpResponseError) else None
    code = error_code(error) or type(error).__name__
    doing = shown(doing, LOGGED_CHARS)
    if (found := _by_code(code, doing)) is not None:
        return found
    if isinstance(error, ResourceNotFoundError) or status == HTTPStatus.NOT_FOUND:
        return MissingError(f"{doing}: not there ({code})")
    if isinstance(error, ResourceModifiedError | ResourceExistsError) or status in {
        HTTPStatus.CONFLICT,
        HTTPStatus.PRECONDITION_FAILED,
    }:
        return ConflictError(f"{doing}: changed meanwhile ({code})")
    if isinstance(error, ClientAuthenticationError) or status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return _refused(error, code, doing)
    if status is None or status in _BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        answered = f"answered {status}" if status else f"gave no answer ({type(error).__name__})"
        return UnavailableError(f"{doing}: the service {answered}")
    return CertcastError(f"{doing}: the service answered {status} ({code})")


def _by_code(code: str, doing: str) -> CertcastError | None:
    """What a code tells that its status does not; None where the status says enough."""
    refusals: tuple[tuple[type[CertcastError], dict[str, str]], ...] = (
        (RefusedForNowError, _FOR_NOW),
        (AccessDeniedError, _REFUSED),
        (HeldError, _HELD),
    )
    for kind, cures in refusals:
        if code in cures:
            return kind(f"{doing}: refused ({code}); {cures[code]}")
    if code in _UNSUPPORTED:
        return UnsupportedError(f"{doing}: this storage account has no such feature ({code})")
    if code == "QueueBeingDeleted":
        return QueueBeingDeletedError(
            f"{doing}: a queue of that name was deleted a moment ago, and can be made again when the service is done "
            f"with it, after 40 s or more ({code})"
        )
    if code in _BEING_DELETED:
        return UnavailableError(
            f"{doing}: {_BEING_DELETED[code]} was deleted a moment ago, and can be made again when the service is done "
            f"with it, after half a minute or more ({code})"
        )
    return None


def _refused(error: AzureError, code: str, doing: str) -> AccessDeniedError:
    if isinstance(error, ClientAuthenticationError) and error.response is None:
        return RefusedForNowError(
            f"{doing}: this process got no token for its identity ({code}): it is tried again; if it stays so, see "
            "whether the machine has that identity and can reach its metadata service (docs/deploy.md)"
        )
    return AccessDeniedError(f"{doing}: refused ({code}); see the role assignments in docs/deploy.md")


def error_code(error: AzureError) -> str:
    """The service's name for what went wrong; empty where it gave none."""
    # Storage puts the code there, a vault into the answer's body.
    code = getattr(error, "error_code", None) or getattr(getattr(error, "error", None), "code", None) or ""
    # The SDKs know some codes as members of a text enumeration, whose own text is not the code.
    return str(getattr(code, "value", code))


@contextmanager
def azure_errors(doing: str) -> Iterator[None]:
    """Raise certcast's errors in place of the SDK's; their texts quote no request, so no secret can be in them."""
    try:
        yield
    except AzureError as error:
        raise translated(error, doing) from None
