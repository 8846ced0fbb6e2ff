"""Turns what the Azure SDKs raise into certcast's errors."""

from __future__ import annotations

import socket
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
)

from shared.azure.codes import MEANINGS
from shared.errors import (
    AccessDeniedError,
    CertcastError,
    ConflictError,
    RefusedForNowError,
    UnansweredError,
    UnavailableError,
)
from shared.phrasing import LOGGED_CHARS, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

UNCHANGED = MatchConditions.IfNotModified

_REFUSALS = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_CONFLICTS = {HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED}
_BUSY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_CAUSES = 8
_CHANGED = {"BlobAlreadyExists", "ConditionNotMet", "EntityAlreadyExists", "UpdateConditionNotSatisfied"}


def translated(error: AzureError, doing: str) -> CertcastError:
    """Say in certcast's terms what went wrong while doing something (a phrase such as `reading blob a.pfx`)."""
    status = error.status_code if isinstance(error, HttpResponseError) else None
    code, doing = error_code(error), shown(doing, LOGGED_CHARS)
    if code in MEANINGS:
        kind, says = MEANINGS[code]
        return kind(f"{doing}: {says.format(code=code)}")
    if isinstance(error, ClientAuthenticationError) or status in _REFUSALS:
        return _refused(error, code, doing)
    if status is None:
        return UnansweredError(f"{doing}: no answer from the service ({_why_none(error)})")
    return _by_status(error, status, code, doing)


def _by_status(error: AzureError, status: int, code: str, doing: str) -> CertcastError:
    if status == HTTPStatus.NOT_FOUND:
        # Not "gone": where the service says that something is not there, a code says what.
        return UnavailableError(
            f"{doing}: what answered 404 ({code or 'without a code'}) is not the service that was meant; check the "
            "addresses in the settings, and what stands between"
        )
    if isinstance(error, ResourceModifiedError | ResourceExistsError) or status in _CONFLICTS:
        changed = status == HTTPStatus.PRECONDITION_FAILED or not code or code in _CHANGED
        why = "changed meanwhile" if changed else "not possible as things are now"
        return ConflictError(f"{doing}: {why} ({code or status})")
    if status in _BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError(f"{doing}: the service answered {status}")
    return CertcastError(f"{doing}: the service answered {status} ({code or type(error).__name__})")


def _refused(error: AzureError, code: str, doing: str) -> AccessDeniedError:
    if has_no_token(error):
        return RefusedForNowError(
            f"{doing}: this process got no token for its identity ({type(error).__name__}); if it stays so, see "
            "whether the machine has that identity and can reach its metadata service (docs/deploy.md)"
        )
    code = code or type(error).__name__
    return AccessDeniedError(f"{doing}: refused ({code}); see the role assignments in docs/deploy.md")


def has_no_token(error: AzureError) -> bool:
    """Whether the identity itself got no token, so that the service was not asked."""
    return isinstance(error, ClientAuthenticationError) and error.response is None


def _why_none(error: AzureError) -> str:
    """Why there was no answer, as far as that helps: a name that is not known is mostly a wrong name."""
    cause: BaseException | None = error
    for _ in range(_CAUSES):
        if isinstance(cause, socket.gaierror):
            return "its host name is not known: check the name of the account or vault, and this machine's DNS"
        if cause is None:
            break
        cause = getattr(cause, "inner_exception", None) or cause.__cause__ or cause.__context__
    return type(error).__name__


def error_code(error: AzureError) -> str:
    """The service's name for what went wrong; empty where it gave none."""
    # Storage puts the code there, a vault into the answer's body, and what it means by "Forbidden" inside of that.
    told = getattr(error, "error", None)
    inner = (getattr(told, "innererror", None) or {}).get("code", "")
    if inner in MEANINGS:
        return str(inner)
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    code = getattr(error, "error_code", None) or getattr(told, "code", None) or headers.get("x-ms-error-code", "")
    # The SDKs know some codes as members of a text enumeration, whose own text is not the code.
    return str(getattr(code, "value", code))


@contextmanager
def azure_errors(doing: str) -> Iterator[None]:
    """Raise certcast's errors in place of the SDK's; their texts quote no request, so no secret can be in them."""
    try:
        yield
    except AzureError as error:
        raise translated(error, doing) from None
