"""The embedded target serving over loopback: the contract of all targets, and what is its own."""

import asyncio
import asyncio.sslproto
import errno
import gc
import re
import socket
import ssl
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from instance_agent.installing.installer import install
from instance_agent.installing.probe import ProbeError, served_fingerprint
from instance_agent.targets.base import ApplyError, Install, Remove, ServerUnavailableError
from instance_agent.targets.embedded.target import EmbeddedTarget, ListenerError
from local_azure.processes.listening import free_port
from shared.bundle import CertificateBundle
from shared.errors import ConfigurationError
from shared.messages import InstallOutcome as Outcome
from tests.contracts.targets import DefaultContract, HandmadeChangeContract, OpenConnectionsContract, TlsContract
from tests.rigs.certificates import self_signed
from tests.rigs.embedded import EmbeddedRig, serving, target_on
from tests.rigs.targets import HandmadeRig, bind, expect, fresh, fresh_default, root, seen
from tests.rigs.visitors import Busy, trusting_nobody, visiting


class TestTheContract(TlsContract, OpenConnectionsContract, DefaultContract, HandmadeChangeContract):
    @pytest.fixture
    async def rig(self) -> AsyncIterator[HandmadeRig]:
        async with serving() as target:
            yield EmbeddedRig(target)


class TestListeners:
    async def test_the_fallback_named_in_the_settings_is_the_one_served(self) -> None:
        fallback = root().issue("*.platform.example").bundle()
        async with serving(fallback=fallback) as target:
            assert await seen(EmbeddedRig(target), 443, "unknown.example") == fallback.fingerprint_sha256

    async def test_a_port_is_open_while_it_has_a_binding_and_the_usual_one_always(self) -> None:
        async with serving() as target:
            one, other = fresh("one.example.com", 444), fresh("other.example.com", 444)
            for _ in range(2):
                with pytest.raises(ProbeError, match="cannot be connected to"):
                    await served_fingerprint(target.endpoint(444), None, timeout_s=5)
                await target.apply([one, other])
                await target.apply([Remove(host="one.example.com", port=444)])
                await expect(EmbeddedRig(target), 444, {"one.example.com": target.fallback.fingerprint_sha256})
                results = await install(target, [Remove(host="other.example.com", port=444)], served_fingerprint)
                assert [result.outcome for result in results] == [Outcome.REMOVED]
            assert await seen(EmbeddedRig(target), 443, "shop.example.com") == target.fallback.fingerprint_sha256

    async def test_who_is_connected_when_its_port_is_closed_is_answered_on(self) -> None:
        async with serving() as target:
            await target.apply([fresh("shop.example.com", 444)])
            async with visiting(target.endpoint(444), "shop.example.com") as (visitor,):
                await target.apply([Remove(host="shop.example.com", port=444)])
                assert (await visitor.get()).status == 200

    async def test_many_hosts_on_many_ports_have_a_certificate_each_and_change_one_by_one(self) -> None:
        target = target_on(free_port(5))
        await target.start()
        try:
            keys = [(f"h{number}.example.com", port) for number in range(8) for port in range(443, 448)]
            issued = {key: root().issue(key[0]) for key in keys}
            await target.apply([bind(each, *key) for key, each in issued.items()])
            for host, port in keys[::3]:
                issued[host, port] = root().issue(host)
                await target.apply([bind(issued[host, port], host, port)])
            for (host, port), each in issued.items():
                assert await seen(EmbeddedRig(target), port, host) == each.fingerprint
        finally:
            await target.stop()

    async def test_a_port_in_use_is_named_with_a_cure_and_nothing_of_the_batch_is_done(self) -> None:
        async with serving() as target:
            address = target.endpoint(444)
            changes = [bind(root().issue("a.example.com"), "a.example.com", port) for port in (443, 444)]
            with socket.create_server(address):
                with pytest.raises(ListenerError, match=re.escape(f"127.0.0.1, port {address[1]}")) as caught:
                    await target.apply(changes)
                assert "CERTCAST_EMBEDDED_PORT_OFFSET" in str(caught.value)
                assert caught.value.culprit == ("a.example.com", 444)
                assert await target.current() == frozenset()
                results = await install(target, changes, served_fingerprint)
                assert [(result.outcome, result.retriable) for result in results] == [
                    (Outcome.LIVE, False),
                    (Outcome.FAILED, True),
                ]
            results = await install(target, changes, served_fingerprint)
            assert [result.outcome for result in results] == [Outcome.LIVE, Outcome.LIVE]

    async def test_a_port_opened_for_a_batch_that_fails_is_closed_again(self) -> None:
        target = target_on(free_port(3))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            other = taken.getsockname()[1] - (target.endpoint(0)[1])
            await target.start()
            try:
                issued = root().issue("a.example.com")
                with pytest.raises(ListenerError):
                    await target.apply([bind(issued, "a.example.com", 445), bind(issued, "a.example.com", other)])
                with pytest.raises(ProbeError, match="cannot be connected to"):
                    await served_fingerprint(target.endpoint(445), None, timeout_s=5)
            finally:
                await target.stop()

    async def test_a_port_in_use_is_waited_for_and_named_with_the_setting_to_change(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            target = target_on(taken.getsockname()[1])
            with pytest.raises(ServerUnavailableError, match="CERTCAST_EMBEDDED_PORT_OFFSET"):
                await target.start()
            await target.stop()

    async def test_an_address_of_another_machine_is_named_as_the_mistake(self) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_EMBEDDED_ADDRESS is not an address of this machine"):
            await target_on(free_port(1), address="192.0.2.1").start()

    async def test_a_fallback_that_cannot_be_served_ends_the_start_with_the_reason(self) -> None:
        weak = self_signed("old.example.com", key="rsa1024").bundle()
        with pytest.raises(ConfigurationError, match=r"CERTCAST_EMBEDDED_FALLBACK cannot be served: .*key too small"):
            await target_on(free_port(1), fallback=weak).start()

    async def test_a_port_beyond_the_last_is_refused_before_anything_is_tried(self) -> None:
        async with serving() as target:
            change = bind(root().issue("a.example.com"), "a.example.com", 65535)
            (result,) = await install(target, [change], served_fingerprint)
            assert result.outcome is Outcome.REFUSED
            assert "CERTCAST_EMBEDDED_PORT_OFFSET" in result.reason
            with pytest.raises(ApplyError):
                await target.apply([change])

    async def test_stopping_closes_the_ports_and_every_idle_connection_and_breaks_no_answer(self) -> None:
        async with serving() as target:
            address = target.endpoint(443)
            async with (
                visiting(address, "a.example", count=20) as idle,
                visiting(address, "a.example", count=4) as working,
            ):
                busy = Busy(working)
                await busy.answered(20)
                await target.stop()
                await busy.stop()
                for error in busy.errors:
                    assert not getattr(error, "partial", b""), "an answer was cut short"
                for visitor in idle:
                    with pytest.raises((OSError, EOFError)):
                        await visitor.get()
            with pytest.raises(ProbeError, match="cannot be connected to"):
                await served_fingerprint(address, None, timeout_s=5)

    async def test_its_version_names_what_speaks_tls(self) -> None:
        assert ssl.OPENSSL_VERSION in await EmbeddedTarget().version()


class TestCertificates:
    async def test_a_certificate_that_openssl_will_not_serve_is_named_with_its_reason(self) -> None:
        async with serving() as target:
            weak = bind(self_signed("old.example.com", key="rsa1024"), "old.example.com", 443)
            with pytest.raises(ApplyError, match=r"old\.example\.com:443 cannot be served: .*key too small") as caught:
                await target.apply([bind(root().issue("a.example.com"), "a.example.com", 443), weak])
            assert caught.value.culprit == weak.key
            assert await target.current() == frozenset()

    async def test_another_key_for_a_certificate_that_is_served_already_is_still_refused(self) -> None:
        async with serving() as target:
            good = bind(root().issue("a.example.com"), "a.example.com", 443)
            await target.apply([good])
            other = type(good.bundle)(leaf=good.bundle.leaf, chain=(), key=root().issue("a.example.com").key)
            with pytest.raises(ApplyError, match="key values mismatch"):
                await target.apply([Install(host="b.example.com", port=443, bundle_id=good.bundle_id, bundle=other)])

    async def test_a_key_is_forgotten_with_the_last_host_it_served(self) -> None:
        async with serving() as target:
            shared_by_two = root().issue("a.example.com", "b.example.com")
            one = bind(shared_by_two, "a.example.com", 443)
            await target.apply([one, replace(one, host="b.example.com")])
            loaded = weakref.ref(target.listeners._bound[one.key].context)
            assert target.listeners._bound["b.example.com", 443].context is loaded()
            await target.apply([Remove(host="a.example.com", port=443)])
            assert await seen(EmbeddedRig(target), 443, "b.example.com") == shared_by_two.fingerprint
            assert loaded() is not None
            await target.apply([Remove(host="b.example.com", port=443)])
            async with asyncio.timeout(10):
                while loaded() is not None:  # until the connection of the last look is closed
                    await asyncio.sleep(0.01)
                    gc.collect()

    async def test_a_batch_without_a_descriptor_left_for_a_key_changes_nothing_and_is_tried_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def out_of_files(_: CertificateBundle) -> ssl.SSLContext:
            raise OSError(errno.EMFILE, "Too many open files")

        async with serving() as target:
            change = bind(root().issue("a.example.com"), "a.example.com", 443)
            with monkeypatch.context() as patched:
                patched.setattr("instance_agent.targets.embedded.contexts.server_context", out_of_files)
                with pytest.raises(ServerUnavailableError, match=r"a\.example\.com:443 .* now: Too many open files"):
                    await target.apply([change])
            assert await target.current() == frozenset()
            await target.apply([change])
            assert await seen(EmbeddedRig(target), 443, "a.example.com") == change.bundle.fingerprint_sha256

    async def test_the_installer_is_told_who_answered_instead(self) -> None:
        async with serving() as target:
            mine = bind(root().issue("a.example.com"), "a.example.com", 443)
            await target.apply([mine])
            explain = target.explain_mismatch
            assert "fallback" in (await explain("b.example.com", 443, target.fallback.fingerprint_sha256) or "")
            assert "a.example.com:443" in (await explain("b.example.com", 443, mine.bundle.fingerprint_sha256) or "")
            assert "other than this agent" in (await explain("b.example.com", 443, "00" * 32) or "")


class TestThePage:
    async def test_it_names_the_host_and_the_fingerprint_and_the_connection_stays(self) -> None:
        async with serving() as target:
            issued = root().issue("shop.example.com")
            await target.apply([bind(issued, "shop.example.com", 443)])
            async with visiting(target.endpoint(443), "shop.example.com") as (visitor,):
                for path in ("/", "/any/other?path"):
                    answer = await visitor.get(path=path)
                    assert answer.status == 200
                    assert answer.headers["content-type"] == "text/html; charset=utf-8"
                    assert answer.headers["cache-control"] == "no-store"
                    assert "<h1>shop.example.com</h1>" in answer.body.decode()
                    assert issued.fingerprint in answer.body.decode()

    async def test_an_older_python_that_lets_go_of_what_is_aborted_leaves_no_line_in_the_log(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Debian 12's 3.11.2 aborts as here, and raises once the connection is closed already."""

        def abort(transport: Any) -> None:
            transport._closed = True
            transport._ssl_protocol._abort()

        monkeypatch.setattr(asyncio.sslproto._SSLProtocolTransport, "abort", abort)
        async with serving() as target:
            # Two who leave without a word, as `openssl s_client </dev/null` does.
            for _ in range(2):
                _, writer = await asyncio.open_connection(*target.endpoint(443), ssl=trusting_nobody())
                writer.close()
                await writer.wait_closed()
            await asyncio.sleep(0.2)
        gc.collect()
        assert caplog.text == ""

    async def test_head_has_the_headers_alone_and_other_methods_are_not_allowed(self) -> None:
        async with serving() as target, visiting(target.endpoint(443), "a.example") as (visitor,):
            length = int((await visitor.get("HEAD")).headers["content-length"])
            assert len((await visitor.get("GET")).body) == length
            refused = await visitor.get("DELETE")
            assert refused.status == 405
            assert refused.headers["allow"] == "GET, HEAD"
            assert (await visitor.get("GET")).status == 200

    async def test_the_fallback_says_that_nothing_is_bound_and_repeats_no_name(self) -> None:
        async with serving() as target, visiting(target.endpoint(443), "unknown.example") as (visitor,):
            body = (await visitor.get()).body.decode()
            assert "No certificate is bound" in body
            assert "unknown.example" not in body
            assert target.fallback.fingerprint_sha256 in body

    async def test_a_connection_goes_on_naming_the_certificate_it_got(self) -> None:
        async with serving() as target:
            old, new = root().issue("shop.example.com"), root().issue("shop.example.com")
            await target.apply([bind(old, "shop.example.com", 443)])
            async with visiting(target.endpoint(443), "shop.example.com") as (visitor,):
                await target.apply([bind(new, "shop.example.com", 443)])
                assert old.fingerprint in (await visitor.get()).body.decode()

    async def test_the_default_repeats_nothing_that_a_client_put_into_its_server_name(self) -> None:
        async with serving() as target:
            await target.apply([fresh_default(443)])
            reader, writer = await asyncio.open_connection(
                *target.endpoint(443),
                ssl=trusting_nobody(),
                server_hostname=b"<script>&.example.com",
            )
            writer.write(b"GET / HTTP/1.1\r\nHost: <b>\r\nConnection: close\r\n\r\n")
            page = (await reader.read()).decode()
            writer.close()
            await writer.wait_closed()
            assert "the default of port 443" in page
            assert "script" not in page
            assert "<b>" not in page
