"""Judging an upload, and holding it to the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.function.judging import judge
from shared.upload import UploadMetadata, parse_metadata
from shared.validation.judge import Judgement, held_to

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.function.cloud import Cloud
    from shared.ports import BlobContent


async def judge_by_rules(
    cloud: Cloud, found: BlobContent, *, on_slow: Callable[[], Awaitable[None]] | None = None
) -> tuple[UploadMetadata, Judgement]:
    """Judge one version of an upload, and hold it to the policy.

    What may not be there at all is not opened: that would cost more than it is allowed to.

    Raises:
        UnavailableError: As `judge`; or the policy cannot be used.
    """
    policy, name = await cloud.rules.current(), found.version.name
    metadata, noted = parse_metadata(found.version.metadata)
    nothing = Judgement(
        violations=noted, hosts=(), port=metadata.port, role=metadata.role, site=metadata.site, bundle=None
    )
    refused = held_to(nothing, policy, name)
    if refused != nothing:
        return metadata, refused
    metadata, judgement = await judge(cloud, found, on_slow=on_slow)
    return metadata, held_to(judgement, policy, name)
