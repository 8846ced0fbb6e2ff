"""Who may see the dashboard, what may change something through it, and what a browser is told to keep from others."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from shared.config import DASHBOARD_SIGN_IN_SETTING, dashboard_sign_in
from shared.errors import ConfigurationError
from shared.function.dashboard.links import KEY
from shared.phrasing import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.function.dashboard.exchange import Request

PLATFORM_SETTING = "WEBSITE_AUTH_ENABLED"
"""Read-only; put into an app to indicate whether App Service authentication is enabled (learn.microsoft.com,
"Environment variables and app settings in Azure App Service"). Without it nothing takes forged headers away."""
PRINCIPAL = "x-ms-client-principal"
"""Base64 of JSON with the claims; App Service sets it, and lets no request from outside set it (learn.microsoft.com,
"Work with user identities in Azure App Service authentication")."""
PRINCIPAL_NAME = "x-ms-client-principal-name"
SIGN_IN = "/.auth/login/aad"
"""Where Entra ID's sign-in begins (learn.microsoft.com, "Customize sign-in and sign-out in Azure App Service")."""
RETURNED = "signed_in"
"""In the query of who was sent to sign in, so that one who comes back without having done so is not sent again."""

_MAX_PRINCIPAL_CHARS = 65_536

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}
"""Of every answer. An address may hold a function key, which no other site is to learn from `Referer`.

With `no-referrer` our own forms would come with `Origin: null` (Fetch standard, "append a request Origin header")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is not answered.

    Attributes:
        status: HTTP status code.
        sentence: Why, and what to do.
        leads_to: Where to sign in instead; empty where that would not help.
    """

    status: HTTPStatus
    sentence: str
    leads_to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How people are let in.

    Attributes:
        signs_in: Whether they sign in; else the Functions host has asked for a function key.
        platform_signs_in: Whether App Service authentication is on, which alone makes its headers true.
    """

    signs_in: bool = False
    platform_signs_in: bool = False

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Access:
        """Read the settings; where they are wrong, which `Settings` says, the function key is asked for."""
        try:
            signs_in = bool(dashboard_sign_in(env))
        except ConfigurationError:
            signs_in = False
        return cls(
            signs_in=signs_in,
            platform_signs_in=env.get(PLATFORM_SETTING, "").strip().lower() in {"true", "1"},
        )

    def refusal(self, request: Request) -> Refusal | None:
        """Why a request may not be answered; None where it may."""
        if not self.signs_in:
            return None
        if not self.platform_signs_in:
            return Refusal(
                status=HTTPStatus.FORBIDDEN,
                sentence=f"{DASHBOARD_SIGN_IN_SETTING} has people sign in by App Service authentication, and this "
                "is off for this app: turn it on as docs/dashboard.md says, or remove the setting to ask for a key",
            )
        if _is_principal(request.headers.get(PRINCIPAL, "")):
            return None
        return Refusal(status=HTTPStatus.UNAUTHORIZED, sentence="sign in to see this page", leads_to=_sign_in(request))

    def who(self, request: Request) -> str:
        """Who asks, fit for a log; empty where only a key was shown."""
        return shown(request.headers.get(PRINCIPAL_NAME, "")) if self.signs_in else ""

    def key(self, request: Request) -> str:
        """The function key that addresses are to carry on."""
        return "" if self.signs_in else request.query.get(KEY, "")


def is_same_origin(request: Request) -> bool:
    """Whether a form was sent from the dashboard itself.

    A browser says so in `Sec-Fetch-Site`, which no page can set (w3.org/TR/fetch-metadata); an older one in `Origin`.
    One that says neither is taken for another site's.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
    return bool(host) and urlsplit(origin).netloc.lower() == host.lower()


def _is_principal(text: str) -> bool:
    """Whether this is what App Service says of somebody who signed in."""
    if not 0 < len(text) <= _MAX_PRINCIPAL_CHARS:
        return False
    try:
        principal = json.loads(base64.b64decode(text, validate=True))
    except (ValueError, RecursionError):
        return False
    return isinstance(principal, dict) and bool(principal.get("claims"))


def _sign_in(request: Request) -> str:
    """Where to sign in, from where one comes back to this page."""
    if request.method != "GET" or RETURNED in request.query:
        return ""
    page = f"{request.base}/{request.path}" if request.path else request.base
    query = {name: value for name, value in request.query.items() if name != KEY}
    back = f"{page}?{urlencode({**query, RETURNED: 'true'})}"
    return f"{SIGN_IN}?{urlencode({'post_login_redirect_uri': back})}"
