"""The Windows service's life, its event log entries and settings, as far as they run anywhere."""

import asyncio
import logging
import sys
import threading
from pathlib import Path

import pytest

from instance_agent.targets.iis.bindings import SslFlags
from instance_agent.targets.iis.catch_all import CatchAllAction
from instance_agent.windows import service
from instance_agent.windows.event_log import OneSentence, WorthAnEntry
from instance_agent.windows.making import make_iis, make_iis_ccs
from instance_agent.windows.service import ServiceLife
from instance_agent.windows.settings import CcsSettings, IisSettings
from shared.errors import ConfigurationError


def in_thread(life: ServiceLife) -> tuple[threading.Thread, list[int]]:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(life.run()))
    thread.start()
    return thread, codes


class TestLife:
    def test_a_stop_lets_the_batch_in_hand_finish_and_tells_windows_meanwhile(self) -> None:
        begun = threading.Event()
        reports: list[str] = []
        finished: list[str] = []

        async def serve(stopping: asyncio.Event) -> int:
            begun.set()
            await stopping.wait()
            while len(reports) < 3:  # noqa: ASYNC110 - the reports come from another thread
                await asyncio.sleep(0.001)
            finished.append("batch")
            return 0

        life = ServiceLife(serve, report_every_s=0.005)
        thread, codes = in_thread(life)
        assert begun.wait(10)
        life.stop(lambda: reports.append("stopping"))
        thread.join(10)
        assert (codes, finished) == ([0], ["batch"])
        told = len(reports)
        life.stop(lambda: reports.append("stopping"))
        assert len(reports) == told

    def test_a_stop_before_the_agent_is_up_is_not_lost(self) -> None:
        async def serve(stopping: asyncio.Event) -> int:
            await stopping.wait()
            return 0

        life = ServiceLife(serve, report_every_s=0.005)
        life.stop(lambda: None)
        thread, codes = in_thread(life)
        thread.join(10)
        assert codes == [0]

    def test_a_second_stop_changes_nothing(self) -> None:
        begun = threading.Event()

        async def serve(stopping: asyncio.Event) -> int:
            begun.set()
            await stopping.wait()
            return 0

        life = ServiceLife(serve, report_every_s=0.005)
        thread, codes = in_thread(life)
        assert begun.wait(10)
        for _ in range(3):
            life.stop(lambda: None)
        thread.join(10)
        assert codes == [0]

    def test_an_exit_code_is_handed_on(self) -> None:
        async def serve(stopping: asyncio.Event) -> int:
            assert not stopping.is_set()
            return 2

        assert ServiceLife(serve).run() == 2

    def test_an_error_is_logged_and_makes_windows_start_it_again(self, caplog: pytest.LogCaptureFixture) -> None:
        async def serve(stopping: asyncio.Event) -> int:
            raise RuntimeError(f"the disk is gone, stopping: {stopping.is_set()}")

        assert ServiceLife(serve).run() == 1
        assert "the disk is gone" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="about machines that are not Windows")
class TestOffWindows:
    def test_the_service_commands_say_why_they_do_not_work(self) -> None:
        async def serve(stopping: asyncio.Event) -> int:
            return int(stopping.is_set())

        for command in (service.install, service.uninstall, lambda: service.run(serve)):
            with pytest.raises(ConfigurationError, match="not Windows"):
                command()

    def test_the_target_iis_says_that_it_needs_windows(self) -> None:
        with pytest.raises(ConfigurationError, match="needs Windows"):
            make_iis({})

    async def test_the_target_iis_ccs_writes_files(self, tmp_path: Path) -> None:
        password = tmp_path / "password"
        password.write_text("secret\r\n")
        folder = tmp_path / "store"
        folder.mkdir()
        target = make_iis_ccs({"CERTCAST_IIS_CCS_FOLDER": str(folder), "CERTCAST_IIS_CCS_PASSWORD_FILE": str(password)})
        await target.start()
        assert await target.current() == frozenset()
        assert target.endpoint(443) is None


class TestEvents:
    @pytest.mark.parametrize(
        ("name", "level", "written"),
        [
            ("instance_agent.work", logging.INFO, True),
            ("instance_agent.targets.iis.target", logging.INFO, True),
            ("instance_agent.targets.iis.target", logging.DEBUG, False),
            ("instance_agent.agent", logging.INFO, False),
            ("instance_agent.agent", logging.WARNING, True),
            ("instance_agent", logging.ERROR, True),
            ("shared.azure.tables", logging.ERROR, True),
            ("azure.core", logging.WARNING, False),
        ],
    )
    def test_installs_and_failures_get_an_entry(self, name: str, level: int, written: bool) -> None:  # noqa: FBT001
        record = logging.LogRecord(name, level, "x.py", 1, "installed %s", ("shop.example.com",), None)
        assert WorthAnEntry().filter(record) is written

    def test_an_entry_is_a_sentence_without_a_trace(self) -> None:
        try:
            int("no number")
        except ValueError:
            record = logging.LogRecord(
                "instance_agent.agent", logging.ERROR, "x.py", 1, "it failed", (), sys.exc_info()
            )
        assert OneSentence().format(record) == "it failed (instance_agent.agent)"


