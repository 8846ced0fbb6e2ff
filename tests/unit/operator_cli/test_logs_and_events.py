"""What `logs` and `events` show: pure of where it was read."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from operator_cli import events
from operator_cli.events import LATE, Following
from operator_cli.logs import timeline_table
from shared.errors import AccessDeniedError, UnavailableError

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def entry(name: str, *, before_s: float = 0, kind: str = "live", event: str | None = "Certcast.CertificateLive") -> Any:
    at = (NOW - timedelta(seconds=before_s)).isoformat()
    return {
        "id": name,
        "at": at,
        "kind": kind,
        "event_type": event,
        "name": f"{name}.pfx",
        "hosts": ["www.example.com"],
        "hosts_total": 1,
        "port": 443,
        "seconds": 1.25,
        "reason": "",
        "instance": None,
    }


def names(found: list[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in found]


def test_each_event_is_shown_once_and_in_order() -> None:
    following = Following(NOW - timedelta(minutes=1))
    assert names(following.new_among([entry("b", before_s=1), entry("a", before_s=2)])) == ["a", "b"]
    assert names(following.new_among([entry("c"), entry("b", before_s=1)])) == ["c"]


def test_what_was_before_and_what_has_no_event_are_not_shown() -> None:
    following = Following(NOW)
    drift = entry("drift", kind="drift_repaired", event=None)
    assert following.new_among([entry("old", before_s=1), drift]) == []


def test_an_entry_that_reaches_the_table_late_is_shown() -> None:
    following = Following(NOW - timedelta(hours=1))
    following.new_among([entry("new")])
    assert following.since(NOW) == NOW - LATE
    assert names(following.new_among([entry("late", before_s=90), entry("new")])) == ["late"]


def test_what_no_look_reads_again_is_forgotten_and_what_one_may_is_not() -> None:
    following = Following(NOW - timedelta(hours=1))
    following.new_among([entry("old", before_s=1_000), entry("new", before_s=100)])
    following.forget(NOW)
    assert following._seen.keys() == {"new"}


def test_nothing_from_before_the_beginning_is_read() -> None:
    assert Following(NOW).since(NOW + timedelta(seconds=1)) == NOW


async def test_a_service_that_does_not_answer_now_is_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    async def away(_since: datetime) -> tuple[datetime, list[dict[str, Any]]]:
        raise UnavailableError("the table history did not answer")

    assert await events._looked(away, NOW, NOW) == (NOW, [])
    assert "the table history did not answer; looking again" in capsys.readouterr().err


async def test_one_that_refuses_ends_it() -> None:
    async def refuses(_since: datetime) -> tuple[datetime, list[dict[str, Any]]]:
        raise AccessDeniedError("no")

    with pytest.raises(AccessDeniedError):
        await events._looked(refuses, NOW, NOW)


def test_an_event_is_one_line_whatever_its_name_is(capsys: pytest.CaptureFixture[str]) -> None:
    events._show([{**entry("a"), "name": "a\u202e\x1b[2J\n.pfx"}], as_json=False)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert not {"\u202e", "\x1b"} & set(said)
    assert said.startswith("2030-01-02 03:04:05  Certcast.CertificateLive  a")
    assert "www.example.com:443; 1.2 s" in said


def drawn(moments: list[Any]) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(timeline_table(moments))
    return capture.get()


def test_a_timeline_has_a_row_for_each_moment_to_the_millisecond() -> None:
    moments: list[Any] = [
        {"at": "2030-01-02T03:04:05.067Z", "stage": "judged", "instance": None, "detail": "", "took_ms": 12.3},
        {
            "at": "2030-01-02T03:04:25Z",
            "stage": "failed",
            "instance": "web\u202e-7",
            "detail": "no",
            "took_ms": 12_345.6,
        },
    ]
    said = drawn(moments)
    assert "2030-01-02 03:04:05.067" in said
    assert "12 ms" in said
    assert "12.3 s" in said
    assert "\u202e" not in said


def test_an_upload_of_which_nothing_is_told_has_a_sentence() -> None:
    assert "nothing is told of it yet" in drawn([])
