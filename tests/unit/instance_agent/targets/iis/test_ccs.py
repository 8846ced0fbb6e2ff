"""The files of the Centralized Certificate Store on a real file system: atomic, ours alone, safe to crash around."""

import asyncio
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instance_agent.targets.base import ApplyError, BindingChange, Install, Remove, ServerUnavailableError
from instance_agent.targets.iis.ccs.notes import file_names
from instance_agent.targets.iis.ccs.target import IisCcsTarget
from instance_agent.targets.iis.gateway import GatewayError
from instance_agent.targets.iis.records import SslRecord
from instance_agent.targets.parts.locking import locked
from shared.bundle import CertificateBundle
from shared.bundle.link import Link
from shared.errors import ConfigurationError
from shared.hostnames import DEFAULT_HOST
from tests.fakes.iis.central import PASSWORD, open_pfx
from tests.fakes.iis.changes import install, issue
from tests.fakes.iis.rig import WEB, Machine
from tests.rigs.certificates import authority
from tests.rigs.handmade_certificate import AUTHORITYS, CRITICAL_FALSE, certificate

SHOP = "shop.example.com"
BLOG = "blog.example.com"


def ccs(folder: Path, machine: Machine | None = None, *, site: str | None = None) -> IisCcsTarget:
    if machine is None:
        return IisCcsTarget(folder, lambda: PASSWORD)
    return IisCcsTarget(
        folder,
        lambda: PASSWORD,
        gateway=machine.iis,
        stores=machine.stores,
        http_sys=machine.http_sys,
        site=site,
        probe_address="10.0.0.4",
        pause=machine.pauses.append,
    )


@pytest.fixture
async def target(tmp_path: Path) -> IisCcsTarget:
    """A started one that writes files only."""
    made = ccs(tmp_path)
    await made.start()
    return made


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


class TestNames:
    @pytest.mark.parametrize(
        ("host", "name"),
        [(SHOP, "shop.example.com.pfx"), ("*.example.com", "_.example.com.pfx"), ("localhost", "localhost.pfx")],
    )
    def test_are_those_that_iis_looks_up(self, host: str, name: str) -> None:
        assert file_names(host) == (name,)

    @pytest.mark.parametrize(
        ("host", "letters"),
        [
            ("xn--bcher-kva.example", "bücher.example.pfx"),
            ("*.xn--bcher-kva.example", "_.bücher.example.pfx"),
            ("xn--i-7iq.example", "i❤.example.pfx"),
            ("xn--e1aabxhdadn.xn--p1ai", "мороженое.рф.pfx"),
        ],
    )
    def test_of_an_international_host_are_its_label_and_its_letters(self, host: str, letters: str) -> None:
        assert file_names(host) == (f"_{host.removeprefix('*')}.pfx" if "*" in host else f"{host}.pfx", letters)

    @pytest.mark.parametrize("host", ["xn--.example", "xn--a.example", "xn--foo-.example", "xn--a-ecp.ru"])
    def test_a_label_that_stands_for_no_letters_stays(self, host: str) -> None:
        assert file_names(host) == (f"{host}.pfx",)

    @pytest.mark.parametrize(
        "host", ["../x", "a/b", "a\\b", "", ".", "..", "a..b", "*.", "x.*.y", "C:x", "a b", "A.com"]
    )
    def test_what_is_no_host_is_no_file(self, host: str) -> None:
        with pytest.raises(ValueError, match="cannot be a file name"):
            file_names(host)

    def test_a_host_too_long_for_the_note_beside_it_is_refused(self, tmp_path: Path) -> None:
        host = ".".join(["x" * 61] * 4)
        assert "too long" in (ccs(tmp_path).refusal(replace(install(SHOP), host=host)) or "")

    @pytest.mark.parametrize("host", ["con", "nul.example.com", "com1.example.com", "lpt9", "aux.x"])
    def test_names_of_devices_are_refused(self, host: str, tmp_path: Path) -> None:
        assert "device" in (ccs(tmp_path).refusal(replace(install(SHOP), host=host)) or "")

    @given(st.text(max_size=40))
    def test_whatever_the_host_the_file_is_in_the_folder(self, host: str) -> None:
        try:
            names = file_names(host)
        except ValueError:
            return
        for name in names:
            assert Path("folder", name).parent == Path("folder")
            assert not set(name) & set('<>:"/\\|?*\0')

    @given(*[st.from_regex(r"(\*\.)?[a-z0-9_]{1,3}(\.[a-z0-9_]{1,3}){0,3}", fullmatch=True)] * 2)
    def test_two_hosts_never_share_a_file_unless_one_begins_with_an_underscore_label(self, one: str, two: str) -> None:
        if one != two and not one.startswith("_.") and not two.startswith("_."):
            try:
                ones, twos = set(file_names(one)), set(file_names(two))
            except ValueError:
                return
            assert not ones & twos