class TestSettings:
    def test_all_have_defaults(self) -> None:
        settings = IisSettings.from_env({})
        assert (settings.store, settings.exportable, settings.catch_all.action) == ("My", False, CatchAllAction.KEEP)
        assert (settings.probe_address, settings.role_instance, settings.new_flags) == (None, None, SslFlags.NONE)

    def test_are_read(self) -> None:
        settings = IisSettings.from_env(
            {
                "CERTCAST_IIS_STORE": "webhosting",
                "CERTCAST_IIS_EXPORTABLE": "True",
                "CERTCAST_IIS_CATCH_ALL": "replace:*.example.com",
                "CERTCAST_IIS_SSL_FLAGS": " Disable-Legacy-TLS,disable-http2  disable-quic, ",
                "CERTCAST_IIS_PROBE_ADDRESS": "10.0.0.4",
                "RoleInstanceID": "WebRole1_IN_0",
            }
        )
        assert (settings.store, settings.exportable, settings.catch_all.host) == ("WebHosting", True, "*.example.com")
        assert (settings.probe_address, settings.role_instance) == ("10.0.0.4", "WebRole1_IN_0")
        flags = SslFlags.DISABLE_LEGACY_TLS | SslFlags.DISABLE_HTTP2 | SslFlags.DISABLE_QUIC
        assert settings.new_flags == flags

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("CERTCAST_IIS_STORE", "Root"),
            ("CERTCAST_IIS_EXPORTABLE", "maybe"),
            ("CERTCAST_IIS_CATCH_ALL", "drop"),
            ("CERTCAST_IIS_SSL_FLAGS", "sni"),
        ],
    )
    def test_a_wrong_one_names_itself(self, name: str, value: str) -> None:
        with pytest.raises(ConfigurationError, match=name):
            IisSettings.from_env({name: value})

    def test_flags_of_new_bindings_are_none_of_the_central_stores(self, tmp_path: Path) -> None:
        central = {
            "CERTCAST_IIS_CCS_FOLDER": str(tmp_path),
            "CERTCAST_IIS_CCS_PASSWORD_FILE": str(tmp_path / "password"),
            "CERTCAST_IIS_SSL_FLAGS": "disable-http2",
        }
        with pytest.raises(ConfigurationError, match="CERTCAST_IIS_SSL_FLAGS is for the target iis"):
            make_iis_ccs(central)

    def test_of_the_central_store_need_folder_and_password(self, tmp_path: Path) -> None:
        whole = {
            "CERTCAST_IIS_CCS_FOLDER": str(tmp_path),
            "CERTCAST_IIS_CCS_PASSWORD_FILE": str(tmp_path / "password"),
            "CERTCAST_IIS_CCS_SITE": "Web",
            "CERTCAST_IIS_CCS_PORT": "8443",
        }
        settings = CcsSettings.from_env(whole)
        assert (settings.folder, settings.site, settings.port) == (tmp_path, "Web", 8443)
        for name in ("CERTCAST_IIS_CCS_FOLDER", "CERTCAST_IIS_CCS_PASSWORD_FILE"):
            with pytest.raises(ConfigurationError, match=name):
                CcsSettings.from_env({**whole, name: " "})
        with pytest.raises(ConfigurationError, match="CERTCAST_IIS_CCS_PORT"):
            CcsSettings.from_env({**whole, "CERTCAST_IIS_CCS_PORT": "0"})

    def test_the_password_is_read_each_time_and_never_shown(self, tmp_path: Path) -> None:
        file = tmp_path / "password"
        settings = CcsSettings(folder=tmp_path, password_file=file, site=None, port=443)
        with pytest.raises(ConfigurationError, match="cannot be read"):
            settings.password()
        for content, password in (
            (b"first", "first"),
            (b" with spaces \r\n", " with spaces "),
            (b"\xef\xbb\xbfsecond\n", "second"),
        ):
            file.write_bytes(content)
            assert settings.password() == password
            assert password.strip() not in repr(settings)
        file.write_bytes(b"\n")
        with pytest.raises(ConfigurationError, match="is empty"):
            settings.password()
        file.write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigurationError, match="UTF-8"):
            settings.password()
