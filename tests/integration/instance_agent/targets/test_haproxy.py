"""The haproxy target over a real HAProxy: the contract of all targets, and what is its own."""

import asyncio
import logging
import re
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from instance_agent.installing.installer import install
from instance_agent.selection import make_target
from instance_agent.targets.base import ApplyError, BindingChange, Install, Remove, ServerUnavailableError
from instance_agent.targets.haproxy import disk, runtime
from instance_agent.targets.haproxy.batch import RuntimeBatch
from instance_agent.targets.haproxy.disk import Disk
from instance_agent.targets.haproxy.mirror import read_mirror
from instance_agent.targets.haproxy.session import Session
from instance_agent.targets.haproxy.target import NoListError, ReloadError
from local_azure.servers.haproxy import HAProxyServer
from shared.errors import ConfigurationError
from shared.messages import InstallOutcome as Outcome
from tests.contracts.targets import (
    DefaultContract,
    HandmadeChangeContract,
    OpenConnectionsContract,
    RestartContract,
    TlsContract,
)
from tests.rigs.certificates import self_signed
from tests.rigs.haproxy import HAProxyRig, serving, started
from tests.rigs.targets import QUICK, bind, expect, fresh, owned, owned_after, root, seen, served, unfit


class TestTheContract(TlsContract, OpenConnectionsContract, RestartContract, DefaultContract, HandmadeChangeContract):
    """With the module's rig."""


@pytest.fixture
async def rig() -> AsyncIterator[HAProxyRig]:
    async with serving() as rig:
        yield rig


def long_chained(host: str, names: int = 500) -> Install:
    """A certificate of more than HAProxy's usual buffer of 16 KB, as one for many hosts is."""
    issuer = root().intermediate()
    return bind(issuer.issue(host, *(f"a-rather-long-host-name-{i}.example.com" for i in range(names))), host, 443)


A, B = "a.example.com", "b.example.com"


class TestAnotherProgramsTransaction:
    async def test_haproxy_itself_puts_one_hosts_certificate_on_another_that_has_a_transaction_pending(
        self, rig: HAProxyRig
    ) -> None:
        """The trap, as it was met: without it the tests below would prove nothing."""
        await rig.target.apply([fresh(A, 443), fresh(B, 443)])
        a, b = str(rig.pem(A)), str(rig.pem(B))
        renewed = fresh(B, 443)
        await rig.ask(f"set ssl cert {a}", fresh(A, 443).bundle.to_pem())
        reply = await rig.ask(f"set ssl cert {b}", renewed.bundle.to_pem())
        assert f"Transaction updated for certificate {a}!" in reply
        await rig.ask(f"commit ssl cert {a}")
        await expect(rig, 443, {A: renewed})

    async def test_one_that_is_pending_is_aborted_and_named_and_takes_up_nothing_of_ours(
        self, rig: HAProxyRig, caplog: pytest.LogCaptureFixture
    ) -> None:
        kept, renewed, new = fresh(A, 443), fresh(B, 443), fresh("new.example.com", 443)
        await rig.target.apply([kept, fresh(B, 443)])
        a = str(rig.pem(A))
        await rig.ask(f"set ssl cert {a}", fresh(A, 443).bundle.to_pem())
        await rig.target.apply([renewed, new])
        await expect(rig, 443, {A: kept, B: renewed, new.host: new})
        assert f"transaction for {a} pending" in caplog.text
        assert "No ongoing transaction" in await rig.ask(f"commit ssl cert {a}")

    async def test_one_that_was_begun_for_our_own_file_by_an_agent_that_died_is_begun_again(
        self, rig: HAProxyRig
    ) -> None:
        await rig.target.apply([fresh(A, 443)])
        await rig.ask(f"set ssl cert {rig.pem(A)}", fresh(A, 443).bundle.to_pem())
        await rig.restart_agent()
        await served(rig, fresh(A, 443))

    async def test_transactions_begun_in_the_middle_of_a_batch_end_up_on_no_host(self, rig: HAProxyRig) -> None:
        victim, intruder = fresh("victim.example.com", 443), fresh("victim.example.com", 443)
        await rig.target.apply([victim])
        file = str(rig.pem(victim.host))

        async def interfere() -> None:
            async with Session(rig.server.socket) as session:
                while True:
                    await session.ask(f"set ssl cert {file}", intruder.bundle.to_pem())
                    await asyncio.sleep(0.003)

        changes = [fresh(f"h{i}.example.com", 443) for i in range(40)]
        intruding = asyncio.create_task(interfere())
        try:
            results = await install(rig.target, changes, rig.probe)
        finally:
            intruding.cancel()
            await asyncio.gather(intruding, return_exceptions=True)
        assert {result.outcome for result in results} <= {Outcome.LIVE, Outcome.FAILED}
        live = {result.change.host for result in results if result.outcome is Outcome.LIVE}
        found = {change.host: change if change.host in live else rig.fallback for change in changes}
        await expect(rig, 443, {**found, victim.host: victim})


