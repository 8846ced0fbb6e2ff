"""The setting for the flags of new bindings, and which Windows knows them; pure."""

from __future__ import annotations

from typing import Final

from instance_agent.targets.iis.bindings import SslFlags
from shared.errors import ConfigurationError

SETTING: Final = "CERTCAST_IIS_SSL_FLAGS"

_SERVER_2016: Final = (14393, "Windows Server 2016")
_SERVER_2019: Final = (17763, "Windows Server 2019")
_KNOWN: Final = {
    "disable-http2": (SslFlags.DISABLE_HTTP2, _SERVER_2016),
    "disable-ocsp-stapling": (SslFlags.DISABLE_OCSP_STAPLING, _SERVER_2016),
    "disable-quic": (SslFlags.DISABLE_QUIC, _SERVER_2019),
    "disable-tls13": (SslFlags.DISABLE_TLS13, _SERVER_2019),
    "disable-legacy-tls": (SslFlags.DISABLE_LEGACY_TLS, _SERVER_2019),
}
"""By name: the flag, and the build and name of the first Windows that has it (`SSLFlags.cs` of simple-acme)."""


def parse(text: str) -> SslFlags:
    """Read names separated by commas or spaces.

    Raises:
        ConfigurationError: One is unknown; the text names it.
    """
    flags = SslFlags.NONE
    for name in text.lower().replace(",", " ").split():
        if name not in _KNOWN:
            raise ConfigurationError(f"{SETTING}: {name!r} is none of {', '.join(_KNOWN)}")
        flags |= _KNOWN[name][0]
    return flags


def require_known(flags: SslFlags, windows_build: int) -> None:
    """See that this Windows knows the flags, before IIS writes what it would not heed.

    Raises:
        ConfigurationError: It is too old for one; the text names it.
    """
    for name, (flag, (build, first)) in _KNOWN.items():
        if flag in flags and windows_build < build:
            raise ConfigurationError(
                f"{SETTING}: {name} needs {first} or later; this is build {windows_build} of Windows"
            )
