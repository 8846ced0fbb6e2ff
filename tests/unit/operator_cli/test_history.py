"""What the commands on the history show: `history`, `logs`, `events`."""

import re
from dataclasses import replace
from datetime import timedelta

import click
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from operator_cli import history as asking
from operator_cli.entries import entries_table, hosts_of
from operator_cli.events import _at_storage
from operator_cli.history import read_history
from operator_cli.logs import read_timeline
from operator_cli.status_api import KEY_SETTING
from operator_cli.storage import Storage
from operator_cli.terminal import results
from shared.errors import AccessDeniedError, CertcastError, NotSetUpError
from shared.function import history_api
from shared.state.history import HistoryEntry, HistoryKind, history_document
from shared.state.records import UploadRecord, UploadStatus
from tests.fakes.edges import FakeStorage, Step, unhindered
from tests.fakes.processes import Failing
from tests.fakes.storage import START
from tests.rigs.scenes import Scene

ENTRY = HistoryEntry(id="0", at=START, kind=HistoryKind.LIVE, name="a.pfx", hosts=("a.example.com",), seconds=1.24)
HOSTILE = "<b>\N{RIGHT-TO-LEFT OVERRIDE}x\x1b[31m.pfx"
MISSING = NotSetUpError("reading table history: the table itself is not there")


def opened(account: FakeStorage, step: Step = unhindered) -> Storage:
    return Storage(uploads=account.cloud(step).uploads, state=account.state(step), now=account.clock)


async def enter(account: FakeStorage, *entries: HistoryEntry) -> None:
    for entry in entries:
        await account.state().history.overwrite((entry.at, entry.id), entry)


def minutes(number: float, **others: object) -> HistoryEntry:
    values = {"id": f"{number:g}", "at": START + timedelta(minutes=number)} | others
    return replace(ENTRY, **values)  # type: ignore[arg-type]


class TestHistory:
    async def test_the_newest_so_many_are_read_and_it_is_told_that_there_are_more(self) -> None:
        account = FakeStorage()
        await enter(account, *map(minutes, range(-5, 0)))
        for limit, ids, complete in ((3, ["-1", "-2", "-3"], False), (5, ["-1", "-2", "-3", "-4", "-5"], True)):
            document = await read_history(opened(account), {}, limit)
            assert [entry["id"] for entry in document["entries"]] == ids
            assert document["complete"] is complete

    @pytest.mark.parametrize(
        ("limit", "ids"), [(1, "1"), (2, "12"), (3, "123"), (4, "1234"), (5, "12345"), (9, "12345")]
    )
    async def test_over_the_api_it_is_as_true_that_there_are_more_however_the_pages_fall(
        self, limit: int, ids: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        account = FakeStorage()
        await enter(account, *map(minutes, range(-5, 0)))

        async def answered(request: web.Request) -> web.Response:
            answer = await history_api.history(account.cloud(), request.query)
            return web.json_response(answer.document, status=answer.status)

        app = web.Application()
        app.router.add_get("/api/history", answered)
        monkeypatch.setattr(asking, "_PAGE", 3)
        monkeypatch.setenv(KEY_SETTING, "key")
        async with TestServer(app) as server:
            document = await asking._by_api(str(server.make_url("/")), {"name": ENTRY.name}, limit)
        assert [entry["id"] for entry in document["entries"]] == [f"-{each}" for each in ids]
        assert document["complete"] is (limit >= 5)

    async def test_what_cannot_be_meant_is_a_wrong_usage(self) -> None:
        with pytest.raises(click.UsageError, match="since must be a time"):
            await read_history(opened(FakeStorage()), {"since": "yesterday"}, 1)

    async def test_without_the_table_it_is_said_how_to_make_it(self) -> None:
        account = opened(FakeStorage(), Failing({"history query": [MISSING, MISSING]}))
        for reading in (read_history(account, {}, 1), _at_storage(account)(START)):
            with pytest.raises(CertcastError, match="az storage table create --name history") as raised:
                await reading
            assert not raised.value.retriable

    def test_a_line_tells_when_what_of_which_upload_and_why(self, capsys: pytest.CaptureFixture[str]) -> None:
        hostile = replace(
            ENTRY, name="<b>\N{RIGHT-TO-LEFT OVERRIDE}x\x1b[31m.pfx", kind=HistoryKind.REJECTED, reason="no"
        )
        named = replace(ENTRY, instance="web-0", kind=HistoryKind.DRIFT_REPAIRED, fingerprint_sha256="ab" * 32)
        newer = replace(ENTRY, kind=HistoryKind("praised"))
        results().print(entries_table([history_document(each) for each in (ENTRY, hostile, named, newer)]))
        out = capsys.readouterr().out
        assert re.search(r"2026-03-01 12:00:00 +live +a\.pfx", out)
        assert re.search(r"a\.example\.com:443 +1\.2 s", out)
        assert "on web-0" in out
        assert "abababababab" in out
        assert "praised" in out
        assert out.isascii() or "\N{REPLACEMENT CHARACTER}" in out
        assert not {"\x1b", "\N{RIGHT-TO-LEFT OVERRIDE}"} & {*out}

    def test_many_hosts_are_counted_also_those_that_the_entry_leaves_out(self) -> None:
        many = replace(ENTRY, hosts=tuple(f"h{number}.test" for number in range(5)), hosts_total=250)
        assert hosts_of(history_document(many)) == "h0.test:443, h1.test:443, h2.test:443 and 247 more"


class TestLogs:
    async def test_the_way_of_an_upload_is_told_by_stage_and_instance_after_what_came_before(self) -> None:
        scene = Scene()
        await scene.join("web-0", "web-1")
        for day in (-9, -1):
            await scene.accepted("a.pfx", "a.example.com", day=day)
            scene.storage.clock.advance(2)
            await scene.everyone_obeys("web-0", "web-1")
            scene.storage.clock.advance(60)
        document = await read_timeline(opened(scene.storage), "a.pfx")
        stages = [(moment["stage"], moment["instance"]) for moment in document["timeline"]]
        assert stages[:2] == [("accepted", None), ("live", None)]
        told = [("uploaded", None), ("noticed", None), ("judged", None), ("told", None)]
        assert [stage for stage in stages[2:] if stage in told] == told
        done = [("installed", "web-0"), ("installed", "web-1"), ("live", None), ("renewed", None)]
        assert sorted(set(stages[2:]) - {*told}, key=str) == done

    async def test_what_is_not_known_is_said(self) -> None:
        with pytest.raises(CertcastError, match=r"no upload 'a\.pfx' is known"):
            await read_timeline(opened(FakeStorage()), "a.pfx")

    @pytest.mark.parametrize("error", [MISSING, AccessDeniedError("reading table history: refused")])
    async def test_without_the_history_the_rest_is_shown(
        self, error: CertcastError, caplog: pytest.LogCaptureFixture
    ) -> None:
        account = FakeStorage()
        row = UploadRecord(name="a.pfx", revision=1, status=UploadStatus.REJECTED, judged_at=START, past=(minutes(-1),))
        await account.state().uploads.overwrite("a.pfx", row)
        document = await read_timeline(opened(account, Failing({"history query": [error]})), "a.pfx")
        assert [moment["stage"] for moment in document["timeline"]] == ["live", "judged"]
        assert "its history cannot be read: reading table history" in caplog.text
