"""Reading an upload and reaching a verdict: metadata, password, sealed bundle."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from shared.bundle import CertificateBundle
from shared.errors import MissingError, SecretUnavailableError
from shared.upload import UploadMetadata, parse_metadata, password_reference
from shared.validation.judge import Judgement, judge_bundle, judge_pfx
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from shared.function.cloud import Cloud
    from shared.ports import BlobContent


async def judge(cloud: Cloud, found: BlobContent) -> tuple[UploadMetadata, Judgement]:
    """Judge one version of an upload.

    Raises:
        UnavailableError: The vault of a referred-to password, or the sealed bundle, could not be reached.
    """
    metadata, noted = parse_metadata(found.version.metadata)
    if metadata.password is None and metadata.sealed_bundle is not None:
        sealed = await _sealed(cloud, metadata.sealed_bundle, found.content)
        if sealed is not None:
            now = cloud.now()
            return metadata, judge_bundle(sealed, metadata, policy=cloud.policy, now=now, earlier=noted)
    passwords: list[bytes | None] = [None, b""]
    if metadata.password is not None:
        reference = password_reference(metadata.password)
        try:
            secret = metadata.password if reference is None else await cloud.secrets.resolve(reference)
        except SecretUnavailableError as error:
            unavailable = Violation(code=VerdictCode.PASSWORD_SECRET_UNAVAILABLE, detail=f"{error}.")
            return metadata, Judgement(
                violations=(*noted, unavailable),
                hosts=(),
                port=metadata.port,
                role=metadata.role,
                site=metadata.site,
                bundle=None,
            )
        passwords = [secret.encode()]
    # Key derivation takes up to seconds of CPU; other uploads go on meanwhile.
    return metadata, await asyncio.to_thread(
        judge_pfx, found.content, metadata, passwords, policy=cloud.policy, now=cloud.now(), earlier=noted
    )


def lacks_password(metadata: UploadMetadata, judgement: Judgement) -> bool:
    """Whether the upload may only be waiting for its metadata: it cannot be opened and has no password yet."""
    unreadable = any(v.code is VerdictCode.UNREADABLE_BUNDLE for v in judgement.violations)
    return unreadable and metadata.password is None


async def _sealed(cloud: Cloud, marker: str, content: bytes) -> CertificateBundle | None:
    """The bundle a scrubbed upload was sealed into, if its content is still the one that was sealed."""
    if marker.rpartition("/")[2] != hashlib.sha256(content).hexdigest():
        return None
    try:
        return CertificateBundle.from_pem(await cloud.bundles.open(marker))
    except MissingError:
        return None
