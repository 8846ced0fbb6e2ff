"""Certificates in the machine's stores: imported before they are bound, tagged, and deleted when nothing uses them."""

from dataclasses import replace

import pytest

from instance_agent.installing.installer import install as install_changes
from instance_agent.installing.sighting import Pace
from instance_agent.targets.base import ApplyError, Install, InstalledBinding, Remove, ServerUnavailableError
from instance_agent.targets.iis.gateway import GatewayError
from instance_agent.targets.iis.hresult import ACCESS_DENIED, NO_LOGON_SESSION
from instance_agent.targets.iis.records import SslRecord
from instance_agent.targets.iis.tag import Mark, Tag, read_tag, tag_of
from instance_agent.targets.iis.target import IisTarget
from shared.bundle import CertificateBundle
from shared.bundle.link import Link
from shared.messages import InstallOutcome
from tests.fakes.iis.changes import install, issue
from tests.fakes.iis.rig import WEB, Machine
from tests.rigs.certificates import authority, self_signed
from tests.rigs.handmade_certificate import AUTHORITYS, CRITICAL_FALSE, certificate

SHOP = "shop.example.com"


async def renewed(machine: Machine, target: IisTarget) -> tuple[Install, Install]:
    """A host installed and renewed, the old certificate not yet retired."""
    old, new = install(SHOP), install(SHOP)
    await target.apply([old])
    machine.stores.imports.clear()
    before = await target.current()
    await target.apply([new])
    assert {it.fingerprint_sha256 for it in before} == {old.bundle.fingerprint_sha256}
    return old, new


async def retire(target: IisTarget, *changes: Install) -> None:
    await target.retire(
        [
            InstalledBinding(
                host=change.host,
                port=change.port,
                bundle_id=change.bundle_id,
                fingerprint_sha256=change.bundle.fingerprint_sha256,
            )
            for change in changes
        ]
    )


