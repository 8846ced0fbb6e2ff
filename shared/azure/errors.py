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
    ServiceRequestError,
    ServiceResponseError,
)

from shared.errors import AccessDeniedError, CertcastError, ConflictError, MissingError, UnavailableError
from shared.phrasing import LOGGED_CHARS, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

UNCHANGED = MatchConditions.IfNotModified

_BUSY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


def translated(error: AzureError, doing: str) -> CertcastError:
    """Say in certcast's terms what went wrong while doing something (a phrase such as `reading blob a.pfx`)."""
    status = error.status_code if isinstance(error, HttpResponseError) else None
    code = error_code(error) or type(error).__name__
    doing = shown(doing, LOGGED_CHARS)
    if isinstance(error, ResourceNotFoundError) or status == HTTPStatus.NOT_FOUND:
        return MissingError(f"{doing}: not there ({code})")
    if isinstance(error, ResourceModifiedError | ResourceExistsError) or status in {
        HTTPStatus.CONFLICT,
        HTTPStatus.PRECONDITION_FAILED,
    }:
        return ConflictError(f"{doing}: changed meanwhile ({code})")
    if isinstance(error, ClientAuthenticationError) or status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return AccessDeniedError(f"{doing}: refused ({code}); see the role assignments in docs/deploy.md")
    if isinstance(error, ServiceRequestError | ServiceResponseError):
        return UnavailableError(f"{doing}: no answer from the service ({type(error).__name__})")
    if status is None or status in _BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError(f"{doing}: the service answered {status or code}")
    return CertcastError(f"{doing}: the service answered {status} ({code})")


def error_code(error: AzureError) -> str:
    """The service's name for what went wrong; empty where it gave none."""
    code = getattr(error, "error_code", None) or ""
    # The SDKs know some codes as members of a text enumeration, whose own text is not the code.
    return str(getattr(code, "value", code))


@contextmanager
def azure_errors(doing: str) -> Iterator[None]:
    """Raise certcast's errors in place of the SDK's; their texts quote no request, so no secret can be in them."""
    try:
        yield
    except AzureError as error:
        raise translated(error, doing) from None
