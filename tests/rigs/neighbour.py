"""A neighbour on an attacked platform: uploads of its own, and how long each takes to be live."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from instance_agent.installing.probe import ProbeError, served_fingerprint
from shared.state.records import UploadStatus
from tests.rigs.certificates import authority
from tests.rigs.witness import PASSWORD, Witness

_CA = authority("the neighbour's CA")
_LOOK_EVERY_S = 0.1
NEVER = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What is uploaded for one host."""

    host: str
    fingerprint: str
    file: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """The upload's."""
        return f"neighbour/{self.host}.pfx"


def certificates(what: str, count: int) -> list[Certificate]:
    """Certificates, each for a host of its own."""
    issued = {
        f"{what}-{number}.neighbour.test": _CA.issue(f"{what}-{number}.neighbour.test") for number in range(count)
    }
    return [
        Certificate(host=host, fingerprint=each.fingerprint, file=each.pfx(PASSWORD)) for host, each in issued.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """How long after the start of its request an upload was live; `NEVER` where patience ended.

    Attributes:
        served_s: Until every agent was seen to serve it.
        told_s: Until its row said so.
    """

    served_s: float
    told_s: float

    def __str__(self) -> str:
        return f"{self.served_s:.1f}/{self.told_s:.1f}"


def median(lives: Sequence[Live]) -> Live:
    """The medians of both."""
    return Live(
        served_s=statistics.median(each.served_s for each in lives),
        told_s=statistics.median(each.told_s for each in lives),
    )


async def upload_spread(cloud: Witness, own: Sequence[Certificate], *, over_s: float, patience_s: float) -> list[Live]:
    """Upload certificates, spread over a time, and see when each is live."""

    async def one(number: int, certificate: Certificate) -> Live:
        await asyncio.sleep(over_s * (number + 0.5) / len(own))
        return await goes_live(cloud, certificate, patience_s=patience_s)

    return await asyncio.gather(*(one(*each) for each in enumerate(own)))


async def goes_live(cloud: Witness, certificate: Certificate, *, patience_s: float) -> Live:
    """Upload a certificate and see when it is live."""
    began = time.monotonic()
    await cloud.upload(certificate.name, certificate.file)

    def looking_at(address: tuple[str, int]) -> Callable[[], Awaitable[bool]]:
        async def is_served() -> bool:
            try:
                shown = await served_fingerprint(address, certificate.host, timeout_s=patience_s)
            except ProbeError:
                return False
            return shown == certificate.fingerprint

        return is_served

    async def is_told() -> bool:
        record = await cloud.account.state.uploads.get(certificate.name)
        return record is not None and record.status is UploadStatus.LIVE

    async def since(look: Callable[[], Awaitable[bool]]) -> float:
        while time.monotonic() - began < patience_s:
            if await look():
                return time.monotonic() - began
            await asyncio.sleep(_LOOK_EVERY_S)
        return NEVER

    addresses = [cloud.platform.tls_address(agent) for agent in range(len(cloud.platform.agents))]
    told_s, *served_s = await asyncio.gather(since(is_told), *(since(looking_at(address)) for address in addresses))
    return Live(served_s=max(served_s), told_s=told_s)


def written(lives: Iterable[Live]) -> str:
    """All of them, for a person to read."""
    return ", ".join(map(str, lives))