class HangingUp:
    """Stands before an admin socket and hangs up when told, as HAProxy does on a client that is silent for too long.

    HAProxy's own clock (`stats timeout`, 10 s unless set) runs after some commands and not after others.
    """

    def __init__(self, server: HAProxyServer) -> None:
        self._server = server
        self._near: list[asyncio.StreamWriter] = []
        self._pumps: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def before(self) -> AsyncIterator[Session]:
        """A conversation through it."""
        path = self._server.folder / "before.sock"
        listener = await asyncio.start_unix_server(self._accept, path)
        try:
            async with Session(path) as session:
                yield session
        finally:
            listener.close()
            for writer in self._near:
                writer.close()
            await asyncio.gather(*self._pumps, return_exceptions=True)

    async def hang_up(self, session: Session) -> None:
        for writer in self._near:
            writer.close()
        async with asyncio.timeout(60):
            while not session.lost:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._server.socket)
        self._near.append(writer)
        self._pumps += [asyncio.create_task(self._pump(reader, back)), asyncio.create_task(self._pump(there, writer))]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


class TestWritingLongerThanHAProxyWaits:
    """Thousands of files take longer to write than HAProxy keeps a silent connection."""

    async def test_the_conversation_is_taken_up_again(self, rig: HAProxyRig) -> None:
        shared = Disk(rig.server.certificates)
        change = fresh(A, 443)
        hanging_up = HangingUp(rig.server)
        async with hanging_up.before() as session:
            mirror = await read_mirror(session, shared, (await session.identity()).process)
            await hanging_up.hang_up(session)
            await RuntimeBatch(session, shared, mirror, {}, {}).make([change])
        await expect(rig, 443, {A: change})

    async def test_nothing_is_done_in_a_process_that_was_started_meanwhile(self, rig: HAProxyRig) -> None:
        shared = Disk(rig.server.certificates)
        change = fresh(A, 443)
        hanging_up = HangingUp(rig.server)
        async with hanging_up.before() as session:
            mirror = await read_mirror(session, shared, (await session.identity()).process)
            await rig.server.stop()
            await rig.server.start()
            await hanging_up.hang_up(session)
            with pytest.raises(ServerUnavailableError, match="restarted"):
                await RuntimeBatch(session, shared, mirror, {}, {}).make([change])
        assert await seen(rig, 443, A) == rig.fallback


