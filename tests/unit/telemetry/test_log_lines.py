"""Log lines as JSON: fixed fields from the work itself, which no name forges; and what libraries say, now and then."""

import json
import logging
from collections.abc import Iterator

import pytest

from shared.errors import ConfigurationError
from shared.phrasing import logger
from shared.telemetry import log_lines
from shared.telemetry.log_lines import FIELDS, JsonLines, note_fields, wants_json, write_json
from shared.telemetry.names import Stage
from shared.telemetry.now_and_then import SAID_EVERY_S, NowAndThen, hush
from shared.telemetry.spans import about, span

ABOVE = f"00-{'a1' * 16}-{'b2' * 8}-01"
log = logger("tests.telemetry")


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        self.records.append(record)


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    factory = logging.getLogRecordFactory()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)
    logging.setLogRecordFactory(factory)


def test_a_line_has_all_fields_in_order_and_null_for_what_is_not_known(lines: Lines) -> None:
    log.info("started")
    [line] = lines.lines
    read = json.loads(line)
    assert tuple(read) == FIELDS
    assert (read["level"], read["logger"], read["message"]) == ("INFO", "tests.telemetry", "started")
    assert read["time"].endswith("Z")
    assert {name for name in FIELDS if read[name] is None} == set(FIELDS[4:])


def test_a_line_says_what_is_worked_on_where_it_is_written(lines: Lines) -> None:
    with span(Stage.ACT, of=ABOVE, instance="web-0"), about(upload="a.pfx", host="a.test", generation=3):
        log.warning("generation %d", 3)
    read = json.loads(lines.lines[0])
    assert (read["upload"], read["host"], read["instance"], read["generation"]) == ("a.pfx", "a.test", "web-0", 3)
    assert (read["trace_id"], read["span_id"]) == ("a1" * 16, None), "no span of this process is recorded"


FORGED = 'a.pfx", "level": "ERROR", "upload": "other.pfx\n{"message": "forged"}\u2028\u202e'


def test_no_name_forges_a_field_or_a_line(lines: Lines) -> None:
    with about(upload=FORGED, host=FORGED, instance=FORGED):
        log.info("upload %s: looked at", FORGED)
        logging.getLogger("tests.telemetry").handle(
            logging.LogRecord("foreign", logging.INFO, "", 0, f"a line of a library about {FORGED}", (), None)
        )
    for line in lines.lines:
        assert line.splitlines() == [line]
        assert line.isascii()
        read = json.loads(line)
        assert tuple(read) == FIELDS
        assert read["level"] == "INFO"
        assert read["upload"] == read["host"] == read["instance"]
        assert read["upload"].startswith('a.pfx", "level": "ERROR", "upload": "other.pfx\N{REPLACEMENT CHARACTER}')


def test_an_exception_is_one_field(lines: Lines) -> None:
    try:
        int("two\nlines", base=int("10"))
    except ValueError:
        log.exception("failed")
    read = json.loads(lines.lines[0])
    assert read["message"] == "failed"
    assert read["exception"].startswith("Traceback (most recent call last):\n")
    assert read["exception"].endswith(r"ValueError: invalid literal for int() with base 10: 'two\nlines'")


def test_records_keep_what_they_are_about_for_what_exports_them_whole(lines: Lines) -> None:
    note_fields()
    note_fields()
    with about(upload="a.pfx", generation=2):
        log.info("kept")
    log.info("nothing is known")
    kept, plain = (vars(record) for record in lines.records)
    assert {name: value for name, value in kept.items() if "certcast" in name} == {
        "certcast.upload": "a.pfx",
        "certcast.generation": 2,
    }
    assert not [name for name in plain if "certcast" in name]


def test_what_writes_lines_already_writes_json_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    write_json()
    assert isinstance(handler.formatter, JsonLines)


@pytest.mark.parametrize(("text", "wanted"), [("", False), ("text", False), (" JSON ", True)])
def test_the_setting_says_which(text: str, *, wanted: bool) -> None:
    assert wants_json({"CERTCAST_LOG_FORMAT": text}) is wanted


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"CERTCAST_LOG_FORMAT must be text or json, not 'xml'"):
        wants_json({log_lines.FORMAT_SETTING: "xml"})


class Clock:
    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


def test_what_a_library_says_again_and_again_is_said_once_in_ten_minutes(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    handler = NowAndThen(clock)
    record = logging.LogRecord(
        "library",
        logging.ERROR,
        "",
        0,
        "with url: /v1/traces?key=hunter2 at https://c.test:4318/hunter2 refused",
        (),
        None,
    )
    for _ in range(100):
        handler.handle(record)
        handler.say()
        clock.now += 5.0
    assert len(caplog.records) == 1
    clock.now += SAID_EVERY_S
    handler.handle(record)
    handler.say()
    handler.say()
    assert len(caplog.records) == 2
    assert "spans may be lost, and nothing else is: with url: ... at https://c.test:4318 ... refused" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_hushed_library_says_nothing_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    handler = hush("tests.some_library")
    logging.getLogger("tests.some_library.exporter").error("away")
    assert not caplog.records
    handler.say()
    assert "away" in caplog.text
