"""Sealed bundles on their way to the server: opened, and seen to be what their id and their row say."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.bounded import gather_bounded
from shared.bundle import BUNDLE_ID, CertificateBundle
from shared.errors import BrokenBundleError, CertcastError
from shared.hostnames import DEFAULT_HOST, covering
from shared.phrasing import LISTED_NAMES, shown
from shared.state.wholeness import Wholeness, wholeness
from shared.telemetry import names
from shared.telemetry.names import Stage
from shared.telemetry.spans import note, span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from instance_agent.targets.base import InstalledBinding
    from shared.binding import DesiredBinding
    from shared.ports import BundleVault


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What became of opening one.

    Attributes:
        bundle: The bundle, or why it cannot be used.
        took_ms: How long that took.
    """

    bundle: CertificateBundle | CertcastError
    took_ms: float


class Bundles:
    """The bundles as the agent takes them: it runs elevated, and others may have written them.

    Args:
        vault: Where they are kept.
    """

    def __init__(self, vault: BundleVault) -> None:
        self._vault = vault

    async def fetch(self, ids: Iterable[str]) -> dict[str, Fetched]:
        """Open each, or say why it cannot be used."""
        wanted = sorted(ids)
        if not wanted:
            return {}
        with span(Stage.FETCH):
            note({names.BINDINGS: len(wanted)})
            return dict(zip(wanted, await gather_bounded(self._fetch_one(one) for one in wanted), strict=True))

    async def _fetch_one(self, bundle_id: str) -> Fetched:
        began = time.perf_counter()
        bundle: CertificateBundle | CertcastError
        try:
            bundle = await self._opened(bundle_id)
        except CertcastError as error:
            bundle = error
        except Exception as error:  # noqa: BLE001 - one bundle, which others may have written, holds up no other
            bundle = CertcastError(f"bundle {bundle_id} cannot be opened ({type(error).__name__}): upload it again")
        return Fetched(bundle=bundle, took_ms=(time.perf_counter() - began) * 1000)

    async def _opened(self, bundle_id: str) -> CertificateBundle:
        if not BUNDLE_ID.match(bundle_id):
            raise BrokenBundleError(f"a row names a bundle '{shown(bundle_id)}', which is no id of one")
        return CertificateBundle.from_sealed(await self._vault.open(bundle_id), bundle_id)

    async def wholeness(self) -> Wholeness | None:
        """What the last sweep said of the tables; None where that is not known."""
        return await wholeness(self._vault)

    async def any(self) -> bool:
        """Whether there are bundles at all."""
        async for stored in self._vault.each():
            if BUNDLE_ID.match(stored.bundle_id):
                return True
        return False

    async def recall(self, binding: InstalledBinding) -> CertificateBundle | None:
        """The bundle of what was served before, to put it back; None where the server does not know which that is."""
        if not binding.bundle_id:
            return None
        bundle = (await self._fetch_one(binding.bundle_id)).bundle
        if isinstance(bundle, CertcastError):
            raise bundle
        if bundle.fingerprint_sha256 != binding.fingerprint_sha256:
            raise CertcastError(_another(binding.bundle_id, bundle, binding.fingerprint_sha256))
        return bundle


def unfit_for(row: DesiredBinding, bundle: CertificateBundle) -> str | None:
    """Why a bundle is not installed for a row, whatever the Function checked: the agent runs elevated.

    The default is for clients that ask for no name, or for one of which nothing is known: no name has to be in it.
    """
    if bundle.fingerprint_sha256 != row.fingerprint_sha256:
        return f"{_another(row.bundle_id, bundle, row.fingerprint_sha256)}; not installed"
    if row.host != DEFAULT_HOST and covering(row.host, bundle.dns_names) is None:
        names = ", ".join(map(shown, bundle.dns_names[:LISTED_NAMES])) or "nothing"
        return f"the certificate is for {names}, not for {row.host}; not installed"
    return None


def _another(bundle_id: str, bundle: CertificateBundle, fingerprint_sha256: str) -> str:
    return (
        f"bundle {bundle_id} holds the certificate {bundle.fingerprint_sha256}, and {shown(fingerprint_sha256)} is "
        "what should be served"
    )
