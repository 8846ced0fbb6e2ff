"""A server under test as the targets' contract sees it, and the changes and looks the contract is written in."""

import asyncio
import os
from collections.abc import Mapping
from functools import cache
from typing import Protocol, TypeVar

from instance_agent.installing.probe import Probe, ProbeError, name_to_probe
from instance_agent.installing.sighting import Pace
from instance_agent.targets.base import BindingTarget, Install, InstalledBinding, Key
from shared.bounded import Delays
from shared.bundle import CertificateBundle, bundle_id
from shared.hostnames import DEFAULT_HOST
from tests.rigs.certificates import Authority, Issued, authority

Name = TypeVar("Name", bound=str | None)
"""A server name to ask for; None for none."""

PATIENCE_S = 20.0
"""How long a change may take to be seen on a busy machine; no test waits so long when all is well."""

QUICK = Pace(patience_s=0.3, pauses=Delays((0.02, 0.04, 0.08)))
"""How to look for what will not be seen."""


class Rig(Protocol):
    """One started target over a running server that is the test's own, with nothing bound on it."""

    @property
    def target(self) -> BindingTarget:
        """The target, started."""

    @property
    def probe(self) -> Probe:
        """How to look at the server: `served_fingerprint` where it speaks TLS."""

    @property
    def ports(self) -> tuple[int, int]:
        """Two values of `PortNumber` the server can be used with."""

    @property
    def fallback(self) -> str | None:
        """Fingerprint served where no binding answers; None where the handshake fails instead."""

    async def restart_agent(self) -> None:
        """Stop the target and start another over the same server; only `RestartContract` asks for it."""


class HandmadeRig(Rig, Protocol):
    """A rig that can play somebody else, who changes bindings of ours by the server's own means.

    Both return when the server has taken the change up, as far as it tells; the target is not told.
    """

    async def tamper(self, host: str, port: int, bundle: CertificateBundle) -> None:
        """Make the server serve another bundle for a host and `PortNumber` that is bound."""

    async def untie(self, host: str, port: int) -> None:
        """Take the binding of a host and `PortNumber` away, so that the fallback answers for it."""


@cache
def root() -> Authority:
    """One authority for a whole run."""
    return authority()


def bind(issued: Issued, host: str, port: int) -> Install:
    """The change that serves a certificate for a host."""
    return change_to(issued.bundle(), host, port)


def fresh(host: str, port: int) -> Install:
    """The change that serves a new certificate for a host."""
    return bind(root().issue(host), host, port)


def fresh_default(port: int) -> Install:
    """The change that serves a new certificate where no host answers."""
    return bind(root().issue("*.free.example"), DEFAULT_HOST, port)


def unfit(host: str, port: int) -> Install:
    """A change no server may take: its key belongs to another certificate."""
    name = "*.free.example" if host == DEFAULT_HOST else host
    issued, other = root().issue(name), root().issue(name)
    return change_to(CertificateBundle(leaf=issued.certificate, chain=issued.bundle().chain, key=other.key), host, port)


def change_to(bundle: CertificateBundle, host: str, port: int) -> Install:
    """The change that serves a bundle for a host."""
    return Install(host=host, port=port, bundle_id=bundle_id(bundle, os.urandom(8)), bundle=bundle, generation=1)


def endpoint(rig: Rig, port: int) -> tuple[str, int]:
    """Where to meet the server."""
    address = rig.target.endpoint(port)
    assert address is not None, "a rig's server must have a listener"
    return address


async def seen(rig: Rig, port: int, sni: str | None) -> str | None:
    """The fingerprint served now; None when the handshake fails."""
    try:
        return await rig.probe(endpoint(rig, port), sni, timeout_s=10)
    except ProbeError:
        return None


async def eventually(rig: Rig, port: int, expected: Mapping[Name, str | None]) -> dict[Name, str | None]:
    """What is served by host, looked at until it is as expected or patience ends: a reload takes a moment."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        found = {host: await seen(rig, port, host) for host in expected}
        if found == expected or asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(0.05)


async def expect(rig: Rig, port: int, expected: Mapping[Name, Install | str | None]) -> None:
    """Fail unless this is what is served, by host: a change's certificate, or the one with a fingerprint."""
    fingerprints = {host: _fingerprint(each) for host, each in expected.items()}
    assert await eventually(rig, port, fingerprints) == fingerprints


async def given_up(rig: Rig, change: Install) -> None:
    """Fail unless something else than a change's certificate, or nothing, comes to be served in its place."""
    host, ours = name_to_probe(change.host), change.bundle.fingerprint_sha256
    async with asyncio.timeout(PATIENCE_S):
        while await seen(rig, change.port, host) == ours:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)


async def served(rig: Rig, *changes: Install) -> None:
    """Apply installs in one batch, and see each certificate served for its host."""
    await rig.target.apply(changes)
    for port in {change.port for change in changes}:
        await expect(rig, port, {name_to_probe(each.host): each for each in changes if each.port == port})


def owned(bindings: frozenset[InstalledBinding]) -> dict[Key, str]:
    """What a target says it owns, as fingerprints by host and port."""
    return {binding.key: binding.fingerprint_sha256 for binding in bindings}


def owned_after(*changes: Install) -> dict[Key, str]:
    """What a target owns once only these are made."""
    return owned(frozenset(change.bound for change in changes))


def _fingerprint(each: Install | str | None) -> str | None:
    return each.bundle.fingerprint_sha256 if isinstance(each, Install) else each
