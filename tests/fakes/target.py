"""A web server and its target in memory, without TLS: probing it asks its table. It keeps all targets' contract."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

from instance_agent.installing.probe import ProbeError
from instance_agent.targets.base import ApplyError, BindingChange, Install, InstalledBinding, ServerUnavailableError
from shared.bundle import CertificateBundle
from shared.hostnames import DEFAULT_HOST, covering, wildcard_of
from tests.rigs.certificates import authority

FALLBACK = "fa" * 32


@cache
def bundle(name: str) -> CertificateBundle:
    """One certificate per name and run."""
    return authority().issue(name).bundle()


def binding(host: str, name: str = "old", *, port: int = 443, site: str | None = None) -> Install:
    return Install(host=host, port=port, bundle_id=f"id of {name}", bundle=bundle(name), site=site, generation=1)


@dataclass(kw_only=True)
class FakeServer:
    """What outlives the agent, and the ways in which a server can be difficult.

    Attributes:
        bound: Its bindings.
        shadowed: Hosts that are answered with another certificate (its fingerprint) whatever is bound.
        overlaid: As `shadowed`, by hand: until the host's binding is made again.
        handshakes_fail: Hosts whose handshakes fail.
        mute: Hosts whose connections are closed without a word; "" for clients that ask for no name.
        greedy: Bindings that win over the exact hosts below them, or the wildcards above.
        stale_looks: So many probes after each change still see what was served before it.
        down: Neither listens nor lets itself be configured.
        deaf: Can be configured, but nothing listens.
        probes: The server names it was asked for.
    """

    bound: dict[tuple[str, int], InstalledBinding] = field(default_factory=dict)
    shadowed: dict[str, str] = field(default_factory=dict)
    overlaid: dict[str, str] = field(default_factory=dict)
    handshakes_fail: set[str] = field(default_factory=set)
    mute: set[str] = field(default_factory=set)
    greedy: set[str] = field(default_factory=set)
    stale_looks: int = 0
    down: bool = False
    deaf: bool = False
    probes: list[str | None] = field(default_factory=list)
    _stale: dict[tuple[str, int], InstalledBinding] = field(default_factory=dict)
    _stale_left: int = 0

    def replace(self, table: dict[tuple[str, int], InstalledBinding]) -> None:
        self._stale, self._stale_left = self.bound, self.stale_looks
        self.bound = table

    async def probe(self, address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
        """What `served_fingerprint` would see."""
        await asyncio.sleep(0)
        self.probes.append(sni)
        if self.down or self.deaf:
            raise ProbeError(f"{address[0]}:{address[1]} did not accept a connection in {timeout_s} s", reached=False)
        host = sni.encode("idna").decode().lower() if sni else ""
        if host in self.handshakes_fail:
            raise ProbeError(f"{address[0]}:{address[1]} failed the TLS handshake for {sni}", reached=True)
        if host in self.mute:
            raise ProbeError(f"{address[0]}:{address[1]} closed the connection", reached=True, silent=True)
        if (other := self.shadowed.get(host) or self.overlaid.get(host)) is not None:
            return other
        table = self.bound
        if self._stale_left:
            self._stale_left -= 1
            table = self._stale
        name = self._answering(host, {key[0] for key in table if key[1] == address[1]})
        return table[name, address[1]].fingerprint_sha256 if name is not None else FALLBACK

    def _answering(self, host: str, bound: set[str]) -> str | None:
        """Which of the bindings answers for a host."""
        wildcard = wildcard_of(host)
        for name in sorted(self.greedy & bound):
            if name in {wildcard, DEFAULT_HOST} or (wildcard is not None and wildcard_of(name) == wildcard):
                return name
        return covering(host, bound) or (DEFAULT_HOST if DEFAULT_HOST in bound else None)


class FakeTarget:
    """Configures a `FakeServer`, all or nothing.

    Attributes:
        server: The server.
        breaks_on: Hosts whose changes it cannot make.
        names_culprits: Whether its errors say which change it was.
        in_slices: As a target has it.
        refuses: Hosts it can never take, with the reason.
        has_listener: Whether it can be probed at all.
        start_errors: What each `start` ends with, as long as there are any.
        is_started: Whether it was started and not stopped.
        forgets: How often it was to forget what it read.
        asked: What `current` was asked for, each time.
        applies: Every batch that was tried.
        retired: Every binding it was told to clean up after.
        retire_error: What cleaning up ends with.
        apply_error: What every `apply` ends with.
        explanation: What it says about a mismatch.
        in_apply: Set once an `apply` is in its middle.
        gate: Where set, `apply` waits for it in the middle.
    """

    kind: ClassVar[str] = "fake"
    in_slices = True

    def __init__(self, server: FakeServer | None = None, *, names_culprits: bool = True) -> None:
        self.server = server or FakeServer()
        self.names_culprits = names_culprits
        self.breaks_on: set[str] = set()
        self.refuses: dict[str, str] = {}
        self.has_listener = True
        self.start_errors: list[Exception] = []
        self.is_started = False
        self.forgets = 0
        self.asked: list[frozenset[tuple[str, int]] | None] = []
        self.applies: list[tuple[BindingChange, ...]] = []
        self.retired: list[InstalledBinding] = []
        self.retire_error: Exception | None = None
        self.apply_error: Exception | None = None
        self.explanation: str | None = None
        self.in_apply = asyncio.Event()
        self.gate: asyncio.Event | None = None

    @property
    def place(self) -> str:
        return "the fake server"

    def held(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def start(self) -> None:
        if self.start_errors:
            raise self.start_errors.pop(0)
        self.is_started = True

    async def stop(self) -> None:
        assert self.is_started, "what was never started is not stopped"
        self.is_started = False

    async def version(self) -> str:
        return "fake 1.0"

    async def current(self, keys: Collection[tuple[str, int]] | None = None) -> frozenset[InstalledBinding]:
        self.asked.append(None if keys is None else frozenset(keys))
        self._require_up()
        bound = self.server.bound
        return frozenset(bound.values() if keys is None else (bound[key] for key in keys if key in bound))

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        self.applies.append(tuple(changes))
        self._require_up()
        if self.apply_error is not None:
            raise self.apply_error
        table = dict(self.server.bound)
        for change in changes:
            if self._is_bad(change):
                culprit = change.key if self.names_culprits else None
                raise ApplyError(f"the server does not take {change.host}:{change.port}", culprit=culprit)
            if isinstance(change, Install):
                table[change.key] = change.bound
            else:
                table.pop(change.key, None)
        self.in_apply.set()
        if self.gate is not None:
            await self.gate.wait()
        for change in changes:
            self.server.overlaid.pop(change.host, None)
        self.server.replace(table)

    def forget(self) -> None:
        self.forgets += 1

    async def retire(self, replaced: Sequence[InstalledBinding]) -> None:
        self.retired += replaced
        if self.retire_error is not None:
            raise self.retire_error

    def endpoint(self, port: int) -> tuple[str, int] | None:
        return ("127.0.0.1", port) if self.has_listener else None

    def refusal(self, change: Install) -> str | None:
        return self.refuses.get(change.host)

    async def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        del host, port, seen_fingerprint_sha256
        return self.explanation

    def _is_bad(self, change: BindingChange) -> bool:
        if change.host in self.breaks_on:
            return True
        return isinstance(change, Install) and change.bundle.leaf.public_key() != change.bundle.key.public_key()

    def _require_up(self) -> None:
        if self.server.down:
            raise ServerUnavailableError("the fake server is down: start it")