class TestFiles:
    async def test_a_host_is_a_pfx_under_the_common_password_with_its_chain(
        self, target: IisCcsTarget, tmp_path: Path
    ) -> None:
        issued = authority().intermediate("first").intermediate("second").issue("*.example.com")
        await target.apply([install("*.example.com", issued)])
        assert files(tmp_path) == {"_.example.com.pfx"}
        found = open_pfx(tmp_path / "_.example.com.pfx")
        assert found.leaf == issued.certificate
        assert found.chain == issued.bundle().chain

    async def test_a_malformed_intermediate_is_left_out_of_the_file_and_that_is_told(
        self, target: IisCcsTarget, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        change = install(SHOP)
        above = Link.read(certificate(*AUTHORITYS, CRITICAL_FALSE, subject="odd", issuer="above").der)
        await target.apply([replace(change, bundle=replace(change.bundle, chain=(above, *change.bundle.chain)))])
        found = open_pfx(tmp_path / f"{SHOP}.pfx")
        assert (found.leaf, found.chain) == (change.bundle.leaf, change.bundle.chain)
        assert "the intermediate CN=odd of" in caplog.text

    async def test_no_file_can_be_read_by_others(self, target: IisCcsTarget, tmp_path: Path) -> None:
        await target.apply([install(SHOP)])
        for name in everything(tmp_path):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name

    async def test_a_renewal_replaces_the_file_and_a_removal_deletes_it(
        self, target: IisCcsTarget, tmp_path: Path
    ) -> None:
        old, new = install(SHOP), install(SHOP)
        await target.apply([old])
        await target.apply([new])
        assert open_pfx(tmp_path / f"{SHOP}.pfx").leaf == new.bundle.leaf
        (found,) = await target.current()
        assert new.is_done_by(found)
        await target.apply([Remove(host=SHOP, port=443), Remove(host="nowhere.example.com", port=443)])
        assert everything(tmp_path) == {}
        assert await target.current() == frozenset()

    async def test_some_hosts_are_read_as_they_are_now_without_listing_the_share(
        self, target: IisCcsTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await target.apply([install(host) for host in (SHOP, BLOG, "gone.example.com", "edited.example.com")])
        keys = [(host, 443) for host in (SHOP, "gone.example.com", "edited.example.com")]
        assert {it.key for it in await target.current(keys)} == set(keys)
        (tmp_path / "gone.example.com.pfx").unlink()
        (tmp_path / "edited.example.com.pfx").write_bytes(b"edited")
        monkeypatch.setattr(os, "scandir", None)
        known = {it.host for it in await target.current(keys) if it.fingerprint_sha256}
        assert known == {SHOP}

    async def test_the_same_change_again_writes_nothing(self, target: IisCcsTarget, tmp_path: Path) -> None:
        change = install(SHOP)
        await target.apply([change])
        before = everything(tmp_path)
        await target.apply([change])
        assert everything(tmp_path) == before

    async def test_another_port_is_refused_and_its_removal_touches_nothing(
        self, target: IisCcsTarget, tmp_path: Path
    ) -> None:
        await target.apply([install(SHOP)])
        assert "443 only" in (target.refusal(install(SHOP, port=8443)) or "")
        with pytest.raises(ApplyError) as caught:
            await target.apply([install(BLOG, port=8443)])
        assert caught.value.culprit == (BLOG, 8443)
        await target.apply([Remove(host=SHOP, port=8443)])
        assert files(tmp_path) == {f"{SHOP}.pfx"}

    async def test_neither_password_nor_key_is_shown(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG")
        target = ccs(tmp_path)
        await target.start()
        await target.apply([install(SHOP)])
        for name, content in everything(tmp_path).items():
            assert PASSWORD.encode() not in content, name
            assert b"PRIVATE KEY" not in content, name
        assert PASSWORD not in caplog.text


class TestOtherPeoplesFiles:
    async def test_a_file_that_is_not_ours_is_not_overwritten(self, target: IisCcsTarget, tmp_path: Path) -> None:
        (tmp_path / f"{SHOP}.pfx").write_bytes(b"the only copy of a key")
        with pytest.raises(ApplyError, match="move it away") as caught:
            await target.apply([install(BLOG), install(SHOP)])
        assert caught.value.culprit == (SHOP, 443)
        assert everything(tmp_path) == {f"{SHOP}.pfx": b"the only copy of a key"}

    @pytest.mark.parametrize("gone", [True, False])
    async def test_a_file_of_ours_that_was_changed_counts_with_nothing_known_and_is_kept_beside_the_new_one(
        self, target: IisCcsTarget, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, gone: bool
    ) -> None:
        await target.apply([install(SHOP)])
        (tmp_path / f"{SHOP}.pfx").write_bytes(b"by hand")
        (found,) = await target.current()
        assert (found.key, found.bundle_id, found.fingerprint_sha256) == ((SHOP, 443), "", "")
        change = Remove(host=SHOP, port=443) if gone else install(SHOP)
        await target.apply([change])
        assert (tmp_path / ".certcast" / f"{SHOP}.pfx.changed").read_bytes() == b"by hand"
        assert f"{SHOP}.pfx.changed" in caplog.text
        assert files(tmp_path) == (set() if gone else {f"{SHOP}.pfx"})

    async def test_a_file_of_ours_that_was_deleted_is_written_again(self, target: IisCcsTarget, tmp_path: Path) -> None:
        change = install(SHOP)
        await target.apply([change])
        (tmp_path / f"{SHOP}.pfx").unlink()
        (found,) = await target.current()
        assert not change.is_done_by(found)
        await target.apply([change])
        assert files(tmp_path) == {f"{SHOP}.pfx"}

    async def test_a_file_that_somebody_puts_where_one_of_ours_was_removed_is_theirs(
        self, target: IisCcsTarget, tmp_path: Path
    ) -> None:
        await target.apply([install(SHOP)])
        await target.apply([Remove(host=SHOP, port=443)])
        (tmp_path / f"{SHOP}.pfx").write_bytes(b"by hand")
        assert await target.current() == frozenset()
        await target.apply([Remove(host=SHOP, port=443)])
        assert (tmp_path / f"{SHOP}.pfx").read_bytes() == b"by hand"

    async def test_other_files_are_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "other.example.com.pfx").write_bytes(b"x")
        (tmp_path / "readme.txt").write_bytes(b"y")
        target = ccs(tmp_path)
        await target.start()
        await target.apply([install(SHOP), Remove(host="other.example.com", port=443)])
        await target.apply([Remove(host=SHOP, port=443)])
        assert everything(tmp_path) == {"other.example.com.pfx": b"x", "readme.txt": b"y"}


class TestInternationalHosts:
    HOST = "xn--bcher-kva.example"

    async def test_have_both_files_which_go_together(self, target: IisCcsTarget, tmp_path: Path) -> None:
        change = install(self.HOST)
        await target.apply([change])
        assert files(tmp_path) == {f"{self.HOST}.pfx", "bücher.example.pfx"}
        for keys in (None, [change.key], [change.key, *((f"h{number}.example", 443) for number in range(200))]):
            (found,) = await target.current(keys)
            assert change.is_done_by(found)
        await target.apply([Remove(host=self.HOST, port=443)])
        assert everything(tmp_path) == {}

    @pytest.mark.parametrize("name", [f"{HOST}.pfx", "bücher.example.pfx"])
    @pytest.mark.parametrize("deed", ["changed", "deleted", "left at an older one"])
    async def test_one_of_the_two_that_is_not_right_is_put_right(
        self, target: IisCcsTarget, tmp_path: Path, name: str, deed: str
    ) -> None:
        old, new = install(self.HOST), install(self.HOST)
        await target.apply([old])
        before = ((tmp_path / name).read_bytes(), (tmp_path / ".certcast" / f"{name}.json").read_bytes())
        await target.apply([new])
        if deed == "deleted":
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_bytes(b"by hand" if deed == "changed" else before[0])
        if deed == "left at an older one":
            (tmp_path / ".certcast" / f"{name}.json").write_bytes(before[1])
        target.forget()
        (found,) = await target.current()
        assert not new.is_done_by(found)
        await target.apply([new])
        assert {open_pfx(tmp_path / each).leaf for each in files(tmp_path)} == {new.bundle.leaf}
        (found,) = await target.current()
        assert new.is_done_by(found)

    async def test_a_file_of_somebody_else_under_the_letters_is_not_overwritten(
        self, target: IisCcsTarget, tmp_path: Path
    ) -> None:
        (tmp_path / "bücher.example.pfx").write_bytes(b"the only copy of a key")
        with pytest.raises(ApplyError, match=r"bücher\.example\.pfx was not written by certcast"):
            await target.apply([install(self.HOST)])
        assert everything(tmp_path) == {"bücher.example.pfx": b"the only copy of a key"}


async def test_the_default_host_is_refused_with_the_reason_and_its_removal_does_nothing(
    target: IisCcsTarget, tmp_path: Path
) -> None:
    assert "without SNI" in (target.refusal(replace(install(SHOP), host=DEFAULT_HOST)) or "")
    await target.apply([Remove(host=DEFAULT_HOST, port=443)])
    assert everything(tmp_path) == {}


class Crash(BaseException):
    """The process died."""


def die_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Die in place of the n-th change of a name in the folder; what comes after does not happen, undoing neither."""
    count = 0
    dead = False

    def guarded(original: object) -> object:
        def call(self: Path, *arguments: object, **options: object) -> object:
            nonlocal count, dead
            count += 1
            dead = dead or count == step
            if dead:
                raise Crash
            return original(self, *arguments, **options)  # type: ignore[operator]

        return call

    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, guarded(getattr(Path, name)))


class TestCrashes:
    @pytest.mark.parametrize("step", range(1, 7))
    async def test_in_the_middle_of_a_batch_leaves_whole_files_that_the_next_run_goes_on_from(
        self, target: IisCcsTarget, tmp_path: Path, step: int
    ) -> None:
        old, removed = install(SHOP), install("gone.example.com")
        await target.apply([old, removed])
        new, added = install(SHOP), install(BLOG)
        batch: list[BindingChange] = [new, Remove(host="gone.example.com", port=443), added]
        with pytest.MonkeyPatch.context() as patch:
            die_at(patch, step)
            with pytest.raises(Crash):
                await target.apply(batch)
        known = {change.bundle.fingerprint_sha256: change for change in (old, new, removed, added)}
        for name in files(tmp_path):
            if name.endswith(".pfx"):
                assert open_pfx(tmp_path / name).fingerprint_sha256 in known
        again = ccs(tmp_path)
        await again.start()
        for binding in [it for it in await again.current() if it.fingerprint_sha256]:
            served = open_pfx(tmp_path / file_names(binding.host)[0])
            assert binding.fingerprint_sha256 == served.fingerprint_sha256
            assert binding.bundle_id == known[served.fingerprint_sha256].bundle_id
        await again.apply(batch)
        assert {it.host: it.bundle_id for it in await again.current()} == {SHOP: new.bundle_id, BLOG: added.bundle_id}
        assert files(tmp_path) == {f"{SHOP}.pfx", f"{BLOG}.pfx"}
        assert not [name for name in everything(tmp_path) if name.endswith("tmp")]

    @pytest.mark.parametrize("step", range(1, 7))
    async def test_an_error_in_the_middle_puts_everything_back(
        self, target: IisCcsTarget, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await target.apply([install(SHOP), install("gone.example.com")])
        before = everything(tmp_path)
        renamed = Path.replace
        count = 0

        def fail_once(self: Path, aim: Path) -> Path:
            nonlocal count
            count += 1
            if count == step:
                raise OSError(28, "No space left on device")
            return renamed(self, aim)

        monkeypatch.setattr(Path, "replace", fail_once)
        batch: list[BindingChange] = [
            install(SHOP),
            Remove(host="gone.example.com", port=443),
            install(BLOG),
            install("more.example.com"),
        ]
        with pytest.raises(ServerUnavailableError, match="No space left"):
            await target.apply(batch)
        monkeypatch.undo()
        assert everything(tmp_path) == before

    async def test_a_note_that_cannot_be_read_marks_nothing_as_ours(self, target: IisCcsTarget, tmp_path: Path) -> None:
        await target.apply([install(SHOP), install(BLOG)])
        (tmp_path / ".certcast" / f"{SHOP}.pfx.json").write_text('{"host": 1}')
        assert {it.host for it in await target.current()} == {BLOG}
        with pytest.raises(ApplyError, match="move it away"):
            await target.apply([install(SHOP)])


class TestSharedFolder:
    async def test_two_servers_write_the_same_hosts_without_disturbing_each_other(self, tmp_path: Path) -> None:
        servers = [ccs(tmp_path), ccs(tmp_path)]
        changes = [install(f"h{number}.example.com") for number in range(20)]
        for server in servers:
            await server.start()

        def work(server: IisCcsTarget) -> None:
            for _ in range(3):
                asyncio.run(server.apply(changes))

        threads = [threading.Thread(target=work, args=(server,)) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for server in servers:
            found = {it.key: it for it in await server.current()}
            assert all(change.is_done_by(found[change.key]) for change in changes)

    def test_a_lock_that_is_held_is_waited_for_and_then_given_up(self, tmp_path: Path) -> None:
        with (
            locked(tmp_path / "lock", timeout_s=1),
            pytest.raises(TimeoutError, match="another process"),
            locked(tmp_path / "lock", timeout_s=0.01),
        ):
            pass
        with locked(tmp_path / "lock", timeout_s=0.01):
            pass


class TestBinding:
    async def test_one_binding_is_made_for_all_hosts_and_kept(self, machine: Machine, tmp_path: Path) -> None:
        target = ccs(tmp_path, machine)
        await target.start()
        await target.apply([install(SHOP), install(BLOG)])
        await target.apply([install("more.example.com")])
        await target.apply([Remove(host=host, port=443) for host in (SHOP, BLOG, "more.example.com")])
        assert machine.bindings() == {"*:443:": 3}
        assert machine.iis.commits == 1
        assert machine.stores.entries == {}
        assert await target.version() == "IIS 10.0"

    @pytest.mark.parametrize("flags", [2, 3, 7])
    async def test_a_central_binding_made_by_hand_will_do(self, machine: Machine, tmp_path: Path, flags: int) -> None:
        machine.iis.add_binding(WEB, "*:443:", flags=flags)
        await ccs(tmp_path, machine).apply([install(SHOP)])
        assert (machine.bindings(), machine.iis.commits) == ({"*:443:": flags}, 0)

    async def test_it_is_made_on_the_site_that_is_set(self, machine: Machine, tmp_path: Path) -> None:
        machine.add_web_site("Second")
        await ccs(tmp_path, machine, site="second").apply([install(SHOP)])
        assert machine.bindings("Second") == {"*:443:": 3}
        with pytest.raises(ServerUnavailableError, match="CERTCAST_IIS_CCS_SITE"):
            await ccs(tmp_path, machine, site="third").apply([install(BLOG)])

    async def test_other_bindings_stay(self, machine: Machine, tmp_path: Path) -> None:
        machine.iis.add_binding(WEB, f"*:443:{SHOP}", thumbprint="01" * 20)
        machine.iis.add_binding(WEB, "10.0.0.4:443:", flags=0, thumbprint="02" * 20)
        await ccs(tmp_path, machine).apply([install(SHOP)])
        assert machine.bindings() == {f"*:443:{SHOP}": 1, "10.0.0.4:443:": 0, "*:443:": 3}

    async def test_a_catch_all_in_its_place_is_reported_and_the_files_are_taken_back(
        self, machine: Machine, tmp_path: Path
    ) -> None:
        machine.iis.add_binding(WEB, "*:443:", flags=0, thumbprint="01" * 20)
        target = ccs(tmp_path, machine)
        await target.start()
        with pytest.raises(ServerUnavailableError, match="Use Centralized Certificate Store"):
            await target.apply([install(SHOP)])
        assert (everything(tmp_path), machine.iis.commits) == ({}, 0)

    async def test_a_commit_that_fails_takes_the_files_back(self, machine: Machine, tmp_path: Path) -> None:
        target = ccs(tmp_path, machine)
        await target.start()
        machine.iis.fail_commit(0x80070005)
        with pytest.raises(ServerUnavailableError, match="elevated"):
            await target.apply([install(SHOP)])
        assert everything(tmp_path) == {}

    async def test_intermediates_go_to_this_machines_store(self, machine: Machine, tmp_path: Path) -> None:
        await ccs(tmp_path, machine).apply([install(SHOP)])
        assert len(machine.stores.intermediates) == 1

    async def test_a_record_that_goes_before_the_store_is_named(self, machine: Machine, tmp_path: Path) -> None:
        machine.iis.add_binding(WEB, "10.0.0.4:443:", flags=0, thumbprint="01" * 20)
        target = ccs(tmp_path, machine)
        await target.apply([install(SHOP)])
        assert "10.0.0.4:443: of site Web" in (await target.explain_mismatch(SHOP, 443, "0" * 64) or "")

    async def test_the_store_itself_answering_otherwise_points_to_its_configuration(
        self, machine: Machine, tmp_path: Path
    ) -> None:
        machine.foreign_records.append(SslRecord(port=443))
        text = await ccs(tmp_path, machine).explain_mismatch(SHOP, 443, "0" * 64) or ""
        assert f"{SHOP}.pfx" in text
        assert "same password" in text

    async def test_without_an_iis_there_are_files_only(self, target: IisCcsTarget) -> None:
        assert target.endpoint(443) is None
        assert await target.version() == ""
        assert await target.explain_mismatch(SHOP, 443, "0" * 64) is None
        await target.retire([])
        await target.stop()

    async def test_a_session_that_cannot_be_opened_is_the_servers_trouble(
        self, machine: Machine, tmp_path: Path
    ) -> None:
        target = ccs(tmp_path, machine)
        machine.iis.version = refuse  # type: ignore[method-assign]
        with pytest.raises(ServerUnavailableError, match="0x80040154"):
            await target.start()


def refuse() -> tuple[int, int]:
    raise GatewayError("Class not registered", code=0x80040154)


class TestStart:
    async def test_a_folder_that_is_not_there_is_named_with_its_setting(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_IIS_CCS_FOLDER"):
            await ccs(tmp_path / "nowhere").start()

    async def test_a_password_that_cannot_be_had_ends_the_start(self, tmp_path: Path) -> None:
        def none() -> str:
            raise ConfigurationError("CERTCAST_IIS_CCS_PASSWORD_FILE is not set")

        with pytest.raises(ConfigurationError, match="PASSWORD_FILE"):
            await IisCcsTarget(tmp_path, none).start()

    async def test_an_iis_without_the_store_is_no_target(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="Windows Server 2012"):
            await ccs(tmp_path, Machine(version=(7, 5))).start()

    async def test_a_key_that_is_not_the_certificates_is_refused_by_name(
        self, target: IisCcsTarget, tmp_path: Path
    ) -> None:
        issued, other = issue(BLOG), issue(BLOG)
        bad: Install = replace(
            install(BLOG, issued), bundle=CertificateBundle(leaf=issued.certificate, chain=(), key=other.key)
        )
        with pytest.raises(ApplyError, match="does not belong") as caught:
            await target.apply([install(SHOP), bad])
        assert caught.value.culprit == (BLOG, 443)
        assert everything(tmp_path) == {}

    async def test_the_folder_of_notes_is_not_where_iis_looks(self, target: IisCcsTarget, tmp_path: Path) -> None:
        await target.apply([install(SHOP)])
        assert not [name for name in os.listdir(tmp_path / ".certcast") if name.endswith(".pfx")]  # noqa: PTH208
