"""Names from outside: none forges a log line or steers a terminal, and none becomes the address of another thing."""

import ast
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from azure.storage.blob.aio import BlobServiceClient

from local_azure.processes.log_lines import LogFiles, captured
from shared.azure.account import Account
from shared.azure.bundles import BUNDLES_CONTAINER
from shared.errors import MissingError
from shared.phrasing import LOGGED_CHARS, logger, shown
from shared.upload import is_certificate_name, is_upload_name
from tests.rigs.deployment import ROOT, repository_files
from tests.rigs.emulator import Emulator, opened_account
from tests.rigs.some import some

FORGED = "x.pfx\n2026-01-01 12:00:00 ERROR certcast: all uploads: deleted\x1b[2J"
TURNED_ROUND = "x\u202exfp.exe\u2066\u200f.pfx"
PRODUCT = ("shared", "instance_agent", "operator_cli", "local_azure")
MODULES = [
    path for path in repository_files() if path.suffix == ".py" and path.parts[0] in (*PRODUCT, "function_app.py")
]
# Those set the logging of a process up: levels and handlers, no lines.
SETTING_UP = {
    "function_app.py",
    "instance_agent/command.py",
    "instance_agent/windows/service.py",
    "local_azure/functions_host/host.py",
    "local_azure/processes/log_lines.py",
    "operator_cli/__main__.py",
    "shared/phrasing.py",
    "shared/telemetry/log_lines.py",
    "shared/telemetry/now_and_then.py",
}
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def fail() -> None:
    try:
        int(FORGED)
    except ValueError as cause:
        raise RuntimeError(FORGED) from cause


