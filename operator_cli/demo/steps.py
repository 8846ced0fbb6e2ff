"""The demo's steps: what is done in each, and what must be seen from outside for it to count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from operator_cli.demo.certificates import DEMO_PASSWORD, WRONG_PASSWORD, DemoAuthority
from operator_cli.demo.handmade import HandmadeChange
from operator_cli.demo.report import StepReport
from operator_cli.demo.watch import PATIENCE_S, Watch
from operator_cli.handshake import certificate_shown
from shared.state.records import UploadStatus
from shared.verdict import VerdictCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from operator_cli.demo.backstage import Backstage
    from operator_cli.demo.certificates import DemoCertificate
    from shared.ports import UploadContainer
    from shared.state.tables import State

SHOP = "shop.certcast.example"
OUTLET = "outlet.certcast.example"
BASKET = "basket.certcast.example"
LATE = "late.certcast.example"
LOCKED = "locked.certcast.example"
UNCOVERED = "elsewhere.certcast.example"
NEXT = "next.certcast.example"
SHOP_BLOB, LATE_BLOB, LOCKED_BLOB = "shop.pfx", "late.pfx", "locked.pfx"
UNCOVERED_BLOB, NEXT_BLOB = "uncovered.pfx", "next.pfx"

METADATA_AFTER_S = 3.0
"""How long a person takes, in the demo, from Storage Explorer's upload to its Properties dialog."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: For programs.
        title: For people.
        act: Does it, and looks on.
    """

    name: str
    title: str
    act: Callable[[Watch], Awaitable[None]]


class Demo:
    """Plays the uploader and looks on from outside.

    Args:
        uploads: The container.
        state: The tables that `certcast status` reads.
        backstage: The cloud as its operator sees it.
        changed: Called with a step whenever something was seen in it.

    Attributes:
        plan: The steps, in the order in which each finds what the one before has left.
    """

    def __init__(
        self,
        *,
        uploads: UploadContainer,
        state: State,
        backstage: Backstage,
        changed: Callable[[StepReport], None],
    ) -> None:
        self._uploads = uploads
        self._state = state
        self._backstage = backstage
        self._listeners = backstage.listeners
        self._changed = changed
        self._authority = DemoAuthority()
        self._shop = self._authority.issue(SHOP, OUTLET, BASKET)
        self._late = self._authority.issue(LATE)
        self._next = self._authority.issue(NEXT)
        self._etags: dict[str, str] = {}
        self._fallbacks: dict[str, str] = {}
        self.plan = (
            Step("upload", "A PFX and its metadata are uploaded, as Storage Explorer does", self._first),
            Step("renewal", "A renewal is uploaded under the same name", self._renewal),
            Step("metadata_edit", "HostHeader is edited afterwards, of which no event tells", self._edit),
            Step("wrong_password", "A PFX comes with the wrong password", self._wrong_password),
            Step("host_not_covered", "A PFX is to be served for a host that it does not cover", self._not_covered),
            Step("late_metadata", f"A PFX is uploaded alone, its metadata {METADATA_AFTER_S:.0f} s later", self._alone),
            Step("instance_joins", "One more instance joins, and then a PFX is uploaded", self._joins),
            Step("instance_leaves", "An instance is stopped, and then a renewal is uploaded", self._leaves),
            *self._on_servers(),
            Step("removal", "An upload is deleted", self._removal),
        )

    def _on_servers(self) -> Iterable[Step]:
        """The step for web servers, where certificates can be changed without the agent."""
        if self._backstage.by_hand:
            yield Step("handmade_change", "Somebody replaces a certificate on each server by hand", self._by_hand)

    async def steps(self) -> AsyncIterator[StepReport]:
        """Take one step after the other; the first in which something was not seen is the last."""
        for step in self.plan:
            report = await self.play(step)
            yield report
            if not report.ok:
                return

    async def play(self, step: Step) -> StepReport:
        """Take one step."""
        for instance in self._listeners.keys() - self._fallbacks.keys():
            self._fallbacks[instance] = await self._fallback(instance)
        report = StepReport(name=step.name, title=step.title, changed=self._changed)
        watch = Watch(report, uploads=self._uploads, state=self._state, listeners=self._listeners)
        await step.act(watch)
        report.ms = watch.ms
        return report

    async def _first(self, watch: Watch) -> None:
        await self._upload(watch, SHOP_BLOB, self._shop.pfx, _metadata(SHOP, OUTLET))
        await self._sees_live(watch, SHOP_BLOB, SHOP, self._shop, before=self._fallbacks)

    async def _renewal(self, watch: Watch) -> None:
        before, self._shop = self._shop, self._authority.issue(SHOP, OUTLET, BASKET)
        await self._upload(watch, SHOP_BLOB, self._shop.pfx, _metadata(SHOP, OUTLET))
        await self._sees_live(watch, SHOP_BLOB, SHOP, self._shop, before=self._all(before))

    async def _edit(self, watch: Watch) -> None:
        await self._backstage.quiet()
        events, sweeps = self._backstage.events, self._backstage.sweeps
        await self._edit_hosts(SHOP_BLOB, SHOP, BASKET)
        watch.happened("metadata")
        shop, fallbacks = self._all(self._shop), self._fallbacks

        async def no_sweep() -> str | None:
            return None if self._backstage.sweeps > sweeps else "no sweep found anything"

        async def an_event() -> str | None:
            told = self._backstage.events - events
            return f"it was given {told}" if told else None

        await asyncio.gather(
            watch.way(SHOP_BLOB, self._etags[SHOP_BLOB], noticed="sweep"),
            watch.sees("the sweep says that it found something", no_sweep),
            watch.everywhere("a TLS handshake shows it for the added host", BASKET, shop, before=fallbacks),
            watch.everywhere("a TLS handshake shows the fallback for the dropped host", OUTLET, fallbacks, before=shop),
            watch.tags(SHOP_BLOB, self._etags[SHOP_BLOB], UploadStatus.LIVE),
            watch.status(SHOP_BLOB, self._etags[SHOP_BLOB], UploadStatus.LIVE),
        )
        await watch.everywhere("the host that stayed is served as before", SHOP, shop)
        await watch.sees("Event Grid was given no event meanwhile", an_event)

    async def _wrong_password(self, watch: Watch) -> None:
        pfx = self._authority.issue(LOCKED).pfx
        await self._upload(watch, LOCKED_BLOB, pfx, {**_metadata(LOCKED), "CertificatePassword": WRONG_PASSWORD})
        await self._sees_rejected(watch, LOCKED_BLOB, LOCKED, VerdictCode.UNREADABLE_BUNDLE)

    async def _not_covered(self, watch: Watch) -> None:
        await self._upload(watch, UNCOVERED_BLOB, self._authority.issue(SHOP).pfx, _metadata(UNCOVERED))
        await self._sees_rejected(watch, UNCOVERED_BLOB, UNCOVERED, VerdictCode.HOST_NOT_COVERED)

    async def _alone(self, watch: Watch) -> None:
        etag = await self._upload(watch, LATE_BLOB, self._late.pfx, {})
        await watch.tags(LATE_BLOB, etag, UploadStatus.WAITING_FOR_METADATA)
        await asyncio.sleep(max(0.0, METADATA_AFTER_S - watch.ms / 1000))
        self._etags[LATE_BLOB] = await self._uploads.set_metadata(LATE_BLOB, _metadata(LATE), etag=etag)
        watch.happened("metadata")
        await self._sees_live(watch, LATE_BLOB, LATE, self._late, before=self._fallbacks, noticed="noticed")

    async def _joins(self, watch: Watch) -> None:
        instance = await self._backstage.join()
        watch.happened("joined", instance=instance)
        for host, certificate in ((SHOP, self._shop), (BASKET, self._shop), (LATE, self._late)):
            what = f"a TLS handshake with the new one shows what is live for {host}"
            await watch.everywhere(what, host, self._all(certificate), only=[instance])
        self._fallbacks[instance] = await self._fallback(instance)
        fallback = "a TLS handshake with the new one shows the fallback for a dropped host"
        await watch.everywhere(fallback, OUTLET, self._fallbacks, only=[instance])
        await asyncio.gather(
            watch.instance(instance, alive=True),
            *(
                watch.tags(name, self._etags[name], UploadStatus.LIVE, whose=f"by now, {name}'s")
                for name in (SHOP_BLOB, LATE_BLOB)
            ),
        )
        await self._upload(watch, NEXT_BLOB, self._next.pfx, _metadata(NEXT))
        await self._sees_live(watch, NEXT_BLOB, NEXT, self._next, before=self._fallbacks)

    async def _leaves(self, watch: Watch) -> None:
        instance, address = min(self._listeners.items())
        await self._backstage.leave(instance)
        watch.happened("left", instance=instance)

        async def an_answer() -> str | None:
            return "something does" if await certificate_shown(address, NEXT) else None

        await watch.sees("nothing answers any more where it listened", an_answer, where=instance)
        await watch.instance(instance, alive=False)
        before, self._next = self._next, self._authority.issue(NEXT)
        await self._upload(watch, NEXT_BLOB, self._next.pfx, _metadata(NEXT))
        await self._sees_live(watch, NEXT_BLOB, NEXT, self._next, before=self._all(before))

    async def _by_hand(self, watch: Watch) -> None:
        ours = self._late.fingerprint_sha256
        changes = (
            HandmadeChange(LATE, instance, somebody, ours=ours, state=self._state)
            for instance, somebody in self._backstage.by_hand.items()
        )
        await asyncio.gather(*(change.play(watch) for change in changes))
        await asyncio.gather(
            watch.everywhere("the other certificate is served as before", SHOP, self._all(self._shop)),
            watch.status(LATE_BLOB, self._etags[LATE_BLOB], UploadStatus.LIVE),
        )

    async def _removal(self, watch: Watch) -> None:
        await self._uploads.delete(SHOP_BLOB)
        watch.happened("deleted")
        fallback = "a TLS handshake shows the fallback again"
        await asyncio.gather(
            watch.everywhere(fallback, SHOP, self._fallbacks, before=self._all(self._shop)),
            watch.status(SHOP_BLOB, None, UploadStatus.REMOVED),
        )
        await watch.everywhere("the other certificate is served as before", LATE, self._all(self._late))

    async def _sees_live(
        self,
        watch: Watch,
        name: str,
        host: str,
        certificate: DemoCertificate,
        *,
        before: Mapping[str, str],
        noticed: str = "event",
    ) -> None:
        etag = self._etags[name]
        await asyncio.gather(
            watch.way(name, etag, noticed=noticed),
            watch.everywhere("a TLS handshake shows the new certificate", host, self._all(certificate), before=before),
            watch.tags(name, etag, UploadStatus.LIVE),
            watch.status(name, etag, UploadStatus.LIVE),
            watch.password_gone(name),
        )

    async def _sees_rejected(self, watch: Watch, name: str, host: str, code: VerdictCode) -> None:
        etag = self._etags[name]
        await asyncio.gather(
            watch.way(name, etag),
            watch.tags(name, etag, UploadStatus.REJECTED, code=code),
            watch.status(name, etag, UploadStatus.REJECTED, code=code),
        )
        await watch.everywhere("a TLS handshake shows the fallback", host, self._fallbacks)

    async def _upload(self, watch: Watch, name: str, content: bytes, metadata: dict[str, str]) -> str:
        etag = self._etags[name] = await self._uploads.write(name, content, metadata)
        watch.happened("uploaded")
        return etag

    async def _edit_hosts(self, name: str, *hosts: str) -> None:
        """Change one line of the metadata, as Storage Explorer's Properties dialog does: the others stay as found."""
        found = await self._uploads.version(name)
        if found is None:
            return
        others = {key: value for key, value in found.metadata.items() if key.lower() != "hostheader"}
        edited = {**others, **_host_header(hosts)}
        self._etags[name] = await self._uploads.set_metadata(name, edited, etag=found.etag)

    async def _fallback(self, instance: str) -> str:
        """What an instance shows for no host; it may still be starting to listen."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            shown = await certificate_shown(self._listeners[instance], None)
            if shown is not None or asyncio.get_running_loop().time() > deadline:
                return shown or ""
            await asyncio.sleep(0.1)

    def _all(self, certificate: DemoCertificate) -> dict[str, str]:
        return dict.fromkeys(self._listeners, certificate.fingerprint_sha256)


def _metadata(*hosts: str) -> dict[str, str]:
    return {**_host_header(hosts), "PortNumber": "443", "CertificatePassword": DEMO_PASSWORD}


def _host_header(hosts: tuple[str, ...]) -> dict[str, str]:
    return {"HostHeader": ", ".join(hosts)}
