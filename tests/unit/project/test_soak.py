"""The soak's own reckoning: what it does, what it expects, what it takes for a fault."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local_azure.processes.listening import free_port
from shared.hostnames import DEFAULT_HOST
from shared.state.document import Document
from shared.state.records import UploadStatus
from tests.rigs.pages import rows, text_of
from tests.soak.__main__ import main
from tests.soak.drifts import Drift, Drifts
from tests.soak.judging import told_wrong
from tests.soak.load import Session, told
from tests.soak.logs import Logs
from tests.soak.machine import MARK, Memory, ports_taken, processes_left
from tests.soak.model import Model, Uploaded
from tests.soak.plan import ANCHOR, ANCHOR_HOST, MOST_UPLOADS, Action, ByHand, KillAgent, Plan, Put, Remove
from tests.soak.report import Report

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def model_of(*uploads: tuple[str, str, int]) -> Model:
    model = Model()
    for name, hosts, day in uploads:
        begins = EPOCH + timedelta(days=day)
        model.put(Uploaded(name=name, fingerprint=f"{name} {day}", hosts=tuple(hosts.split()), not_before=begins))
    return model


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("shop.a.test", "exact 1"),
        ("x.a.test", "wide 5"),
        ("my_shop.a.test", "wide 5"),
        ("a.test", "default 2"),
        ("x.shop.a.test", "default 2"),
        ("unknown.test", "default 2"),
        (None, "default 2"),
    ],
)
def test_the_exact_host_comes_before_the_wildcard_and_both_before_the_default(name: str | None, shown: str) -> None:
    model = model_of(("exact", "shop.a.test", 1), ("wide", "*.a.test", 5), ("default", f"free.test {DEFAULT_HOST}", 2))
    assert model.shown(name) == shown


def test_without_a_default_others_see_what_no_upload_brought() -> None:
    model = model_of(("exact", "shop.a.test", 1))
    assert model.shown(None) is model.shown("other.a.test") is None


def test_the_upload_that_begins_last_wins_whenever_it_came_and_the_other_follows_it() -> None:
    model = model_of(("new", "a.test b.test", 9), ("old", "a.test c.test", 3))
    assert (model.shown("a.test"), model.won("old"), model.status("old")) == ("new 9", ("c.test",), UploadStatus.LIVE)
    model.put(Uploaded(name="old", fingerprint="again", hosts=("a.test",), not_before=EPOCH))
    assert model.status("old") is UploadStatus.SUPERSEDED
    model.remove("new")
    assert (model.shown("a.test"), model.shown("b.test")) == ("again", None)
    assert (model.status("new"), model.status("old")) == (UploadStatus.REMOVED, UploadStatus.LIVE)
    assert {"a.test", "b.test", "c.test", None} <= set(model.names())


def told_of(name: str, status: str, fingerprint: str, *, live: int = 1, reason: str = "") -> Document:
    return {
        "name": name,
        "status": status,
        "live": live,
        "expected": 1,
        "fingerprint_sha256": fingerprint,
        "reason": reason,
    }


def document_of(*uploads: Document, bindings: int = 3, **instance: object) -> Document:
    well = {"id": "agent-0", "alive": True, "ready": True, "failing": 0, "trouble": None, "bindings": bindings}
    return {"uploads": list(uploads), "instances": [{**well, **instance}]}


SETTLED = model_of(("new", "a.test b.test", 9), ("old", "a.test c.test", 3), ("out", "b.test", 2))
NEW, OLD = told_of("new", "live", "new 9"), told_of("old", "live", "old 3", reason="a.test:443 is served from new")
OUT = told_of("out", "superseded", "out 2", live=0, reason="superseded by new")
DRIFTED = "instance agent-0, b.test:443: changed behind certcast's back at 10:00; put right"


@pytest.mark.parametrize(
    ("document", "wrong"),
    [
        (document_of(NEW, OLD, OUT), []),
        (document_of({**NEW, "reason": DRIFTED}, OLD, OUT), []),
        (
            document_of({**NEW, "reason": DRIFTED.replace("b.test", "a.test")}, OLD, OUT),
            ["nothing is to be said of it"],
        ),
        (document_of(NEW, OLD), ["upload out is not listed"]),
        (document_of(NEW, OLD, OUT, {**OUT, "name": "gone"}), ["upload gone is removed and still listed"]),
        (
            document_of({**NEW, "status": "failed"}, OLD, OUT),
            ["new: told to be failed 1/1 (), and it is live with new 9"],
        ),
        (document_of({**NEW, "live": 0}, OLD, OUT), ["told to be live 0/1 (), and it is so on all 1"]),
        (document_of({**NEW, "fingerprint_sha256": "other"}, OLD, OUT), ["it is live with new 9"]),
        (document_of(NEW, {**OLD, "reason": ""}, OUT), ["upload old: told to be live 1/1 (), and new won hosts of it"]),
        (document_of(NEW, OLD, {**OUT, "reason": ""}), ["upload out: told to be superseded 0/1 (), and new won hosts"]),
        (document_of(NEW, OLD, OUT, bindings=2), ["instance agent-0 serves 3, and is told to be"]),
        (document_of(NEW, OLD, OUT, failing=1), ["instance agent-0 serves 3, and is told to be"]),
        (document_of(NEW, OLD, OUT, alive=False), ["instance agent-0 serves 3, and is told to be"]),
        (document_of(NEW, OLD, OUT, trouble="it is down"), ["instance agent-0 serves 3, and is told to be"]),
    ],
)
def test_whatever_is_told_and_is_not_so_is_found(document: Document, wrong: list[str]) -> None:
    found = list(told_wrong(SETTLED, document, {("agent-0", "b.test")}))
    assert len(found) == len(wrong)
    assert all(part in sentence for part, sentence in zip(wrong, found, strict=True))


@pytest.mark.parametrize(
    ("changed", "told", "so"),
    [
        ("a.test", "a.test", True),
        ("x.a.test", "*.a.test", True),
        ("*.a.test", "x.a.test", True),
        ("b.test", "a.test", False),
        ("a.test", "x.a.test", False),
    ],
)
def test_a_change_by_hand_may_be_told_of_what_is_above_or_below_too(changed: str, told: str, *, so: bool) -> None:
    model = model_of(("one", told, 1))
    reason = f"instance agent-0, {told}:443: changed behind certcast's back at 10:00; put right"
    document = document_of(told_of("one", "live", "one 1", reason=reason), bindings=1)
    assert (not list(told_wrong(model, document, {("agent-0", changed)}))) is so


def plan(seed: int = 1, *, defaults: bool = True) -> Plan:
    return Plan(seed, instances=3, defaults=defaults)


def actions(made: Plan, count: int = 600) -> list[Action]:
    return [made.first(), *(made.next() for _ in range(count))]


def test_a_seed_decides_everything() -> None:
    assert actions(plan()) == actions(plan())
    assert actions(plan()) != actions(plan(2))


def test_everything_is_done_and_the_hosts_of_the_load_are_always_there() -> None:
    done = actions(plan())
    assert all(count > 10 for count in Counter(type(action).__name__ for action in done).values())
    assert len({type(action) for action in done}) == 5
    assert not [action for action in done if isinstance(action, Remove) and action.name == ANCHOR]
    untied = [action for action in done if isinstance(action, ByHand) and action.how == "taken away"]
    assert untied
    assert not [action for action in untied if action.host == ANCHOR_HOST]
    assert {action.instance for action in done if isinstance(action, KillAgent)} == {0, 1, 2}
    puts = [action for action in done if isinstance(action, Put)]
    assert {put.key for put in puts} == {"ec", "rsa"}
    assert any(put.default for put in puts)
    assert any(len(put.hosts) > 2 for put in puts)
    assert any(put.hosts[0].startswith("*.") for put in puts)
    assert any(put.older for put in puts)


def test_what_is_there_stays_few_enough_to_be_proved_in_a_cycle() -> None:
    there: set[str] = set()
    for action in actions(plan(), 3000):
        if isinstance(action, Put):
            there.add(action.name)
        elif isinstance(action, Remove):
            there.remove(action.name)
        assert len(there) <= MOST_UPLOADS


def test_without_defaults_there_is_none() -> None:
    assert not [action for action in actions(plan(defaults=False)) if isinstance(action, Put) and action.default]


def drift(host: str = "a.test", instance: str = "agent-0", made: float = 10) -> Drift:
    return Drift(instance=instance, target="nginx", host=host, how="replaced", made=made, fingerprint="theirs")


async def test_what_an_agent_says_it_found_is_that_hosts_on_that_instance() -> None:
    drifts = Drifts()
    mine = drifts.begun(drift())
    others = [drifts.begun(drift(host)) for host in ("b.a.test", "*.a.test")] + [drifts.begun(drift(instance="other"))]
    drifts.heard("agent-0", "INFO instance agent-0: a.test:443 generation 3 live", 11)
    assert mine.found is None
    drifts.heard(
        "agent-0", "WARNING instance_agent.proof.drifts: a.test:443 changed behind certcast's back at 10:00", 12
    )
    assert mine.found == 12
    assert [each.found for each in others] == [None] * 3
    drifts.heard(
        "agent-0", "WARNING instance_agent.proof.drifts: *.a.test:443 was no longer bound, noticed at 10:00", 13
    )
    assert [each.found for each in others] == [None, 13, None]


async def test_a_change_that_was_found_and_put_right_is_none_that_was_not_and_is_told() -> None:
    one = drift()
    assert (
        one.wrong()
        == "a.test on agent-0 (nginx), replaced by hand: never seen by clients, nor found in the log, nor right"
    )
    one.seen = one.found = one.right = 12
    assert not one.wrong()


async def test_what_is_overtaken_before_it_is_over_need_not_be_found() -> None:
    drifts = Drifts()
    first, second, done = drifts.begun(drift()), drifts.begun(drift("b.test")), drifts.begun(drift("c.test"))
    done.found = done.right = 11
    drifts.overtake("an upload", hosts=frozenset({"a.test", "c.test"}))
    assert [each.overtaken for each in (first, second, done)] == ["an upload", "", ""]
    drifts.overtake("a restart", instance="agent-1")
    assert not second.overtaken
    drifts.overtake("a restart", instance="agent-0")
    assert (second.overtaken, second.wrong(), first.overtaken) == ("a restart", "", "an upload")
    assert drifts.is_open("agent-0", "a.test")
    first.over.set()
    assert not drifts.is_open("agent-0", "a.test")
    assert drifts.count("agent-0", "a.test") == 1


@pytest.mark.parametrize(
    ("said", "requests", "errors"),
    [
        ("  478 requests in 5.01s, 90KB read\n", 478, {}),
        (
            """\
  2 requests in 5.01s, 0.5KB read
  Socket errors: connect 0, read 12, write 3, timeout 0
  Non-2xx or 3xx responses: 2
