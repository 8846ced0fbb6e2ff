"""Starting the nginx target: which mode it chooses, what it refuses to start with, templates, and what it explains."""

import asyncio
import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from instance_agent.installing.installer import install
from instance_agent.targets.base import ServerUnavailableError
from shared.errors import ConfigurationError
from shared.messages import InstallOutcome as Outcome
from tests.rigs.nginx import NginxRig, beside_nginx, serving_nginx
from tests.rigs.targets import endpoint, expect, fresh, owned, owned_after, root, seen, served
from tests.rigs.visitors import visiting

BOTH = pytest.mark.parametrize("dynamic", [True, False], ids=["dynamic", "blocks"])


@contextmanager
def others_breaking(rig: NginxRig) -> Iterator[None]:
    """An error of somebody else in nginx.conf, until the end."""
    configuration = rig.server.folder / "nginx.conf"
    sound = configuration.read_text()
    configuration.write_text(sound + "nonsense;\n")
    try:
        yield
    finally:
        configuration.write_text(sound)


def failing(number: int, path: Path, *_: object) -> None:
    raise OSError(number, os.strerror(number), str(path))


@pytest.mark.parametrize(("dynamic", "mode"), [(True, "dynamic"), (False, "blocks")])
async def test_the_mode_follows_from_what_nginx_has_loaded(dynamic: bool, mode: str) -> None:  # noqa: FBT001
    async with serving_nginx(dynamic=dynamic, CERTCAST_NGINX_MODE="auto") as rig:
        assert rig.target.mode == mode
        assert (await rig.target.version()).startswith("nginx/")
        assert (await rig.target.version()).endswith(f"({mode})")


async def test_dynamic_mode_without_lua_ends_the_start_with_what_to_install() -> None:
    async with beside_nginx(dynamic=False, CERTCAST_NGINX_MODE="dynamic") as rig:
        with pytest.raises(ConfigurationError, match="libnginx-mod-http-lua"):
            await rig.target.start()


@BOTH
async def test_an_nginx_without_our_include_is_waited_for_with_the_line_to_add(dynamic: bool) -> None:  # noqa: FBT001
    async with beside_nginx(dynamic=dynamic) as rig:
        configuration = rig.server.folder / "nginx.conf"
        whole = configuration.read_text()
        configuration.write_text(whole.replace(f'include "{rig.server.certificates}/*.conf";', ""))
        for _ in range(2):
            with pytest.raises(ServerUnavailableError, match=r"add `include .*/certcast/\*\.conf;` inside http"):
                await rig.target.start()
        configuration.write_text(whole)
        await rig.target.start()
        await served(rig, fresh("a.example.com", 443))


async def test_folders_that_others_use_are_not_taken_over() -> None:
    async with beside_nginx(dynamic=True) as rig:
        settings = {
            "CERTCAST_NGINX_FOLDER": str(rig.server.folder),
            "CERTCAST_NGINX_SOCKET": str(Path(tempfile.gettempdir(), "control.sock")),
        }
        for name, value in settings.items():
            before = rig.server.folder.stat().st_mode
            with pytest.raises(ConfigurationError, match=name):
                await rig.restart_agent(**{name: value})
            assert rig.server.folder.stat().st_mode == before
            rig.env |= rig.server.agent_environment


@BOTH
async def test_a_configuration_that_others_broke_is_waited_for_with_what_nginx_says(dynamic: bool) -> None:  # noqa: FBT001
    async with beside_nginx(dynamic=dynamic) as rig:
        with others_breaking(rig):
            for _ in range(2):
                with pytest.raises(ServerUnavailableError, match=r'unknown directive "nonsense" in .*nginx\.conf:\d+'):
                    await rig.target.start()
        await rig.target.start()
        await served(rig, fresh("a.example.com", 443))


