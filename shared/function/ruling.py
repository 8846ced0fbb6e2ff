"""Judging an upload, and holding it to the policy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.function.judging import judge, warnings_on
from shared.telemetry.names import Stage
from shared.telemetry.spans import spanned
from shared.upload import UploadMetadata, parse_metadata
from shared.validation.judge import ranked
from shared.validation.judged import Judged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.function.cloud import Cloud
    from shared.ports import BlobContent
    from shared.validation.policy import Policy


@spanned(Stage.JUDGE)
async def judge_by_rules(
    cloud: Cloud,
    found: BlobContent,
    *,
    on_slow: Callable[[], Awaitable[None]] | None = None,
    asks: Callable[[str], None] = lambda _: None,
) -> tuple[UploadMetadata, Judged]:
    """Judge one version of an upload, and hold it to the policy; arguments as for `judge`.

    What may not be there at all is not opened: that would cost more than it is allowed to.

    Raises:
        UnavailableError: As `judge`; or the policy cannot be used.
    """
    asks("the policy that CERTCAST_POLICY names")
    policy, name = await cloud.rules.current(), found.version.name
    metadata, noted = parse_metadata(found.version.metadata)
    nothing = Judged(
        violations=noted,
        hosts=(),
        port=metadata.port,
        role=metadata.role,
        site=metadata.site,
        default=metadata.default,
        bundle=None,
        warnings=warnings_on(found.version),
    )
    refused = held_to(nothing, policy, name)
    if refused != nothing:
        return metadata, refused
    metadata, judged = await judge(cloud, found, on_slow=on_slow, asks=asks)
    return metadata, held_to(judged, policy, name)


def held_to(judged: Judged, policy: Policy, name: str) -> Judged:
    """What was judged, with what the policy has against the upload of this name, for what it asks for."""
    refusal = policy.refusal(
        name=name,
        hosts=judged.hosts,
        port=judged.port,
        role=judged.role,
        default=judged.default,
        fingerprint_sha256=judged.bundle.fingerprint_sha256 if judged.bundle else "",
    )
    return judged if refusal is None else replace(judged, violations=ranked([*judged.violations, refusal]))