""",
            2,
            {"read": 12, "write": 3, "status": 2},
        ),
        ("unable to connect to a.test:443 Connection refused\n", 0, {"connect": 1}),
    ],
)
def test_what_wrk_says_is_understood(said: str, requests: int, errors: dict[str, int]) -> None:
    session = told(said, "agent-0", 1.0, 6.0)
    assert (session.requests, dict(session.errors)) == (requests, errors)


def test_stack_traces_and_errors_of_certcasts_programs_are_counted() -> None:
    heard: list[str] = []
    logs = Logs(lambda component, _: heard.append(component))
    for component, line in (
        ("agent-0", "INFO ready"),
        ("nginx-0", "ERROR of a server"),
        ("functions", "ERROR something"),
        ("functions", "Traceback (most recent call last):"),
        ("functions", "  File"),
        ("azurite", "Traceback (most recent call last):"),
    ):
        logs(component, line)
    assert (dict(logs.exceptions), dict(logs.errors)) == ({"functions": 1}, {"functions": 1})
    assert heard == ["agent-0", "functions", "functions", "functions"]
    assert list(logs.latest)[-1] == "functions:   File"


def test_processes_that_are_left_are_found_by_their_mark_or_their_folder(tmp_path: Path) -> None:
    waits = [sys.executable, "-c", "import time; print('there', flush=True); time.sleep(60)"]
    marked = subprocess.Popen(waits, env={**os.environ, MARK: "of this test"}, stdout=subprocess.PIPE)
    beside = subprocess.Popen(waits, cwd=tmp_path, stdout=subprocess.PIPE)
    try:
        for process in (marked, beside):  # one that only begins has no command line yet
            assert process.stdout is not None
            assert process.stdout.readline() == b"there\n"
        left = processes_left("of this test", tmp_path)
        assert sorted(int(told.rpartition(" ")[2].strip(")")) for told in left) == sorted([marked.pid, beside.pid])
    finally:
        for process in (marked, beside):
            process.kill()
            process.communicate()
    assert not processes_left("of this test", tmp_path)


def test_what_started_the_soak_is_not_left_though_it_names_the_folder(tmp_path: Path) -> None:
    asks = "import sys, pathlib; from tests.soak.machine import processes_left as left; "
    asks += "print(left('of no test', pathlib.Path(sys.argv[1])))"
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {asks!r}, sys.argv[1]], check=True)"
    said = subprocess.run([sys.executable, "-c", starts, str(tmp_path)], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


async def test_a_port_on_which_something_listens_is_found() -> None:
    port = free_port()
    assert not ports_taken([port])
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", port):
        assert ports_taken([port]) == [port]


def test_memory_is_told_of_the_life_that_grew_most() -> None:
    memory = Memory()
    memory.look("agent-0", os.getpid(), 0)
    memory.look("agent-0", os.getpid(), 100)
    memory.look("agent-1", None, 0)
    [(name, (first, last))] = memory.grown().items()
    assert name == "agent-0"
    assert 0 < first <= last + 1


def finished() -> Report:
    made = [drift(), drift("b.test"), drift("c.test")]
    made[0].found, made[0].right = 12.0, 13.0
    made[1].overtaken = "an upload"
    return Report(
        minutes=1,
        seed=7,
        done=Counter({"renewals": 1200, "server restarts": 2, "restarts left out": 1}),
        took_s={"server restarts": [1.0, 3.0], "agents killed": []},
        live_s=[1.0, 2.0, 9.0],
        drifts=made,
        calm=[Session(instance="agent-0", began=0, ended=5, requests=100)],
        disturbed=[Session(instance="agent-0", began=5, ended=9, requests=10, errors=Counter(read=3))],
        memory={"agent-0": (60.4, 61.5)},
    )


def test_the_table_tells_how_many_and_how_long() -> None:
    table = {cells[0]: cells[1:] for cells in rows(finished().markdown())}
    assert table["renewals"] == ["1,200", "", "", ""]
    assert table["… of them seen live, from upload to proved on every instance"] == ["3", "2.0", "8.3", "9.0"]
    assert table["changes by hand on nginx"][0] == "3"
    assert table["… overtaken by something else that was done"][0] == "1"
    assert table["… put right"] == ["1", "3.0", "3.0", "3.0"]
    assert table["server restarts, until there again"] == ["2", "2.0", "2.9", "3.0"]
    assert table["requests answered by the servers"][0] == "110"
    assert table["… failed at any other time"][0] == "0"
    assert table["memory of agent-0, MB: at first, at last"] == ["", "60", "", "62"]


def test_the_document_is_the_same_and_says_what_is_wrong() -> None:
    report = finished()
    report.wrong.append("something")
    document = json.loads(json.dumps(report.to_json()))
    assert (document["ok"], document["seed"], document["wrong"]) == (False, 7, ["something"])
    assert {"what": "renewals", "number": "1,200", "p50 s": "", "p95 s": "", "longest s": ""} in document["rows"]


def test_the_page_shows_the_rows_of_a_run_in_which_nothing_was_wrong() -> None:
    table = {cells[0]: cells[1] for cells in rows(text_of(Path("docs/reliability.md"))) if len(cells) == 5}
    told = {cells[0] for cells in rows(finished().markdown())}
    assert told <= set(table)
    assert {target for target in ("nginx", "haproxy", "caddy") if f"changes by hand on {target}" in table} == {
        "nginx",
        "haproxy",
        "caddy",
    }
    assert table["what was wrong"] == table["… failed at any other time"] == "0"


@pytest.mark.parametrize("minutes", ["0", "-1", "2000"])
def test_a_soak_of_no_time_or_of_more_than_a_day_is_refused(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--minutes", minutes]) == 2
    assert "--minutes is more than 0" in capsys.readouterr().err


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tests.soak.__main__.path_of", lambda program: None if program == "wrk" else program)
    assert main(["--minutes", "1"]) == 2
    assert "soak needs wrk, which is not installed here" in capsys.readouterr().err
