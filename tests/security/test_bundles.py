"""Whoever can write the container `bundles`: what lies there is served only where it is what its id and the row say."""

import asyncio
import io
import json
import resource
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob.aio import BlobClient
from cryptography.hazmat.primitives.asymmetric import rsa

from instance_agent.targets.base import InstalledBinding
from shared.azure.account import Account
from shared.azure.bundles import BUNDLES_CONTAINER
from shared.binding import ANY_ROLE, BindingState, DesiredBinding
from shared.bundle import (
    MAX_BUNDLE_BYTES,
    MAX_BUNDLE_CERTIFICATES,
    MAX_BUNDLE_KEY_BYTES,
    CertificateBundle,
    bundle_id,
)
from shared.errors import BrokenBundleError, CertcastError
from shared.messages import BindingReport, InstallOutcome
from tests.fakes.edges import FakeStorage
from tests.fakes.storage import START
from tests.fakes.target import FakeTarget
from tests.rigs.agents import actor, desired, served
from tests.rigs.certificates import authority
from tests.rigs.emulator import Emulator, opened_account
from tests.rigs.scenes import issued

HOST, WIDE = "shop.example.com", "*.example.com"


def sealed(storage: FakeStorage, bundle: CertificateBundle, *, under: str | None = None) -> str:
    """Put a bundle where anyone who can write the container can put it."""
    identity = under or bundle_id(bundle, b"")
    asyncio.run(storage.cloud().bundles.seal(identity, bundle.to_pem()))
    return identity


def row_for(bundle: CertificateBundle, identity: str, *, generation: int = 1, host: str = HOST) -> DesiredBinding:
    return DesiredBinding(
        role=ANY_ROLE,
        host=host,
        port=443,
        state=BindingState.PRESENT,
        generation=generation,
        changed_at=START,
        bundle_id=identity,
        fingerprint_sha256=bundle.fingerprint_sha256,
        source="a.pfx",
    )


class Machine:
    """An actor over a fake server."""

    def __init__(self) -> None:
        self.storage = FakeStorage()
        self.target = FakeTarget()
        self.actor = actor(self.storage, self.target)

    def does(self, *rows: DesiredBinding, whole: bool = True) -> list[BindingReport]:
        """One round as the agent makes it."""

        async def round_() -> list[BindingReport]:
            attempts = await self.actor.act(await self.actor.due(desired(*rows), whole=whole))
            news = self.actor.memory.unreported(attempts)
            self.actor.memory.remember(attempts, news)
            self.actor.memory.told(news)
            return [attempt.report for attempt in attempts]

        return asyncio.run(round_())


@pytest.fixture
def machine() -> Machine:
    return Machine()