class TestRestarts:
    async def test_a_restarted_server_serves_what_it_served_and_the_agent_notices(self, rig: HAProxyRig) -> None:
        exact, wide, other = fresh(A, 443), fresh("*.example.net", 443), fresh("*.example.net", 444)
        await rig.target.apply([exact, wide, other, fresh(A, 444)])
        await rig.target.apply([Remove(host=A, port=444)])
        before = await rig.target.current()
        await rig.restart_server()
        assert await rig.target.current() == before
        await expect(rig, 443, {A: exact, "x.example.net": wide, B: rig.fallback})
        await expect(rig, 444, {"x.example.net": other, A: rig.fallback})
        new = fresh("new.example.com", 443)
        await rig.target.apply([new, Remove(host="*.example.net", port=443)])
        await expect(rig, 443, {"new.example.com": new, "x.example.net": rig.fallback})

    async def test_a_server_that_lost_its_files_is_seen_to_own_nothing_and_is_filled_again(
        self, rig: HAProxyRig
    ) -> None:
        change = fresh(A, 443)
        await rig.target.apply([change])
        await rig.server.stop()
        rig.crt_list().write_text("")
        await rig.server.start()
        assert await rig.target.current() == frozenset()
        (result,) = await install(rig.target, [change], rig.probe)
        assert result.outcome is Outcome.LIVE

    async def test_while_it_is_down_changes_fail_for_later_leave_no_file_and_are_made_once_it_is_up(
        self, rig: HAProxyRig
    ) -> None:
        change = fresh(A, 443)
        await rig.server.stop()
        before = rig.tree()
        with pytest.raises(ServerUnavailableError, match="level admin") as caught:
            await rig.target.apply([change])
        assert str(rig.server.socket) in str(caught.value)
        assert rig.tree() == before
        assert await rig.target.version() == ""
        (result,) = await install(rig.target, [change], rig.probe)
        assert (result.outcome, result.retriable) == (Outcome.FAILED, True)
        await rig.server.start()
        (result,) = await install(rig.target, [change], rig.probe)
        assert result.outcome is Outcome.LIVE

    async def test_the_agent_can_start_before_the_server(
        self, rig: HAProxyRig, caplog: pytest.LogCaptureFixture
    ) -> None:
        await rig.server.stop()
        await rig.restart_agent()
        assert "starting without HAProxy" in caplog.text
        await rig.server.start()
        assert await rig.target.current() == frozenset()

    async def test_what_an_interrupted_batch_left_comes_alive_at_no_restart(self, rig: HAProxyRig) -> None:
        """As after a kill between the files and the socket, and between the socket's two commands."""
        written, held, kept = "written.example.com", "held.example.com", fresh("kept.example.com", 443)
        await rig.target.apply([fresh(written, 443), fresh(held, 443)])
        async with Session(rig.server.socket) as session:
            for host in (written, held):
                await runtime.unbind(session, str(rig.crt_list()), str(rig.pem(host)))
            await runtime.drop(session, str(rig.pem(written)))
        await rig.restart_agent()
        assert await rig.target.current() == frozenset()
        await rig.target.apply([kept])
        folder = rig.server.certificates / "443"
        assert {path.name for path in folder.iterdir()} == {"kept.example.com.pem"}
        assert held not in await rig.ask("show ssl cert")
        await rig.restart_server()
        await expect(rig, 443, {kept.host: kept, written: rig.fallback, held: rig.fallback})

    async def test_what_the_files_do_not_say_is_not_taken_for_installed(self, rig: HAProxyRig) -> None:
        """A certificate that was changed by hand through the socket, and a line that was deleted from a list."""
        changes = [fresh(host, 443) for host in ("changed.example.com", "unlisted.example.com")]
        await rig.target.apply(changes)
        file = str(rig.pem("changed.example.com"))
        await rig.ask(f"set ssl cert {file}", fresh("changed.example.com", 443).bundle.to_pem())
        await rig.ask(f"commit ssl cert {file}")
        crt_list = rig.crt_list()
        crt_list.write_text(
            "".join(line for line in crt_list.read_text().splitlines(keepends=True) if "unl" not in line)
        )
        await rig.restart_agent()
        current = await rig.target.current()
        assert not any(change.is_done_by(each) for change in changes for each in current)
        results = await install(rig.target, changes, rig.probe)
        assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.LIVE]
        await rig.restart_server()
        await expect(rig, 443, {change.host: change for change in changes})


