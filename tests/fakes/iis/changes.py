"""Changes for the IIS targets, with certificates of a test authority."""

import hashlib
from functools import cache

from instance_agent.targets.base import Install
from tests.rigs.certificates import Authority, Issued, authority


@cache
def issuer() -> Authority:
    """An intermediate authority, one for the whole run."""
    return authority().intermediate()


def issue(*hosts: str) -> Issued:
    """A new certificate."""
    return issuer().issue(*hosts)


def install(
    host: str, issued: Issued | None = None, *, port: int = 443, site: str | None = None, generation: int = 1
) -> Install:
    """The change that serves a certificate, a new one unless it is given."""
    found = issued or issue(host)
    return Install(
        host=host,
        port=port,
        bundle_id=f"{found.fingerprint}/{hashlib.sha256(found.fingerprint.encode()).hexdigest()}",
        bundle=found.bundle(),
        site=site,
        generation=generation,
    )