class TestACopiedBundle:
    def test_is_not_served_for_a_host_that_it_also_covers(self, machine: Machine) -> None:
        right, wrong = issued(HOST).bundle(), issued(WIDE).bundle()
        identity = sealed(machine.storage, right)
        sealed(machine.storage, wrong, under=identity)
        (report,) = machine.does(row_for(right, identity))
        assert report.outcome is InstallOutcome.FAILED
        assert report.reason == (
            f"bundle {identity} holds the certificate {wrong.fingerprint_sha256}, which is another one: it was copied "
            "there; upload the certificate again"
        )
        assert machine.target.applies == []

    def test_takes_nothing_from_what_is_served(self, machine: Machine) -> None:
        before, after = issued(HOST).bundle(), issued(HOST, serial=1).bundle()
        old = sealed(machine.storage, before)
        machine.does(row_for(before, old))
        new = sealed(machine.storage, issued(WIDE).bundle(), under=bundle_id(after, b""))
        (report,) = machine.does(row_for(after, new, generation=2))
        assert report.outcome is InstallOutcome.FAILED
        assert served(machine.target.server) == {HOST: old}

    def test_of_the_same_leaf_under_another_fingerprint_is_not_what_the_row_asks_for(self, machine: Machine) -> None:
        """A row that names a whole and rightly named bundle, of another certificate."""
        right, wrong = issued(HOST).bundle(), issued(WIDE).bundle()
        identity = sealed(machine.storage, wrong)
        (report,) = machine.does(row_for(right, identity))
        assert report.reason == (
            f"bundle {identity} holds the certificate {wrong.fingerprint_sha256}, and {right.fingerprint_sha256} is "
            "what should be served; not installed"
        )
        assert machine.target.applies == []

    def test_is_not_put_back_in_place_of_what_was_served_before(
        self, machine: Machine, caplog: pytest.LogCaptureFixture
    ) -> None:
        before, after = issued(HOST).bundle(), issued(HOST, serial=1).bundle()
        old, new = sealed(machine.storage, before), sealed(machine.storage, after)
        machine.does(row_for(before, old))
        sealed(machine.storage, issued(WIDE).bundle(), under=old)
        machine.target.server.shadowed = {HOST: "5" * 64}
        (report,) = machine.does(row_for(after, new, generation=2))
        assert report.outcome is InstallOutcome.PROBE_MISMATCH
        assert "the new one stays bound, since the one before it could not be fetched" in report.reason
        assert served(machine.target.server) == {HOST: new}
        assert f"bundle {old} holds the certificate" in caplog.text

    def test_is_looked_at_again_by_each_whole_reconcile_and_served_once_it_is_right(self, machine: Machine) -> None:
        right = issued(HOST).bundle()
        identity = sealed(machine.storage, right)
        sealed(machine.storage, issued(WIDE).bundle(), under=identity)
        row = row_for(right, identity)
        machine.does(row)
        sealed(machine.storage, right)
        assert machine.does(row, whole=False) == []
        (report,) = machine.does(row)
        assert report.outcome is InstallOutcome.LIVE

    @pytest.mark.parametrize("identity", ["../certificates/x", "x", "", "a" * 64, f"{'a' * 64}/{'b' * 64}\n"])
    def test_has_an_id_that_is_no_path_to_elsewhere(self, machine: Machine, identity: str) -> None:
        bundle = issued(HOST).bundle()
        sealed(machine.storage, bundle, under=identity or "x")
        (report,) = machine.does(row_for(bundle, identity))
        assert report.outcome is InstallOutcome.FAILED
        assert "which is no id of one" in report.reason

    def test_recalled_for_a_binding_that_has_another_fingerprint_is_not_taken(self, machine: Machine) -> None:
        bundle = issued(HOST).bundle()
        identity = sealed(machine.storage, bundle)
        binding = InstalledBinding(host=HOST, port=443, bundle_id=identity, fingerprint_sha256="5" * 64)
        with pytest.raises(CertcastError, match="is what should be served"):
            asyncio.run(machine.actor._bundles.recall(binding))
        assert asyncio.run(machine.actor._bundles.recall(replace(binding, bundle_id=""))) is None


def issued_with_rsa() -> CertificateBundle:
    return authority().issue(HOST, key="rsa").bundle()