class TestWhatIsNotOurs:
    async def test_an_administrators_certificate_in_our_list_and_folder_is_left_alone(self, rig: HAProxyRig) -> None:
        by_hand = fresh("hand.example.com", 443)
        own = rig.server.certificates / "443" / "hand.example.com.pem"
        own.parent.mkdir()
        own.write_bytes(by_hand.bundle.to_pem())
        crt_list = rig.crt_list()
        crt_list.write_text(f"# by hand\n{own} [alpn http/1.1] hand.example.com\n")
        await rig.restart_server()
        await rig.target.apply([fresh(A, 443)])
        await rig.target.apply([Remove(host=A, port=443)])
        assert own.read_bytes() == by_hand.bundle.to_pem()
        assert crt_list.read_text().splitlines() == ["# by hand", f"{own} [alpn http/1.1] hand.example.com"]
        await expect(rig, 443, {by_hand.host: by_hand})
        assert await rig.target.current() == frozenset()
        with pytest.raises(ApplyError, match="was not made by certcast") as caught:
            await rig.target.apply([fresh(by_hand.host, 443)])
        assert caught.value.culprit == by_hand.key
        await expect(rig, 443, {by_hand.host: by_hand})

    async def test_an_entry_by_hand_for_the_same_host_is_named_when_it_answers_instead(self, rig: HAProxyRig) -> None:
        by_hand = fresh(A, 443)
        own = rig.server.folder / "own.pem"
        own.write_bytes(by_hand.bundle.to_pem())
        rig.crt_list().write_text(f"{own} a.example.com\n")
        await rig.restart_server()
        (result,) = await install(rig.target, [fresh(A, 443)], rig.probe, pace=QUICK)
        assert result.outcome is Outcome.PROBE_MISMATCH
        assert str(own) in result.reason
        await expect(rig, 443, {A: by_hand})
        assert await rig.target.current() == frozenset()

    async def test_the_installer_is_told_who_answered_instead(self, rig: HAProxyRig) -> None:
        mine = fresh(A, 443)
        await rig.target.apply([mine])
        explain = rig.target.explain_mismatch
        assert "a.example.com:443" in (await explain("b.example.com", 443, mine.bundle.fingerprint_sha256) or "")
        assert "443.list" in (await explain("b.example.com", 443, rig.fallback) or "")


