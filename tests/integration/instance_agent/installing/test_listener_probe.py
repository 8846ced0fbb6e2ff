"""What the probe sends ahead of its handshake, to listeners that each expect something else."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from instance_agent.installing import listener_probe
from instance_agent.installing.listener_probe import ListenerProbe
from instance_agent.installing.probe import ProbeError
from instance_agent.installing.probe_settings import ProbeSettings, ProxyProtocol
from instance_agent.targets.embedded.contexts import server_context
from tests.rigs.certificates import self_signed

HOST = "shop.example.com"
ISSUED = self_signed(HOST)
PLAIN, V1, V2 = b"", b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
HANDSHAKE_FAILURE = bytes.fromhex("15 0303 0002 0228")


class Listener:
    """Speaks TLS to clients that send what it expects, and does something else with all others.

    Attributes:
        expects: The header ahead of the handshake; None for a listener that never speaks TLS.
        otherwise: What it does with other connections before it closes them.
        met: What was sent ahead of each handshake.
    """

    def __init__(self, server: socket.socket, pool: ThreadPoolExecutor) -> None:
        self.expects: bytes | None = PLAIN
        self.otherwise: Callable[[socket.socket], object] = bool
        self.met: list[bytes] = []
        self.address: tuple[str, int] = server.getsockname()
        self._context = server_context(ISSUED.bundle())
        self._server, self._pool = server, pool

    def listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self._pool.submit(self._attend, connection)

    def _attend(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            begun = connection.recv(len(V2), socket.MSG_PEEK)
            header = next(each for each in (V2, V1, PLAIN) if begun.startswith(each))
            connection.recv(len(header))
            self.met.append(header)
            if header != self.expects:
                self.otherwise(connection)
                return
            with self._context.wrap_socket(connection, server_side=True) as tls:
                tls.recv(1)


@contextmanager
def listening(expects: bytes | None, otherwise: Callable[[socket.socket], object] = bool) -> Iterator[Listener]:
    with ThreadPoolExecutor(40) as pool, socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        listener = Listener(server, pool)
        listener.expects, listener.otherwise = expects, otherwise
        pool.submit(listener.listen)
        try:
            yield listener
        finally:
            server.shutdown(socket.SHUT_RDWR)


def answering(what: bytes) -> Callable[[socket.socket], object]:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(what)

    return answer


def silent_for(seconds: float) -> Callable[[socket.socket], object]:
    return lambda _: time.sleep(seconds)


def probing(way: ProxyProtocol = ProxyProtocol.AUTO) -> ListenerProbe:
    return ListenerProbe(ProbeSettings(proxy_protocol=way))


async def look(probe: ListenerProbe, listener: Listener, timeout_s: float = 5) -> str | None:
    """The certificate seen, or None."""
    try:
        return await probe(listener.address, HOST, timeout_s=timeout_s)
    except ProbeError:
        return None


class TestWhatIsSentAhead:
    async def test_nothing_where_a_handshake_is_answered(self) -> None:
        with listening(PLAIN) as listener:
            assert await look(probing(), listener) == ISSUED.fingerprint
            assert listener.met == [PLAIN]

    @pytest.mark.parametrize("answer", [HANDSHAKE_FAILURE, b"HTTP/1.0 400 Bad Request\r\n\r\n"])
    async def test_nothing_where_something_is_answered_whatever_it_is(self, answer: bytes) -> None:
        with listening(None, answering(answer)) as listener:
            probe = probing()
            for _ in range(2):
                assert await look(probe, listener) is None
            assert listener.met == [PLAIN, PLAIN]

    @pytest.mark.parametrize(("expects", "tried"), [(V2, [PLAIN, V2]), (V1, [PLAIN, V2, V1])])
    async def test_a_header_where_nothing_is_answered_and_at_once_from_then_on(
        self, expects: bytes, tried: list[bytes]
    ) -> None:
        with listening(expects) as listener:
            probe = probing()
            for _ in range(3):
                assert await look(probe, listener) == ISSUED.fingerprint
            assert listener.met == [*tried, expects, expects]

    async def test_every_header_once_where_nothing_helps_and_once_more_after_a_while(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with listening(None) as listener:
            probe = probing()
            for _ in range(3):
                with pytest.raises(ProbeError, match="versions 2 and 1, did not change that"):
                    await probe(listener.address, HOST, timeout_s=5)
            assert listener.met == [PLAIN, V2, V1, PLAIN, PLAIN]
            monkeypatch.setattr(listener_probe, "SEARCH_EVERY_S", 0)
            assert await look(probe, listener) is None
            assert listener.met[5:] == [PLAIN, V2, V1]

    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n"])
    async def test_another_once_the_listener_expects_another(self, answer: bytes) -> None:
        with listening(V2) as listener:
            probe = probing()
            await look(probe, listener)
            listener.otherwise = answering(answer)
            for expects in (PLAIN, V1, PLAIN):
                listener.expects = expects
                if expects == V1:
                    listener.otherwise = bool
                assert await look(probe, listener) == ISSUED.fingerprint

    async def test_nothing_where_a_listener_that_answered_before_is_only_slow_now(self) -> None:
        with listening(PLAIN) as listener:
            probe = probing()
            await look(probe, listener)
            listener.expects, listener.otherwise = None, silent_for(0.4)
            assert await look(probe, listener, timeout_s=0.2) is None
            assert listener.met == [PLAIN, PLAIN]

    async def test_many_looks_at_once_find_it_out_once(self) -> None:
        with listening(V1) as listener:
            probe = probing()
            seen = await asyncio.gather(*(look(probe, listener) for _ in range(16)))
            assert seen == [ISSUED.fingerprint] * 16
            assert listener.met.count(V2) == 1

    async def test_each_listener_is_remembered_apart(self) -> None:
        with listening(V2) as first, listening(PLAIN) as second:
            probe = probing()
            for listener in (first, second, first, second):
                assert await look(probe, listener) == ISSUED.fingerprint
            assert (first.met, second.met) == ([PLAIN, V2, V2], [PLAIN, PLAIN])

    @pytest.mark.parametrize(
        ("way", "sent"), [(ProxyProtocol.OFF, PLAIN), (ProxyProtocol.V1, V1), (ProxyProtocol.V2, V2)]
    )
    async def test_what_the_setting_says_and_nothing_else(self, way: ProxyProtocol, sent: bytes) -> None:
        with listening(sent) as right, listening(None) as wrong:
            probe = probing(way)
            assert await look(probe, right) == ISSUED.fingerprint
            with pytest.raises(ProbeError, match=f"CERTCAST_PROBE_PROXY_PROTOCOL is {way}$"):
                await probe(wrong.address, HOST, timeout_s=5)
            assert (right.met, wrong.met) == ([sent], [sent])

    async def test_a_name_refused_behind_a_header_is_told_as_that(self) -> None:
        """As HAProxy's `strict-sni` does: the way is right, and is kept to."""

        def refuse(connection: socket.socket) -> None:
            if listener.met[-1] == V2:
                connection.recv(4096)
                connection.sendall(HANDSHAKE_FAILURE)

        with listening(None, refuse) as listener:
            probe = probing()
            with pytest.raises(ProbeError, match=r"alert handshake failure$"):
                await probe(listener.address, HOST, timeout_s=5)
            listener.expects = V2
            assert await look(probe, listener) == ISSUED.fingerprint


class TestWhereItLooks:
    async def test_at_the_address_and_port_that_the_setting_says(self) -> None:
        with listening(PLAIN) as listener:
            port = listener.address[1]
            settings = ProbeSettings.from_env({"CERTCAST_PROBE_ADDRESS": "127.0.0.1:+7"})
            assert await ListenerProbe(settings)(("192.0.2.1", port - 7), HOST, timeout_s=5) == ISSUED.fingerprint

    async def test_a_port_that_is_none_is_told(self) -> None:
        settings = ProbeSettings.from_env({"CERTCAST_PROBE_ADDRESS": "127.0.0.1:-444"})
        with pytest.raises(ProbeError, match="leads from 443 to -1, which is no port"):
            await ListenerProbe(settings)(("127.0.0.1", 443), HOST, timeout_s=5)

    async def test_where_nothing_listens_the_setting_is_named(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
        with pytest.raises(ProbeError, match=r"cannot be connected to: .*set CERTCAST_PROBE_ADDRESS") as caught:
            await probing()(address, HOST, timeout_s=5)
        assert not caught.value.reached