class TestWhatABundleMayBe:
    async def test_is_bounded_before_it_is_parsed(self) -> None:
        bundle = issued(HOST).bundle()
        identity, pem = bundle_id(bundle, b""), bundle.to_pem()
        certificate = pem[pem.index(b"-----BEGIN CERT") :]
        large = [
            pem + b"#" * MAX_BUNDLE_BYTES,
            pem + certificate * MAX_BUNDLE_CERTIFICATES,
            bundle.key_pem() * (MAX_BUNDLE_KEY_BYTES // len(bundle.key_pem()) + 1) + certificate,
            b"-----BEGIN PRIVATE KEY-----\n" + b"A" * MAX_BUNDLE_KEY_BYTES + certificate,
            b"-----BEGIN CERTIFICATE-----" * 70_000,
        ]
        began = time.perf_counter()
        for each in large:
            with pytest.raises(BrokenBundleError, match=f"bundle {identity} is larger than any that certcast seals"):
                CertificateBundle.from_sealed(each, identity)
        assert time.perf_counter() - began < 1

    async def test_has_room_for_the_largest_that_is_accepted(self) -> None:
        ca, long = authority(), rsa.generate_private_key(public_exponent=65537, key_size=4096)
        for _ in range(8):
            ca = ca.intermediate()
        bundle = ca.issue(HOST, key=long).bundle()
        read = CertificateBundle.from_sealed(bundle.to_pem(), bundle_id(bundle, b""))
        assert read == bundle
        assert 2 * len(bundle.key_pem()) < MAX_BUNDLE_KEY_BYTES, "8,192 bits are the most that is accepted"

    async def test_has_a_key_whose_numbers_belong_together(self) -> None:
        """OpenSSL's own check takes 60 ms for 2,048 bits and 4 s for 8,192, in which an agent would do nothing else."""
        bundle = issued_with_rsa()
        assert isinstance(bundle.key, rsa.RSAPrivateKey)
        own = bundle.key.private_numbers()
        assert CertificateBundle.from_pem(bundle.to_pem()) == bundle
        n, e = own.public_numbers.n, own.public_numbers.e
        for wrong in (
            {"p": 1, "q": n},
            {"d": own.d + 2},
            {"dmp1": own.dmp1 + 2},
            {"dmq1": own.dmq1 + 2},
            {"iqmp": own.iqmp + 2},
        ):
            numbers = {name: getattr(own, name) for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp")} | wrong
            key = rsa.RSAPrivateNumbers(**numbers, public_numbers=rsa.RSAPublicNumbers(e, n))
            try:
                broken = replace(bundle, key=key.private_key(unsafe_skip_rsa_key_validation=True))
            except ValueError:
                continue  # not even to be written
            with pytest.raises(BrokenBundleError):
                CertificateBundle.from_pem(broken.to_pem())

    @pytest.mark.parametrize("bad", [b"", b"\xff" * 100, b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"])
    async def test_is_damaged_or_whole_and_raises_nothing_else(self, bad: bytes) -> None:
        pem = issued(HOST).bundle().to_pem()
        for each in (bad, bad + pem, pem.replace(b"A", b"B"), pem[:-100], pem[100:]):
            with pytest.raises(BrokenBundleError):
                CertificateBundle.from_sealed(each, f"{'0' * 64}/{'0' * 64}")

    def test_that_breaks_in_an_unforeseen_way_holds_up_no_other(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good, bad = issued(HOST).bundle(), issued("bad.example.com").bundle()
        ids = sealed(machine.storage, good), sealed(machine.storage, bad)
        read = CertificateBundle.from_sealed

        def breaking(pem: bytes, identity: str) -> CertificateBundle:
            if identity == ids[1]:
                raise ZeroDivisionError
            return read(pem, identity)

        monkeypatch.setattr(CertificateBundle, "from_sealed", breaking)
        reports = machine.does(row_for(good, ids[0]), row_for(bad, ids[1], host="bad.example.com"))
        assert {report.host: report.outcome for report in reports} == {
            HOST: InstallOutcome.LIVE,
            "bad.example.com": InstallOutcome.FAILED,
        }


@pytest.fixture
async def account(azurite: Emulator, tmp_path: Path) -> AsyncIterator[Account]:
    async with opened_account(azurite.connection_string, tmp_path / "key") as opened:
        yield opened


def blob_of(azurite: Emulator, identity: str) -> BlobClient:
    return BlobClient.from_connection_string(
        azurite.connection_string,
        BUNDLES_CONTAINER,
        f"{identity}.pem",
        max_single_put_size=1_000_000,
        max_block_size=1_000_000,
    )


class TestABlobThatOthersWrote:
    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("EncryptedRegionInfo", "DataLength"), 0),
            (("EncryptedRegionInfo", "DataLength"), "x"),
            (("EncryptedRegionInfo", "DataLength"), 1),
            (("EncryptedRegionInfo", "NonceLength"), 10**9),
            (("EncryptedRegionInfo",), None),
            (("WrappedContentKey", "KeyId"), 5),
            (("WrappedContentKey", "EncryptedKey"), "!!"),
            (("WrappedContentKey", "Algorithm"), []),
            (("EncryptionAgent", "Protocol"), "1.0"),
            (("EncryptionAgent",), 7),
        ],
    )
    async def test_with_metadata_of_their_own_is_refused_and_nothing_else_is_raised(
        self, azurite: Emulator, account: Account, path: tuple[str, ...], value: object
    ) -> None:
        identity = bundle_id(issued(HOST).bundle(), repr((path, value)).encode())
        await account.bundles.seal(identity, b"pem" * 100)
        async with blob_of(azurite, identity) as blob:
            told: dict[str, Any] = json.loads((await blob.get_blob_properties()).metadata["encryptiondata"])
            place = told
            for name in path[:-1]:
                place = place[name]
            place[path[-1]] = value
            await blob.set_blob_metadata({"encryptiondata": json.dumps(told)})
        with pytest.raises(CertcastError, match=f"bundle {identity} cannot be opened"):
            await account.bundles.open(identity)

    @pytest.mark.parametrize("size", [MAX_BUNDLE_BYTES + 1, 60_000_000])
    async def test_with_more_than_a_bundle_can_have_is_not_read(
        self, azurite: Emulator, account: Account, size: int
    ) -> None:
        identity = bundle_id(issued(HOST).bundle(), str(size).encode())
        await account.bundles.seal(identity, b"pem")
        async with blob_of(azurite, identity) as blob:
            told = json.loads((await blob.get_blob_properties()).metadata["encryptiondata"])
            told["EncryptedRegionInfo"]["DataLength"] = 10**12
            await blob.upload_blob(
                io.BytesIO(bytes(size + 28)), metadata={"encryptiondata": json.dumps(told)}, overwrite=True
            )
            before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with pytest.raises(CertcastError, match=f"is larger than any that certcast seals \\({size + 28} bytes\\)"):
                await account.bundles.open(identity)
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 20_000
            await blob.delete_blob()
