"""Puts back what a binding replaced when the probe did not see the new certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from instance_agent.installing.applying import apply_all, clean_up
from instance_agent.installing.sighting import Looker, served
from instance_agent.targets.base import BindingChange, BindingTarget, Install, InstalledBinding, Remove
from shared.bounded import gather_bounded
from shared.errors import CertcastError
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from instance_agent.targets.base import Key
    from shared.bundle import CertificateBundle

    Recall = Callable[[InstalledBinding], Awaitable[CertificateBundle | None]]

_NOT_NEW = "it stays bound, as it was before"
_NOT_FETCHED = "the new one stays bound, since the one before it could not be fetched"

log = logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoer:
    """What undoing needs.

    Attributes:
        target: The server.
        looker: To see that the old certificate is back; its pace says how much to recall at once.
        recall: Fetches the bundle of a binding that was replaced; None when that is impossible.
    """

    target: BindingTarget
    looker: Looker
    recall: Recall

    async def undo(self, installs: Sequence[Install], before: Mapping[Key, InstalledBinding]) -> Mapping[Key, str]:
        """Restore, in one batch, what was bound before these were, and look whether it is served again.

        Then the target deletes what the undone ones alone had needed.

        Returns:
            For each host and port, the end of a sentence that tells what became of it.
        """
        told = {each.key: _NOT_NEW if each.is_done_by(before.get(each.key)) else _NOT_FETCHED for each in installs}
        steps = await gather_bounded(
            (self._step(each, before.get(each.key)) for each in installs), limit=self.looker.pace.at_once
        )
        applied = await apply_all(self.target.apply, [step for step in steps if step is not None])
        undone = {each.change.key: each.change for each in applied if not each.failure}
        told |= {
            each.change.key: f"the new one stays bound, since undoing it failed: {each.failure}"
            for each in applied
            if each.failure
        }
        told |= dict.fromkeys(undone, "the binding was taken away again")
        restored = [change for change in undone.values() if isinstance(change, Install)]
        sightings = await self.looker.look([served(each) for each in restored], patience_s=self.looker.pace.patience_s)
        for change, sighting in zip(restored, sightings, strict=True):
            seen = "is served again" if sighting.met else "is bound again but not seen either"
            told[change.key] = f"the one before it {seen}"
        await clean_up(self.target, [each.bound for each in installs if each.key in undone])
        return told

    async def _step(self, install: Install, old: InstalledBinding | None) -> BindingChange | None:
        """The change that undoes one install; None when it is better left."""
        if old is None:
            return Remove(host=install.host, port=install.port)
        if install.is_done_by(old):
            return None
        try:
            bundle = await self.recall(old)
        except CertcastError as error:
            log.warning("the earlier bundle of %s could not be recalled: %s", old.phrased, error)
            return None
        if bundle is None or bundle.fingerprint_sha256 != old.fingerprint_sha256:
            return None
        return Install(host=old.host, port=old.port, bundle_id=old.bundle_id, bundle=bundle, site=old.site)