class TestImport:
    async def test_the_certificate_is_in_the_store_before_it_is_bound(self, machine: Machine) -> None:
        assert machine.iis.usable == machine.stores.has_usable  # the commit fails otherwise, as IIS's does
        await machine.target().apply([install(SHOP)])
        assert machine.iis.commits == 1

    async def test_the_friendly_name_tells_host_and_generation(self, machine: Machine) -> None:
        change = install(SHOP, generation=7)
        await machine.target().apply([change])
        assert machine.stores.friendly_name(change.bundle.thumbprint_sha1).startswith(f"certcast:{SHOP}:7")

    async def test_intermediates_go_to_their_store_and_a_root_nowhere(self, machine: Machine) -> None:
        root = authority()
        issued = root.intermediate("first").intermediate("second").issue(SHOP)
        bundle = CertificateBundle(
            leaf=issued.certificate, chain=tuple(map(Link.of, (*issued.chain, root.certificate))), key=issued.key
        )
        await machine.target().apply([replace(install(SHOP, issued), bundle=bundle)])
        found = {it.subject.rfc4514_string() for it in machine.stores.intermediates.values()}
        assert found == {"CN=first", "CN=second"}
        assert machine.stores.thumbprints() == {issued.thumbprint}

    @pytest.mark.parametrize("taken", [True, False])
    async def test_a_malformed_intermediate_is_offered_to_the_store_and_holds_up_nothing(
        self, machine: Machine, caplog: pytest.LogCaptureFixture, *, taken: bool
    ) -> None:
        machine.stores.takes_malformed = taken
        change = install(SHOP)
        above = Link.read(certificate(*AUTHORITYS, CRITICAL_FALSE, subject="odd", issuer="above").der)
        bundle = replace(change.bundle, chain=(above, *change.bundle.chain))
        await machine.target().apply([replace(change, bundle=bundle), install("blog.example.com")])
        assert machine.served(f"{SHOP}:443") == change.bundle.thumbprint_sha1
        assert machine.iis.commits == 1
        found = {it.subject.rfc4514_string() for it in machine.stores.intermediates.values()}
        assert ("CN=odd" in found) is taken
        assert len(found) >= 1
        assert ("the intermediate CN=odd breaks the rules of its encoding" in caplog.text) is not taken

    async def test_a_self_signed_certificate_is_a_leaf_all_the_same(self, machine: Machine) -> None:
        issued = self_signed(SHOP)
        await machine.target().apply([install(SHOP, issued)])
        assert machine.served(f"{SHOP}:443") == issued.thumbprint

    async def test_a_renewal_with_another_chain_alone_brings_its_intermediates(
        self, machine: Machine, target: IisTarget
    ) -> None:
        issued = issue(SHOP)
        bare = CertificateBundle(leaf=issued.certificate, chain=(), key=issued.key)
        await target.apply([replace(install(SHOP, issued), bundle=bare, bundle_id=f"{issued.fingerprint}/{'1' * 64}")])
        assert machine.stores.intermediates == {}
        await target.apply([install(SHOP, issued)])
        assert len(machine.stores.intermediates) == 1
        assert machine.iis.commits == 1

    async def test_a_certificate_that_is_there_is_not_imported_again(self, machine: Machine, target: IisTarget) -> None:
        issued = issue(SHOP, "blog.example.com")
        await target.apply([install(SHOP, issued)])
        await target.apply([install("blog.example.com", issued)])
        assert machine.stores.imports == [issued.thumbprint]
        assert {it.host for it in await target.current()} == {SHOP, "blog.example.com"}

    async def test_a_certificate_that_is_there_without_its_key_is_imported(self, machine: Machine) -> None:
        issued = issue(SHOP)
        machine.stores.put(issued, with_key=False)
        await machine.target().apply([install(SHOP, issued)])
        assert machine.stores.has_usable(issued.thumbprint)

    async def test_a_certificate_imported_by_hand_is_bound_but_never_ours(
        self, machine: Machine, target: IisTarget, caplog: pytest.LogCaptureFixture
    ) -> None:
        issued = issue(SHOP)
        machine.stores.put(issued, friendly_name="by hand")
        await target.apply([install(SHOP, issued)])
        assert machine.served(f"{SHOP}:443") == issued.thumbprint
        assert machine.stores.friendly_name(issued.thumbprint) == "by hand"
        assert "before certcast" in caplog.text
        await target.apply([install(SHOP)])
        await retire(target, install(SHOP, issued))
        await target.start()
        assert issued.thumbprint in machine.stores.thumbprints()

    async def test_a_binding_with_another_programs_import_is_removed_by_the_agent_that_bound_it_and_by_no_later_one(
        self, machine: Machine, target: IisTarget
    ) -> None:
        """As beside a web role that imports and binds the same uploads by itself."""
        issued = issue(SHOP)
        machine.stores.put(issued, friendly_name="the job's")
        machine.iis.add_binding(WEB, f"*:443:{SHOP}", thumbprint=issued.thumbprint)
        await target.apply([install(SHOP, issued)])
        later = machine.target()  # the upload was deleted while no agent ran: nothing binds before it is asked
        await later.start()
        assert await later.current() == frozenset()
        [bound] = await target.current()
        assert bound.key == (SHOP, 443)
        await target.apply([Remove(host=SHOP, port=443)])
        assert machine.served(f"{SHOP}:443") is None
        assert issued.thumbprint in machine.stores.thumbprints()

    async def test_a_key_that_is_not_the_certificates_is_refused_by_name(self, machine: Machine) -> None:
        issued, other = issue("bad.example.com"), issue("bad.example.com")
        bundle = CertificateBundle(leaf=issued.certificate, chain=(), key=other.key)
        with pytest.raises(ApplyError, match="does not belong") as caught:
            await machine.target().apply(
                [install(SHOP), replace(install("bad.example.com", issued), bundle=bundle), install("x.example.com")]
            )
        assert caught.value.culprit == ("bad.example.com", 443)
        assert (machine.stores.entries, machine.iis.commits) == ({}, 0)

    async def test_no_password_is_used_twice_or_shown(self, machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG")
        await machine.target().apply([install(SHOP), install("blog.example.com")])
        assert len(set(machine.stores.passwords)) == 2
        assert not [password for password in machine.stores.passwords if password in caplog.text]


class TestFailedBatches:
    async def test_an_import_that_windows_refuses_names_the_change_and_leaves_no_trace(self, machine: Machine) -> None:
        good, bad = install(SHOP), install("bad.example.com")
        machine.stores.refused[bad.bundle.thumbprint_sha1] = ACCESS_DENIED
        with pytest.raises(ApplyError, match=r"0x80070005.*elevated") as caught:
            await machine.target().apply([good, bad])
        assert caught.value.culprit == bad.key
        assert (machine.stores.entries, machine.iis.commits, machine.iis.open_sessions) == ({}, 0, 0)

    async def test_a_key_that_windows_cannot_use_is_found_before_the_commit(self, machine: Machine) -> None:
        bad = install("bad.example.com")
        machine.stores.unusable.add(bad.bundle.thumbprint_sha1)
        with pytest.raises(ApplyError, match="private key") as caught:
            await machine.target().apply([install(SHOP), bad])
        assert caught.value.culprit == bad.key
        assert (machine.stores.entries, machine.bindings()) == ({}, {})

    async def test_a_commit_that_fails_takes_its_imports_with_it_and_spares_the_rest(
        self, machine: Machine, target: IisTarget
    ) -> None:
        old, new = install(SHOP), install(SHOP)
        await target.apply([old])
        machine.iis.fail_commit(NO_LOGON_SESSION)
        with pytest.raises(ApplyError, match="0x80070520"):
            await target.apply([new, install("blog.example.com"), Remove(host="x.example.com", port=443)])
        assert machine.stores.thumbprints() == {old.bundle.thumbprint_sha1}
        assert machine.served(f"{SHOP}:443") == old.bundle.thumbprint_sha1
        assert machine.iis.commits == 1

    async def test_stores_that_cannot_be_read_are_the_servers_trouble(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:

        def refuse() -> None:
            raise GatewayError("The store cannot be opened", code=ACCESS_DENIED)

        monkeypatch.setattr(machine.stores, "listing", refuse)
        for step in (machine.target().apply([install(SHOP)]), machine.target().current()):
            with pytest.raises(ServerUnavailableError, match="elevated"):
                await step


class TestRetire:
    async def test_the_replaced_certificate_and_its_key_are_deleted(self, machine: Machine, target: IisTarget) -> None:
        old, new = await renewed(machine, target)
        assert machine.stores.thumbprints() == {old.bundle.thumbprint_sha1, new.bundle.thumbprint_sha1}
        await retire(target, old)
        assert machine.stores.thumbprints() == {new.bundle.thumbprint_sha1}
        assert machine.stores.deleted_keys == [old.bundle.thumbprint_sha1]

    @pytest.mark.parametrize("started", [True, False])
    async def test_not_while_another_site_uses_it_even_a_stopped_one(
        self, machine: Machine, target: IisTarget, *, started: bool
    ) -> None:
        machine.iis.add_site("Other", site_id=2, started=started)
        old, _ = await renewed(machine, target)
        machine.iis.add_binding("Other", "*:444:", flags=0, thumbprint=old.bundle.thumbprint_sha1)
        await retire(target, old)
        assert old.bundle.thumbprint_sha1 in machine.stores.thumbprints()

    @pytest.mark.parametrize("where", ["site", "defaults"])
    async def test_not_while_an_ftp_site_uses_it(self, machine: Machine, target: IisTarget, where: str) -> None:
        old, _ = await renewed(machine, target)
        if where == "site":
            machine.iis.add_site("Files", site_id=2, ftp=old.bundle.thumbprint_sha1.lower())
            machine.iis.add_binding("Files", "*:21:", protocol="ftp", flags=0)
        else:
            machine.iis.set_default_ftp(old.bundle.thumbprint_sha1)
        await retire(target, old)
        assert old.bundle.thumbprint_sha1 in machine.stores.thumbprints()

    async def test_not_while_another_program_uses_it_in_http_sys(self, machine: Machine, target: IisTarget) -> None:
        old, _ = await renewed(machine, target)
        machine.foreign_records.append(SslRecord(ip="0.0.0.0", port=5986, thumbprint=old.bundle.thumbprint_sha1))  # noqa: S104
        await retire(target, old)
        assert old.bundle.thumbprint_sha1 in machine.stores.thumbprints()

    async def test_a_certificate_that_serves_other_hosts_still_stays(self, machine: Machine, target: IisTarget) -> None:
        issued = issue("one.example.com", "two.example.com")
        await target.apply([install("one.example.com", issued), install("two.example.com", issued)])
        before = [it for it in await target.current() if it.host == "one.example.com"]
        await target.apply([Remove(host="one.example.com", port=443)])
        await target.retire(before)
        assert machine.stores.thumbprints() == {issued.thumbprint}
        assert {it.host for it in await target.current()} == {"two.example.com"}

    async def test_what_others_imported_is_never_deleted(self, machine: Machine, target: IisTarget) -> None:
        by_hand = issue(SHOP)
        machine.stores.put(by_hand, friendly_name="certcast")
        await retire(target, install(SHOP, by_hand))
        await target.start()
        assert machine.stores.thumbprints() == {by_hand.thumbprint}

    async def test_only_what_was_replaced_is_deleted(self, machine: Machine, target: IisTarget) -> None:
        old, _ = await renewed(machine, target)
        await target.apply([Remove(host=SHOP, port=443)])
        await target.apply([install("blog.example.com")])
        await target.retire([])
        assert len(machine.stores.entries) == 3
        before = await target.current()
        await target.retire([replace(it, fingerprint_sha256=old.bundle.fingerprint_sha256) for it in before])
        assert len(machine.stores.entries) == 2

    async def test_a_deletion_that_fails_is_no_failure_of_the_batch(
        self, machine: Machine, target: IisTarget, caplog: pytest.LogCaptureFixture
    ) -> None:
        old, _ = await renewed(machine, target)
        machine.iis.lock.acquire()
        machine.iis.lock_timeout_s = 0.01
        await retire(target, old)
        machine.iis.lock.release()
        assert "tried again at the next start" in caplog.text
        await target.start()
        assert old.bundle.thumbprint_sha1 not in machine.stores.thumbprints()


class TestAnInstallThatWasUndone:
    """Another certificate was seen, so what was bound is no longer bound."""

    @staticmethod
    async def undone(target: IisTarget, change: Install, *earlier: Install) -> None:
        async def something_else(address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
            del address, sni, timeout_s
            return "0" * 64

        async def recall(binding: InstalledBinding) -> CertificateBundle | None:
            return next((each.bundle for each in earlier if each.bundle_id == binding.bundle_id), None)

        pace = Pace(confirm_s=0, patience_s=0)
        (result,) = await install_changes(target, [change], something_else, recall=recall, pace=pace)
        assert result.outcome is InstallOutcome.PROBE_MISMATCH

    async def test_leaves_no_certificate_where_there_was_none(self, machine: Machine) -> None:
        new = install(SHOP)
        await self.undone(machine.target(), new)
        assert machine.bindings() == {}
        assert machine.stores.thumbprints() == set()
        assert machine.stores.deleted_keys == [new.bundle.thumbprint_sha1]

    async def test_leaves_the_certificate_before_it_alone(self, machine: Machine, target: IisTarget) -> None:
        old, new = install(SHOP), install(SHOP)
        await target.apply([old])
        await self.undone(target, new, old)
        assert machine.stores.thumbprints() == {old.bundle.thumbprint_sha1}
        assert machine.served(f"{SHOP}:443") == old.bundle.thumbprint_sha1

    async def test_keeps_the_certificate_that_serves_another_host(self, machine: Machine, target: IisTarget) -> None:
        issued = issue(SHOP, "blog.example.com")
        await target.apply([install("blog.example.com", issued)])
        await self.undone(target, install(SHOP, issued))
        assert machine.stores.thumbprints() == {issued.thumbprint}
        assert set(machine.bindings()) == {"*:443:blog.example.com"}

    async def test_keeps_the_certificate_that_stays_bound_for_want_of_the_one_before(
        self, machine: Machine, target: IisTarget
    ) -> None:
        old, new = install(SHOP), install(SHOP)
        await target.apply([old])
        await self.undone(target, new)
        assert machine.stores.thumbprints() == {old.bundle.thumbprint_sha1, new.bundle.thumbprint_sha1}
        assert machine.served(f"{SHOP}:443") == new.bundle.thumbprint_sha1


class TestStart:
    async def test_what_a_crash_between_import_and_commit_left_is_deleted(self, machine: Machine) -> None:
        orphan, bound = issue(SHOP), install("blog.example.com")
        await machine.target().apply([bound])
        machine.stores.put(orphan, friendly_name=f"certcast:{SHOP}:1")
        machine.stores.put(orphan, friendly_name=f"certcast:{SHOP}:1", store="WebHosting")
        await machine.target().start()
        assert set(machine.stores.entries) == {("My", bound.bundle.thumbprint_sha1)}

    async def test_another_process_inside_is_the_servers_trouble(self, machine: Machine) -> None:
        machine.iis.lock_timeout_s = 0.01
        with machine.iis.lock, pytest.raises(ServerUnavailableError, match="mutex"):
            await machine.target().apply([install(SHOP)])
        assert (machine.iis.commits, machine.stores.entries) == (0, {})


class TestTag:
    @pytest.mark.parametrize(
        ("name", "tag"),
        [
            ("certcast:a.example.com:7", Tag(marks={"a.example.com": Mark(generation=7)})),
            (
                f"certcast:*.b.com,a.com:7:{'1' * 64};c.com:9",
                Tag(
                    marks={
                        "*.b.com": Mark(generation=7, content="1" * 64),
                        "a.com": Mark(generation=7, content="1" * 64),
                        "c.com": Mark(generation=9),
                    }
                ),
            ),
        ],
    )
    def test_is_written_and_read(self, name: str, tag: Tag) -> None:
        assert read_tag(name) == tag
        assert str(tag) == name

    @pytest.mark.parametrize(
        "name",
        ["", "certcast", "certcast:", "certcast:a.com", "certcast:a.com:x", "my certcast:a.com:1", "certcast:a b:1"],
    )
    def test_of_another_form_marks_nothing(self, name: str) -> None:
        assert read_tag(name) is None

    def test_of_a_certificate_from_two_uploads_keeps_both_ids_apart(self) -> None:
        issued = issue("one.example.com", "two.example.com")
        first = replace(install("one.example.com", issued), bundle_id=f"{issued.fingerprint}/{'1' * 64}")
        second = replace(install("two.example.com", issued), bundle_id=f"{issued.fingerprint}/{'2' * 64}")
        tag = tag_of([first, second])
        assert read_tag(str(tag)) == tag
        assert {mark.content for mark in tag.marks.values()} == {"1" * 64, "2" * 64}

    async def test_of_a_certificate_from_two_uploads_is_reported_for_each(self, target: IisTarget) -> None:
        issued = issue("one.example.com", "two.example.com")
        changes = [
            replace(install(host, issued), bundle_id=f"{issued.fingerprint}/{digit * 64}")
            for host, digit in (("one.example.com", "1"), ("two.example.com", "2"))
        ]
        await target.apply(changes)
        found = {it.key: it for it in await target.current()}
        assert all(change.is_done_by(found[change.key]) for change in changes)
