"""An account with as many bindings as asked for, and the bare download of their bundles, for bench/boot.py."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING

import aiohttp
from azure.data.tables import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from cryptography.hazmat.primitives.asymmetric import ec

from shared.azure.bundles import BUNDLES_CONTAINER
from shared.binding import BindingState, Claim, DesiredBinding
from shared.bounded import gather_bounded
from shared.bundle import CertificateBundle, bundle_id
from shared.codec import to_entity
from shared.config import EMULATOR_ACCOUNT, EMULATOR_KEY
from shared.state.keys import binding_key
from shared.state.records import BINDINGS_TABLE
from tests.rigs.certificates import authority

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from shared.azure.account import Account

AT_ONCE = 32
_IN_ONE_TRANSACTION = 100
_VERSION = "2021-12-02"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One host with its certificate."""

    host: str
    bundle: CertificateBundle
    bundle_id: str


def tenants(count: int) -> list[Tenant]:
    """As many hosts, with certificates of one P-256 key: making keys is not what is measured."""
    ca, key = authority("certcast bench CA"), ec.generate_private_key(ec.SECP256R1())
    made = []
    for number in range(count):
        host = f"host-{number}.certcast.example"
        bundle = ca.issue(host, key=key).bundle()
        made.append(Tenant(host=host, bundle=bundle, bundle_id=bundle_id(bundle, host.encode())))
    return made


async def seal_all(account: Account, each: Sequence[Tenant]) -> None:
    """Put every bundle where agents fetch it."""
    await gather_bounded((account.bundles.seal(one.bundle_id, one.bundle.to_pem()) for one in each), limit=AT_ONCE)


def enter_all(connection_string: str, each: Sequence[Tenant], *, role: str) -> None:
    """Enter a desired row of a role for every host; blocks."""
    with TableServiceClient.from_connection_string(connection_string) as service:
        table = service.get_table_client(BINDINGS_TABLE)
        for begin in range(0, len(each), _IN_ONE_TRANSACTION):
            rows = [_row(one, role) for one in each[begin : begin + _IN_ONE_TRANSACTION]]
            places = [dict(zip(("PartitionKey", "RowKey"), binding_key(row.key), strict=True)) for row in rows]
            table.submit_transaction(
                [("create", {**to_entity(row), **place}) for row, place in zip(rows, places, strict=True)]
            )


def _row(one: Tenant, role: str) -> DesiredBinding:
    now, source = datetime.now(UTC), f"{one.host}.pfx"
    claim = Claim(
        source=source,
        revision=1,
        source_etag="0x8DC000000000000",
        bundle_id=one.bundle_id,
        fingerprint_sha256=one.bundle.fingerprint_sha256,
        thumbprint_sha1=one.bundle.thumbprint_sha1,
        not_before=one.bundle.not_before,
        not_after=one.bundle.not_after,
        uploaded_at=now,
    )
    return DesiredBinding(
        role=role,
        host=one.host,
        port=443,
        state=BindingState.PRESENT,
        generation=1,
        changed_at=now,
        claims=(claim,),
        bundle_id=one.bundle_id,
        fingerprint_sha256=one.bundle.fingerprint_sha256,
        thumbprint_sha1=one.bundle.thumbprint_sha1,
        source=source,
        source_etag=claim.source_etag,
        not_after=one.bundle.not_after,
        accepted_at=now,
    )


async def bare_s(blob_url: str, each: Sequence[Tenant]) -> float:
    """Seconds that signed requests over aiohttp take for all bundles, and nothing else."""
    key = base64.b64decode(EMULATOR_KEY)
    async with aiohttp.ClientSession() as session:

        async def get(one: Tenant) -> None:
            path = f"/{BUNDLES_CONTAINER}/{one.bundle_id}.pem"
            date = formatdate(usegmt=True)
            # learn.microsoft.com, "Authorize with Shared Key"; the emulator's paths name the account once more.
            place = f"/{EMULATOR_ACCOUNT}/{EMULATOR_ACCOUNT}{path}"
            text = "GET" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{_VERSION}\n{place}"
            signature = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
            headers = {
                "x-ms-date": date,
                "x-ms-version": _VERSION,
                "Authorization": f"SharedKey {EMULATOR_ACCOUNT}:{signature}",
            }
            async with session.get(f"{blob_url}{path}", headers=headers, raise_for_status=True) as answer:
                await answer.read()

        return await _seconds(get, each)


async def sdk_s(connection_string: str, each: Sequence[Tenant]) -> float:
    """Seconds that the SDK's downloads of the same take, undecrypted."""
    async with BlobServiceClient.from_connection_string(connection_string) as service:
        container = service.get_container_client(BUNDLES_CONTAINER)

        async def get(one: Tenant) -> None:
            await (await container.download_blob(f"{one.bundle_id}.pem")).readall()

        return await _seconds(get, each)


async def _seconds(get: Callable[[Tenant], Awaitable[None]], each: Sequence[Tenant]) -> float:
    began = time.perf_counter()
    await gather_bounded((get(one) for one in each), limit=AT_ONCE)
    return time.perf_counter() - began
