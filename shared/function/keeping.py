"""Claims kept in place of what was turned down or waits for its first day, written down where tables cannot lose them.

What is served then is found in no upload any more: the blob has the new content, and the earlier bundle names no
upload. So those claims are sealed beside the bundles for as long as they are kept; `restoring` enters them again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.binding import BindingKey, Claim
from shared.codec import from_document, to_document
from shared.errors import BrokenBundleError, CertcastError, MissingError
from shared.phrasing import logger
from shared.state.reasons import KEPT as TURNED_DOWN
from shared.state.records import UploadRecord, UploadStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.binding import DesiredBinding
    from shared.function.cloud import Cloud

log = logger(__name__)

FOLDER = "kept/"
_KEEPING = TURNED_DOWN | {UploadStatus.SCHEDULED}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptClaim:
    """One claim, and the row that it stands in."""

    key: BindingKey
    claim: Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What is sealed: an upload's claims; none when it keeps none any more."""

    name: str
    claims: tuple[KeptClaim, ...] = ()


def place_of(name: str) -> str:
    """Where an upload's kept claims are sealed; a name may hold what no path can."""
    return FOLDER + hashlib.sha256(name.encode()).hexdigest()


def keeps(record: UploadRecord) -> bool:
    """Whether an earlier certificate of an upload is, or may be, served in place of what was looked at last."""
    return record.status in _KEEPING and bool(record.claims)


async def write_down(cloud: Cloud, name: str, rows: Iterable[DesiredBinding]) -> None:
    """Seal the claims that an upload has in these rows, before its own row says that it keeps them."""
    claims = [
        KeptClaim(key=row.key, claim=claim)
        for row in rows
        if (claim := row.claim_of(name)) is not None and claim.withdrawn_at is None
    ]
    if claims:
        await _seal(cloud, _Kept(name=name, claims=tuple(claims)))


async def strike_out(cloud: Cloud, before: UploadRecord) -> None:
    """Forget what an upload kept, now that it is served itself, or gone."""
    if keeps(before):
        await _seal(cloud, _Kept(name=before.name))


async def seal_again(cloud: Cloud, record: UploadRecord) -> None:
    """Put what an upload keeps under the key that seals now."""
    if keeps(record) and (claims := await kept_by(cloud, record.name)):
        await _seal(cloud, _Kept(name=record.name, claims=claims))


async def kept_by(cloud: Cloud, name: str) -> tuple[KeptClaim, ...]:
    """What was written down of an upload; none where nothing can be read of it.

    Raises:
        UnavailableError: It cannot be read now.
    """
    try:
        kept = from_document(_Kept, json.loads(await cloud.bundles.open(place_of(name))), broken=BrokenBundleError)
    except MissingError:
        return ()
    except (CertcastError, ValueError) as error:
        if isinstance(error, CertcastError) and error.retriable:
            raise
        log.error("upload %s: what it kept in place cannot be read: %s", name, error)
        return ()
    return kept.claims if kept.name == name else ()


def places_needed(records: Iterable[UploadRecord]) -> set[str]:
    """Where claims are sealed that are still kept."""
    return {place_of(record.name) for record in records if keeps(record)}


async def _seal(cloud: Cloud, kept: _Kept) -> None:
    await cloud.bundles.seal(place_of(kept.name), json.dumps(to_document(kept)).encode())
