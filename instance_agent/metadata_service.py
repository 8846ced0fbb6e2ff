"""The cloud's metadata service, asked what it calls this machine."""

from __future__ import annotations

import aiohttp

# learn.microsoft.com, "Azure Instance Metadata Service": link-local, plain HTTP, header required, never by a proxy.
_URL = "http://169.254.169.254/metadata/instance/compute/name?api-version=2021-02-01&format=text"
_TIMEOUT_S = 1.0


async def machine_name() -> str | None:
    """The machine's name in Azure; None where there is no metadata service."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(_URL, headers={"Metadata": "true"}) as answer,
        ):
            return (await answer.text()).strip() or None if answer.ok else None
    except (TimeoutError, aiohttp.ClientError, OSError):
        return None