class TestLogs:
    @pytest.mark.parametrize("name", [FORGED, TURNED_ROUND, "a\u2028b", "a\u0085b", "a\rb", "a\x00b"])
    def test_a_name_stays_within_one_line_that_reads_as_it_is_written(
        self, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        log = logger("certcast.test.names")
        log.warning("upload %s: put off, %s", name, ValueError(f"no blob {name}"))
        (record,) = caplog.records
        assert record.getMessage().isprintable()

    def test_a_name_is_cut(self, caplog: pytest.LogCaptureFixture) -> None:
        logger("certcast.test.names").warning("upload %s", "," * 490_000)
        assert len(caplog.records[0].getMessage()) < LOGGED_CHARS + 20

    def test_numbers_stay_numbers(self, caplog: pytest.LogCaptureFixture) -> None:
        logger("certcast.test.names").warning("%d of %.1f", 3, 2.5)
        assert caplog.records[0].getMessage() == "3 of 2.5"

    def test_a_traceback_shows_what_the_error_quotes_in_one_line(self, caplog: pytest.LogCaptureFixture) -> None:
        log = logger("certcast.test.names")
        try:
            fail()
        except RuntimeError:
            log.exception("upload %s: failed", FORGED)
        text = logging.Formatter("%(levelname)s %(message)s").format(caplog.records[0])
        assert "ValueError: invalid literal" in text
        assert "RuntimeError: x.pfx" in text
        assert "test_names.py" in text
        assert not [line for line in text.splitlines() if line.startswith("2026-01-01")]
        assert "\x1b" not in text

    @pytest.mark.parametrize("module", MODULES, ids=str)
    def test_every_line_is_a_text_of_ours_said_through_that_logger(self, module: Path) -> None:
        for node in ast.walk(ast.parse((ROOT / module).read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            speaker, verb = ast.unparse(node.func.value), node.func.attr
            if (speaker, verb) == ("logging", "getLogger"):
                assert module.as_posix() in SETTING_UP, f"line {node.lineno}: write log = logger(__name__)"
            elif speaker.split(".")[-1] in {"log", "logging"} and verb in LEVELS:
                assert speaker == "log", f"line {node.lineno}: {speaker} cleans nothing"
                text = node.args[1 if verb == "log" else 0]
                assert isinstance(text, ast.Constant), f"line {node.lineno}: names go into arguments, not into the text"


ELSEWHERE = [
    "../bundles/x.pfx",
    "a/../../bundles/x.pfx",
    "a/../x.pfx",
    "./x.pfx",
    "a/./x.pfx",
    "back\\slash.pfx",
    "..\\bundles\\x.pfx",
    "a\\..\\..\\bundles\\x.pfx",
    "../bundles/..\\x.pfx",
    "a\n.pfx",
    "a\x00.pfx",
    "a\x85.pfx",
    "a\ud800.pfx",
    "x.pfx/..",
    "..",
    "",
]
ODD = [
    "with space/ü漢 \U0001f512.pfx",
    "%2e%2e/bundles/x.pfx",
    "a%2fb%00#c?comp=list&x.pfx",
    "..pfx/...x.pfx",
    "a//b./x.pfx",
    "'quoted' \"twice\".pfx",
    "x~!*();:@&=+$,[].pfx",
]


class TestAddresses:
    @pytest.mark.parametrize("name", ELSEWHERE)
    def test_a_name_that_leads_elsewhere_is_no_upload(self, name: str) -> None:
        assert not is_certificate_name(name)
        assert not is_upload_name(name, {"folder", "keyvault"})
        assert not is_upload_name(f"folder://{name}.pfx/..", {"folder"})

    @pytest.mark.parametrize("name", [name for name in ODD if name.endswith(".pfx")])
    def test_an_odd_name_is_one(self, name: str) -> None:
        assert is_upload_name(name, ())

    @pytest.mark.parametrize(
        "name", ["keyvault://shops/../keys/k", "keyvault://../x", "sql://certificates/a", "x://a.pfx"]
    )
    def test_a_message_names_no_source_that_is_not_set_up_and_no_way_out_of_one(self, name: str) -> None:
        assert not is_upload_name(name, {"keyvault"})

    def test_a_source_that_is_set_up_keeps_its_names(self) -> None:
        assert is_upload_name("keyvault://shops/www-example-com", {"keyvault"})
        assert is_upload_name("sql://certificates/größe.test", {"sql"})

    @pytest.fixture
    async def account(self, azurite: Emulator, tmp_path: Path) -> AsyncIterator[Account]:
        async with opened_account(azurite.connection_string, tmp_path / "key") as opened:
            yield opened

    async def test_no_name_reaches_a_blob_of_another_container(self, azurite: Emulator, account: Account) -> None:
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as raw:
            bundles = raw.get_container_client(BUNDLES_CONTAINER)
            await bundles.upload_blob("x.pfx", b"sealed", overwrite=True)
            for name in ELSEWHERE:
                assert await account.uploads.read(name, max_bytes=10) is None, name
                assert await account.uploads.version(name) is None, name
                assert await account.uploads.tags(name) is None, name
                assert not await account.uploads.set_tags(name, {"a": "b"}), name
                assert not await account.uploads.delete(name), name
                with pytest.raises(MissingError):
                    await account.uploads.write(name, b"forged", {})
                with pytest.raises(MissingError):
                    await account.uploads.set_metadata(name, {}, etag="0x0")
                with pytest.raises(MissingError):
                    await account.bundles.open(f"../certificates/{name}")
            assert await (await bundles.download_blob("x.pfx")).readall() == b"sealed"

    @pytest.mark.parametrize("name", ODD)
    async def test_an_odd_name_names_its_own_blob(self, name: str, account: Account) -> None:
        etag = await account.uploads.write(name, name.encode(), {"HostHeader": "a.test"})
        found = some(await account.uploads.read(name, max_bytes=1000))
        assert (found.version.name, found.version.etag, found.content) == (name, etag, name.encode())
        assert name in [version.name async for version in account.uploads.each()]
        assert await account.uploads.set_metadata(name, {}, etag=etag)
        assert await account.uploads.delete(name)


class TestLocalLogs:
    def test_a_line_of_a_server_steers_no_terminal(self, tmp_path: Path) -> None:
        with LogFiles(tmp_path, None) as lines:
            lines("nginx", "GET /\x1b]0;owned\x07\r\u202e 200\tOK")
        (line,) = (tmp_path / "nginx.log").read_text("utf-8").splitlines()
        assert line.isprintable()
        assert "200" in line

    def test_a_traceback_is_lines(self) -> None:
        lines: list[str] = []
        with captured("certcast.test.captured", "part", lambda _part, line: lines.append(line)):
            try:
                fail()
            except RuntimeError:
                logger("certcast.test.captured").exception("it failed")
        assert all(line.isprintable() for line in lines)
        assert len(lines) > 2


def test_what_is_shown_has_no_control_and_no_direction_characters() -> None:
    assert shown(FORGED).isprintable()
    assert shown(TURNED_ROUND).isprintable()
    assert shown("bücher.example 漢字") == "bücher.example 漢字"