@BOTH
async def test_an_nginx_that_loaded_ours_before_its_configuration_was_broken_is_used_as_it_is(
    dynamic: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving_nginx(dynamic=dynamic) as rig:
        old, new = fresh("a.example.com", 443), fresh("a.example.com", 443)
        await served(rig, old)
        with others_breaking(rig):
            await rig.restart_agent()
            assert 'unknown directive "nonsense"' in caplog.text
            assert rig.target.mode == ("dynamic" if dynamic else "blocks")
            rig.target.forget()
            assert owned(await rig.target.current()) == owned_after(old)
            if dynamic:
                await served(rig, new, fresh("b.example.com", 443))
            else:
                with pytest.raises(ServerUnavailableError, match=r'unknown directive "nonsense" in .*nginx\.conf:\d+'):
                    await rig.target.apply([new])
                assert owned(await rig.target.current()) == owned_after(old)
                await expect(rig, 443, {"a.example.com": old})
        await served(rig, fresh("a.example.com", 443), fresh("c.example.com", 443))
        rig.target.forget()
        assert len(await rig.target.current()) == (3 if dynamic else 2)


@BOTH
async def test_an_nginx_that_is_not_running_is_waited_for_and_serves_ours_from_its_start(dynamic: bool) -> None:  # noqa: FBT001
    async with beside_nginx(dynamic=dynamic) as rig:
        await rig.server.stop()
        for _ in range(2):
            with pytest.raises(ServerUnavailableError, match="nginx is not running: start it"):
                await rig.target.start()
        await rig.server.start()
        await expect(rig, 443, {"unknown.example": rig.fallback})
        await rig.target.start()
        await served(rig, fresh("a.example.com", 443))


@BOTH
async def test_a_missing_pid_file_is_named_where_a_reload_needs_it(dynamic: bool) -> None:  # noqa: FBT001
    async with serving_nginx(dynamic=dynamic) as rig:
        change = fresh("a.example.com", 443)
        pid_file = rig.server.folder / "nginx.pid"
        pid = pid_file.read_text()
        pid_file.unlink()
        await rig.restart_agent()
        if dynamic:
            await served(rig, change)
        else:
            with pytest.raises(ServerUnavailableError, match=r"nginx\.pid does not name its master process"):
                await rig.target.apply([change])
        with pytest.raises(ServerUnavailableError, match=r"nginx\.pid does not name its master process"):
            await rig.restart_agent(CERTCAST_NGINX_PORTS="443")
        assert rig.server.socket.exists()
        pid_file.write_text(pid)
        await rig.target.start()
        await served(rig, change)


async def test_a_full_disk_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with beside_nginx(dynamic=True) as rig:
        with monkeypatch.context() as at_work:
            at_work.setattr("instance_agent.targets.nginx.mode.make_folder", partial(failing, errno.ENOSPC))
            with pytest.raises(ServerUnavailableError, match="No space left on device"):
                await rig.target.start()
            at_work.setattr("instance_agent.targets.nginx.mode.make_folder", partial(failing, errno.EACCES))
            with pytest.raises(ConfigurationError, match="run the agent as root"):
                await rig.target.start()
        await rig.target.start()


async def test_a_port_taken_by_another_program_is_waited_for_and_nginx_goes_on() -> None:
    async with beside_nginx(dynamic=True, CERTCAST_NGINX_TIMEOUT_S="1") as rig:
        with (
            socket.create_server(endpoint(rig, 443)),
            pytest.raises(ServerUnavailableError, match=r"goes on with its old configuration .*a port in use"),
        ):
            await rig.target.start()
        assert rig.server.process.returncode is None
        await rig.target.start()


async def test_an_address_that_is_not_there_now_is_waited_for() -> None:
    async with beside_nginx(dynamic=True, CERTCAST_NGINX_ADDRESS="192.0.2.1") as rig:
        with pytest.raises(ServerUnavailableError, match=r"bind\(\) to 192\.0\.2\.1"):
            await rig.target.start()


async def test_a_port_nginx_does_not_listen_on_is_refused_with_the_setting() -> None:
    async with serving_nginx(dynamic=True) as rig:
        (result,) = await install(rig.target, [fresh("a.example.com", 444)], rig.probe)
        assert result.outcome is Outcome.REFUSED
        assert "CERTCAST_NGINX_PORTS" in result.reason


@pytest.mark.parametrize("dynamic", [True, False])
async def test_a_fallback_named_in_the_settings_is_the_one_served(dynamic: bool, tmp_path: Path) -> None:  # noqa: FBT001
    fallback = root().issue("*.platform.example")
    (tmp_path / "fallback.pem").write_bytes(fallback.bundle().to_pem())
    async with serving_nginx(dynamic=dynamic, CERTCAST_NGINX_FALLBACK=str(tmp_path / "fallback.pem")) as rig:
        assert await seen(rig, 443, "unknown.example") == fallback.fingerprint
        explanation = await rig.target.explain_mismatch("a.example.com", 443, fallback.fingerprint)
        assert "certificate for unknown names" in (explanation or "")


async def test_the_installer_is_told_who_answered_instead() -> None:
    async with serving_nginx(dynamic=True) as rig:
        mine = fresh("a.example.com", 443)
        await rig.target.apply([mine])
        explain = rig.target.explain_mismatch
        assert "a.example.com:443" in (await explain("b.example.com", 443, mine.bundle.fingerprint_sha256) or "")
        assert "nginx -T" in (await explain("b.example.com", 443, "00" * 32) or "")


class TestTemplates:
    @pytest.mark.parametrize("dynamic", [True, False])
    async def test_a_template_says_what_is_proxied_to(self, dynamic: bool, tmp_path: Path) -> None:  # noqa: FBT001
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            host = next(line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("x-tenant"))
            writer.write(f"HTTP/1.0 200 OK\r\nContent-Length: {len(host)}\r\n\r\n{host}".encode())
            await writer.drain()
            writer.close()

        upstream = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = upstream.sockets[0].getsockname()[1]
        tenant = "$host" if dynamic else "{{ host }}"
        (tmp_path / "body.j2").write_text(
            f"location / {{\n proxy_pass http://127.0.0.1:{port};\n proxy_set_header X-Tenant {tenant};\n}}\n"
        )
        async with (
            upstream,
            serving_nginx(dynamic=dynamic, CERTCAST_NGINX_TEMPLATE=str(tmp_path / "body.j2")) as rig,
        ):
            await served(rig, fresh("shop.example.com", 443))
            async with visiting(endpoint(rig, 443), "shop.example.com") as (visitor,):
                assert (await visitor.get()).body == b"shop.example.com"

    @pytest.mark.parametrize(
        ("body", "complaint"),
        [
            ("location / { return 204; } }\nserver {", "closes a brace that it did not open"),
            ("location / { return 200 {{ host }}; }", "'host' is undefined"),
            ("nonsense on;", 'unknown directive "nonsense"'),
            ("{% if %}", "line 1"),
        ],
    )
    async def test_a_template_that_cannot_be_used_leaves_nginx_as_it_was(
        self, body: str, complaint: str, tmp_path: Path
    ) -> None:
        async with serving_nginx(dynamic=True) as rig:
            change = fresh("shop.example.com", 443)
            await rig.target.apply([change])
            include = (rig.server.certificates / "certcast.conf").read_text()
            (tmp_path / "body.j2").write_text(body)
            with pytest.raises(ConfigurationError, match=complaint):
                await rig.restart_agent(CERTCAST_NGINX_TEMPLATE=str(tmp_path / "body.j2"))
            assert (rig.server.certificates / "certcast.conf").read_text() == include
            await expect(rig, 443, {"shop.example.com": change})
            await rig.restart_agent(CERTCAST_NGINX_TEMPLATE="")
            assert await seen(rig, 443, "shop.example.com") == change.bundle.fingerprint_sha256
