"""Names from outside: none forges a log line or steers a terminal, and none becomes the address of another thing."""

import ast
import logging
from pathlib import Path

import pytest

from shared.phrasing import LOGGED_CHARS, logger, shown
from tests.rigs.deployment import ROOT, repository_files

FORGED = "x.pfx\n2026-01-01 12:00:00 ERROR certcast: all uploads: deleted\x1b[2J"
TURNED_ROUND = "x\u202exfp.exe\u2066\u200f.pfx"
PRODUCT = ("shared", "instance_agent", "operator_cli", "local_azure")
MODULES = [
    path for path in repository_files() if path.suffix == ".py" and path.parts[0] in (*PRODUCT, "function_app.py")
]
# Those set the logging of a process up: levels and handlers, no lines.
SETTING_UP = {
    "instance_agent/__main__.py",
    "instance_agent/windows/service.py",
    "local_azure/functions_host/host.py",
    "local_azure/processes/log_lines.py",
    "operator_cli/__main__.py",
    "shared/phrasing.py",
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


def test_what_is_shown_has_no_control_and_no_direction_characters() -> None:
    assert shown(FORGED).isprintable()
    assert shown(TURNED_ROUND).isprintable()
    assert shown("bücher.example 漢字") == "bücher.example 漢字"