class TestRefusals:
    async def test_what_haproxy_itself_refuses_is_named_in_its_words_and_all_is_as_it_was(
        self, rig: HAProxyRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, gone, bad = (fresh(f"{what}.example.com", 443) for what in ("renewed", "gone", "bad"))
        await rig.target.apply([old, gone])
        before, files = await rig.target.current(), rig.tree()
        # What OpenSSL does not serve never comes so far; what it does and HAProxy does not is not known to exist.
        monkeypatch.setattr(disk, "tagged_pem", lambda change: change.bundle.to_pem())
        changes: list[BindingChange] = [
            fresh(old.host, 443),
            fresh("new.example.com", 443),
            Remove(host=gone.host, port=443),
            unfit(bad.host, 443),
        ]
        refused = r"change for bad\.example\.com:443: inconsistencies between .*key"
        with pytest.raises(ApplyError, match=refused) as caught:
            await rig.target.apply(changes)
        assert caught.value.culprit == bad.key
        assert rig.tree() == files
        assert await rig.target.current() == before
        unbound = {"new.example.com": rig.fallback, bad.host: rig.fallback}
        await expect(rig, 443, {old.host: old, gone.host: gone, **unbound})
        held = await rig.ask("show ssl cert")
        assert "new.example.com" not in held
        assert "transaction" not in held

    async def test_a_removal_that_came_before_the_failure_is_taken_back(
        self, rig: HAProxyRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone, stays = fresh("gone.example.com", 443), fresh("stays.example.com", 443)
        await rig.target.apply([gone, stays])
        before, files = await rig.target.current(), rig.tree()
        unbind = runtime.unbind

        async def refuse_one(session: Session, crt_list: str, file: str) -> None:
            if "stays" in file:
                raise runtime.RefusedError("it is in use")
            await unbind(session, crt_list, file)

        with monkeypatch.context() as patched:
            patched.setattr(runtime, "unbind", refuse_one)
            with pytest.raises(ApplyError, match="in use"):
                await rig.target.apply([Remove(host=each.host, port=443) for each in (gone, stays)])
        await expect(rig, 443, {gone.host: gone, stays.host: stays})
        assert rig.tree() == files
        await rig.restart_agent()
        assert await rig.target.current() == before

    async def test_a_port_without_a_list_is_named_with_the_line_to_add_and_tried_again_later(
        self, rig: HAProxyRig
    ) -> None:
        change = fresh(A, 8443)
        with pytest.raises(NoListError, match=re.escape(f"crt-list {rig.server.certificates}/8443.list")) as caught:
            await rig.target.apply([change])
        assert caught.value.culprit == change.key
        results = await install(rig.target, [change, fresh(A, 443)], rig.probe)
        assert [result.outcome for result in results] == [Outcome.FAILED, Outcome.LIVE]
        assert results[0].retriable

    @pytest.mark.parametrize("host", ["a.example.com\ndel ssl cert x", "../x.example.com", "a b.example.com", ""])
    async def test_a_host_that_is_no_host_reaches_neither_path_nor_socket(self, rig: HAProxyRig, host: str) -> None:
        change = Install(host=host, port=443, bundle_id="", bundle=root().issue(A).bundle())
        assert rig.target.refusal(change) is not None
        with pytest.raises(ApplyError):
            await rig.target.apply([change])

    async def test_a_port_beyond_the_last_is_refused(self, rig: HAProxyRig) -> None:
        assert "CERTCAST_HAPROXY_PORT_OFFSET" in (rig.target.refusal(fresh(A, 65535)) or "")


class TestChainsLargerThanTheBuffer:
    async def test_they_go_live_with_one_reload_whose_reason_is_logged(
        self, rig: HAProxyRig, caplog: pytest.LogCaptureFixture
    ) -> None:
        small, large, gone = fresh("small.example.com", 443), long_chained("large.example.com"), fresh(A, 443)
        await rig.target.apply([gone])
        pid = rig.server.process.pid
        await rig.target.apply([small, large, Remove(host=gone.host, port=443)])
        await expect(rig, 443, {small.host: small, large.host: large, gone.host: rig.fallback})
        assert owned(await rig.target.current()) == owned_after(small, large)
        (reason,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert "large.example.com:443" in reason
        assert "buffer" in reason
        assert rig.server.process.pid == pid
        await served(rig, long_chained("large.example.com"))

    async def test_without_a_reload_command_they_alone_are_refused_with_the_setting_to_change(
        self, rig: HAProxyRig
    ) -> None:
        target = await started(rig.server, reloading=False)
        before = rig.tree()
        large = long_chained("large.example.com")
        with pytest.raises(ApplyError, match=r"tune\.bufsize 32768 .*CERTCAST_HAPROXY_RELOAD") as caught:
            await target.apply([large])
        assert caught.value.culprit == large.key
        assert rig.tree() == before
        results = await install(target, [large, fresh("small.example.com", 443)], rig.probe)
        assert [result.outcome for result in results] == [Outcome.FAILED, Outcome.LIVE]

    async def test_a_reload_that_fails_leaves_everything_as_it_was(self, rig: HAProxyRig) -> None:
        target = make_target("haproxy", rig.server.agent_environment | {"CERTCAST_HAPROXY_RELOAD": "false"})
        await target.start()
        before = rig.tree()
        with pytest.raises(ReloadError, match="`false` ended with exit code 1"):
            await target.apply([long_chained("large.example.com")])
        assert rig.tree() == before
        assert await target.current() == frozenset()

    async def test_a_server_with_a_larger_buffer_takes_them_without_a_reload(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serving("    tune.bufsize 65536\n") as rig:
            await served(rig, long_chained("large.example.com"))
            assert caplog.records == []


class TestTheDisk:
    async def test_keys_are_readable_by_their_owner_alone(self, rig: HAProxyRig) -> None:
        await rig.target.apply([fresh(A, 443)])
        await rig.target.apply([fresh(A, 443)])
        paths = list(rig.server.certificates.rglob("*"))
        modes = {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()}
        folders = {stat.S_IMODE(path.stat().st_mode) for path in (rig.server.certificates, *paths) if path.is_dir()}
        assert (modes, folders) == ({0o600}, {0o700})
        assert "a.example.com.pem" in {path.name for path in paths}

    async def test_no_key_is_logged(self, rig: HAProxyRig, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        good = fresh(A, 443)
        weak = bind(self_signed("weak.example.com", key="rsa1024"), "weak.example.com", 443)
        results = await install(rig.target, [good, weak], rig.probe)
        told = caplog.text + "".join(result.reason for result in results) + repr(results)
        for change in (good, weak):
            for line in change.bundle.key_pem().decode().splitlines()[1:-1]:
                assert line not in told

    async def test_a_folder_that_cannot_be_written_is_the_servers_trouble_and_nothing_is_changed(
        self, rig: HAProxyRig
    ) -> None:
        (rig.server.certificates / "443").write_text("a file where the folder belongs")
        with pytest.raises(ServerUnavailableError, match="443"):
            await rig.target.apply([fresh(A, 443)])
        assert await seen(rig, 443, A) == rig.fallback

    async def test_adding_says_and_hears_no_more_at_three_hundred_hosts_than_at_none(
        self, rig: HAProxyRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exchanged: list[int] = []
        ask_in_earnest = Session.ask

        async def counting(self: Session, command: str, payload: bytes = b"") -> str:
            reply = await ask_in_earnest(self, command, payload)
            exchanged.append(len(reply))
            return reply

        async def traffic_of_adding(host: str) -> tuple[int, int]:
            change = bind(issued, host, 443)
            await rig.target.current()
            exchanged.clear()
            with monkeypatch.context() as patched:
                patched.setattr(Session, "ask", counting)
                await rig.target.current()
                await rig.target.apply([change])
            return len(exchanged), sum(exchanged) // 1024

        issued = root().issue("*.example.com")
        first = await traffic_of_adding("first.example.com")
        await rig.target.apply([bind(issued, f"h{i}.example.com", 443) for i in range(300)])
        assert await traffic_of_adding("later.example.com") == first


class TestStarting:
    async def test_a_folder_that_is_missing_is_named_with_the_commands_that_make_it(self, rig: HAProxyRig) -> None:
        missing = rig.server.folder / "missing"
        target = make_target("haproxy", rig.server.agent_environment | {"CERTCAST_HAPROXY_FOLDER": str(missing)})
        with pytest.raises(ConfigurationError, match=re.escape(f"install -d -m 700 {missing}")):
            await target.start()

    async def test_a_socket_that_only_shows_is_named_with_the_level_it_needs(self, rig: HAProxyRig) -> None:
        config = rig.server.folder / "haproxy.cfg"
        config.write_text(config.read_text().replace("level admin", "level operator"))
        await rig.restart_server()
        with pytest.raises(ConfigurationError, match="level admin"):
            await started(rig.server)

    def test_a_path_that_the_sockets_commands_cannot_carry_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_HAPROXY_FOLDER"):
            make_target("haproxy", {"CERTCAST_HAPROXY_FOLDER": "/etc/haproxy/my certificates"})
        with pytest.raises(ConfigurationError, match="CERTCAST_HAPROXY_SOCKET"):
            make_target("haproxy", {"CERTCAST_HAPROXY_SOCKET": "admin.sock"})

    async def test_its_version_is_haproxys(self, rig: HAProxyRig) -> None:
        assert re.match(r"HAProxy \d+\.\d+", await rig.target.version())

    async def test_the_settings_say_where_a_port_is_met(self) -> None:
        target = make_target(
            "haproxy", {"CERTCAST_HAPROXY_ADDRESS": "127.0.0.9", "CERTCAST_HAPROXY_PORT_OFFSET": "8000"}
        )
        assert target.endpoint(443) == ("127.0.0.9", 8443)


async def test_each_new_certificate_of_a_batch_is_four_exchanges(rig: HAProxyRig) -> None:
    """Thousands of them come at a start."""

    async def exchanges(*changes: BindingChange) -> int:
        counted = 0
        exchange = Session._exchange

        async def counting(self: Session, requests: Sequence[bytes]) -> list[str]:
            nonlocal counted
            counted += 1
            return await exchange(self, requests)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Session, "_exchange", counting)
            await rig.target.apply(changes)
        return counted

    await rig.target.apply([fresh("first.example.com", 443)])
    one = await exchanges(fresh("one.example.com", 443))
    three = await exchanges(*(fresh(f"{name}.example.com", 443) for name in "abc"))
    assert three - one == 2 * 4
