"""The settings for webhooks and events: which addresses are taken, which secrets, which source."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.errors import ConfigurationError
from shared.hostnames import LOOPBACK_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

WEBHOOK_SETTING = "CERTCAST_WEBHOOK"
WEBHOOK_SECRET_SETTING = "CERTCAST_WEBHOOK_SECRET"  # noqa: S105 - its name
EVENT_SOURCE_SETTING = "CERTCAST_EVENT_SOURCE"

MAX_WEBHOOKS = 4
"""With all of them slow, the queue that their events go through has places left for others."""
MAX_URL_CHARS = 2048
SECRET_PREFIX = "whsec_"  # noqa: S105 - what it begins with
SECRET_BYTES = range(24, 65)
"""Standard Webhooks, "Signature scheme": 24 to 64 random bytes, in base64 behind `whsec_`."""


def webhook_urls(text: str, setting: str = WEBHOOK_SETTING) -> tuple[str, ...]:
    """Read addresses of webhooks, separated by spaces or line ends; each is shown by its place, as it may be a secret.

    Raises:
        ConfigurationError: One cannot be used.
    """
    urls = tuple(dict.fromkeys(text.split()))
    if len(urls) > MAX_WEBHOOKS:
        raise ConfigurationError(f"{setting} has {len(urls)} addresses, and may have {MAX_WEBHOOKS}")
    for number, url in enumerate(urls, start=1):
        if wrong := _wrong_with_url(url):
            which = f"{setting}: address {number}" if len(urls) > 1 else f"{setting}: the address"
            raise ConfigurationError(f"{which} {wrong}; write https://HOST/..., several separated by spaces")
    return urls


def _wrong_with_url(url: str) -> str:
    """What keeps a webhook's address from being used; empty where nothing does."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        in_range = parts.port is None or parts.port > 0
    except ValueError:
        return "cannot be read"
    if len(url) > MAX_URL_CHARS or not _URI_REFERENCE.fullmatch(url) or ",http" in url or not in_range:
        return "is not one address"
    if not host or parts.scheme not in {"https", "http"}:
        return "has no https:// or no host"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "has a user name, a password or a part behind #"
    if parts.scheme == "http" and host not in LOOPBACK_NAMES:
        return f"must begin with https://, as events would go to {host} unencrypted"
    return ""


def webhook_secrets(text: str, setting: str = WEBHOOK_SECRET_SETTING) -> tuple[bytes, ...]:
    """Read secrets for webhooks, separated by spaces or line ends.

    Raises:
        ConfigurationError: One is none.
    """
    return tuple(_webhook_secret(each, setting) for each in text.split())


def _webhook_secret(text: str, setting: str) -> bytes:
    try:
        secret = b64decode(text.removeprefix(SECRET_PREFIX), validate=True) if text.startswith(SECRET_PREFIX) else b""
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) not in SECRET_BYTES:
        raise ConfigurationError(
            f"{setting}: a secret is {SECRET_PREFIX} and {SECRET_BYTES[0]} to {SECRET_BYTES[-1]} bytes in base64; "
            f'make one with: echo "{SECRET_PREFIX}$(openssl rand -base64 32)"'
        )
    return secret


def event_source(env: Mapping[str, str]) -> str:
    """Read what events name as their source; empty where that is not set.

    Raises:
        ConfigurationError: It is no URI reference (RFC 3986), as CloudEvents asks for.
    """
    text = env.get(EVENT_SOURCE_SETTING, "").strip()
    if text and not _URI_REFERENCE.fullmatch(text):
        raise ConfigurationError(
            f"{EVENT_SOURCE_SETTING} must be a URI without spaces, such as https://example.com/certcast"
        )
    return text


_URI_REFERENCE = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
