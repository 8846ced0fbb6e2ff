"""What uploads hold does not make rows, answers or reading of the status API large."""

import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.azure.account import Account
from shared.function import status_api
from shared.function.cloud import Cloud
from shared.function.paging import MAX_LIMIT, MAX_PAGE_BYTES, MAX_ROWS_READ
from shared.function.status_api import Answer
from shared.messages import InstallOutcome
from shared.phrasing import LOGGED_CHARS
from shared.state.document import installation_document, upload_document
from shared.state.records import InstallationRecord, UploadRecord, UploadStatus
from shared.state.tags import status_tags
from shared.verdict import MAX_VIOLATIONS, VerdictCode, Violation
from tests.contracts.edges import own
from tests.fakes.edges import FakeStorage
from tests.fakes.storage import START
from tests.rigs.certificates import authority
from tests.rigs.emulator import Emulator, opened_account
from tests.rigs.rows import registered
from tests.rigs.scenes import PASSWORD, Scene

MEGABYTE = 1_000_000


def upload(name: str, **columns: Any) -> UploadRecord:
    return UploadRecord(name=name, revision=1, status=UploadStatus.REJECTED, **columns)


def report(host: str, instance: str, **columns: Any) -> InstallationRecord:
    return InstallationRecord(
        host=host,
        port=443,
        instance=instance,
        role="*",
        generation=1,
        source="a.pfx",
        outcome=InstallOutcome.FAILED,
        finished_at=START,
        reported_at=START,
        **columns,
    )


async def put(cloud: Cloud, *records: UploadRecord) -> None:
    for record in records:
        await cloud.state.uploads.write(record.name, record, None)


async def every(cloud: Cloud, **query: str) -> list[Answer]:
    """Every page, as a client that follows `next` has them."""
    answers = [await status_api.certificates(cloud, **query)]
    while then := answers[-1].document["next"]:
        answers.append(await status_api.certificates(cloud, **query, after=then))
    return answers


def names(answers: list[Answer]) -> list[str]:
    return [entry["name"] for answer in answers for entry in answer.document["uploads"]]


class TestRows:
    async def test_a_certificate_of_endless_names_makes_a_small_row(self, scene: Scene) -> None:
        issued = authority().issue("a.example.com", subject=",".join(["OU=" + "\\," * 60 + "\u202e"] * 2_000))
        await scene.handle(await scene.upload("commas.pfx", content=issued.pfx(PASSWORD)))
        record = await scene.record("commas.pfx")
        assert len(record.subject) < 600
        assert record.subject.isprintable()
        assert len(json.dumps(upload_document(record))) < 5_000

    def test_reasons_and_names_are_cut_and_cleaned_wherever_they_come_from(self) -> None:
        noise = "a\n\x1b[2J\u202e" * 100_000
        record = upload(
            "a.pfx",
            subject=noise,
            issuer=noise,
            reason=noise,
            dns_names=(noise,) * 10_000,
            violations=(Violation(code=VerdictCode.WEAK_SIGNATURE, detail=noise),) * 10_000,
        )
        texts = (
            record.subject,
            record.issuer,
            record.reason,
            *record.dns_names,
            *(v.detail for v in record.violations),
        )
        assert all(text.isprintable() and len(text) <= LOGGED_CHARS + 3 for text in texts)
        assert len(record.violations) <= MAX_VIOLATIONS
        assert len(record.dns_names) <= 250
        assert all(len(value) <= 256 and value.isprintable() for value in status_tags(record).values())

    def test_a_report_too(self) -> None:
        entry = report("a.test", "i", reason="no\n" * MEGABYTE)
        assert len(entry.reason) <= LOGGED_CHARS + 3
        assert entry.reason.isprintable()


class TestPages:
    async def test_all_uploads_are_had_page_by_page_each_once(self, cloud: Cloud) -> None:
        odd = [
            "a/b c.pfx",
            "ü#?%.pfx",
            "keyvault://shops/www",
            "x" * 1020 + ".pfx",
            "\U0001f512" * 500 + ".pfx",
            "z.pfx",
        ]
        await put(cloud, *(upload(name) for name in [*odd, *(f"n{number}.pfx" for number in range(20))]))
        answers = await every(cloud, limit="3")
        assert len(names(answers)) == len(set(names(answers))) == 26
        assert set(odd) <= set(names(answers))
        assert all(len(answer.document["uploads"]) <= 3 for answer in answers)
        assert all(len(answer.document["next"] or "") <= 1100 for answer in answers)

    async def test_a_page_is_of_a_few_megabytes_whatever_uploads_hold(self, cloud: Cloud) -> None:
        hosts = tuple(f"{'x' * 240}{number}.test" for number in range(250))
        full = tuple(Violation(code=VerdictCode.WEAK_SIGNATURE, detail=f"{n}" + "\u2603" * 2_000) for n in range(40))
        await put(cloud, *(upload(f"{number}.pfx", hosts=hosts, violations=full) for number in range(30)))
        answers = await every(cloud, limit=str(MAX_LIMIT))
        assert len(names(answers)) == 30
        assert len(answers) > 1
        assert max(len(json.dumps(answer.document)) for answer in answers) < 2 * MAX_PAGE_BYTES

    async def test_one_answer_reads_no_more_than_it_may(self, cloud: Cloud) -> None:
        for number in range(MAX_ROWS_READ + 50):
            gone = UploadRecord(name=f"{number:05}.pfx", revision=1, status=UploadStatus.REMOVED)
            await cloud.state.uploads.write(gone.name, gone, None)
        await put(cloud, upload("zz.pfx"))
        answers = await every(cloud)
        assert [len(answer.document["uploads"]) for answer in answers] == [0, 1]

    async def test_a_page_costs_one_request_to_the_table_beside_the_instances(self, storage: FakeStorage) -> None:
        steps: list[str] = []

        async def step(what: str) -> None:
            steps.append(what)

        await put(storage.cloud(), *(upload(f"{number:04}.pfx") for number in range(60)))
        await status_api.certificates(storage.cloud(step, page=20), limit="10", after="blob/0020.pfx")
        assert sorted(steps) == ["instances query", "uploads query"]

    @pytest.mark.parametrize("limit", ["0", "1001", "-1", "1e3", "٣", "", " 5", "99999999999999999999"])
    async def test_a_limit_that_is_none_is_refused_in_words(self, cloud: Cloud, limit: str) -> None:
        for ask in (status_api.certificates, status_api.instances):
            answer = await ask(cloud, limit=limit)
            assert (answer.status, answer.document) == (400, {"error": "limit must be a whole number from 1 to 1000"})

    @pytest.mark.parametrize(
        "after", ["", "a.pfx", "a/b/c", "blob/a' or 1 eq 1", "blob/\n", "x" * 600 + "/a", "blob/ü"]
    )
    async def test_a_place_that_is_none_is_refused_in_words(self, cloud: Cloud, after: str) -> None:
        answer = await status_api.certificates(cloud, after=after)
        assert (answer.status, answer.document) == (400, {"error": "after must be the next of the page before"})

    async def test_instances_come_page_by_page_too(self, cloud: Cloud) -> None:
        for number in range(5):
            instance = registered(f"i{number}")
            await cloud.state.instances.write(instance.id, instance, None)
        first = await status_api.instances(cloud, limit="3")
        second = await status_api.instances(cloud, limit="3", after=first.document["next"])
        assert [each["id"] for each in first.document["instances"]] == ["i0", "i1", "i2"]
        assert [each["id"] for each in second.document["instances"]] == ["i3", "i4"]
        assert second.document["next"] is None

    async def test_the_reports_on_one_upload_are_bounded(self, scene: Scene) -> None:
        record = await scene.accepted("a.pfx", "a.example.com", "b.example.com")
        for host in ("a.example.com", "b.example.com"):
            for number in range(MAX_LIMIT):
                entry = report(host, f"i{number}")
                await scene.cloud.state.installations.write((host, 443, entry.instance), entry, None)
        answer = await status_api.certificate(scene.cloud, record.name)
        assert len(answer.document["installations"]) == MAX_LIMIT
        assert answer.document["installations_complete"] is False


class TestOnTheEmulator:
    @pytest.fixture
    async def account(self, azurite: Emulator, tmp_path: Path) -> AsyncIterator[Account]:
        async with opened_account(azurite.connection_string, tmp_path / "key") as opened:
            yield opened

    async def test_rows_come_after_a_place_in_the_order_of_their_keys(self, account: Account) -> None:
        table, partition = account.state.installations._table, own()
        for row in ("a", "b'", "c", "d"):
            await table.insert(f"{partition}:1", row, {"n": 1})
            await table.insert(f"{partition}:2", row, {"n": 1})
        after = [(e.partition, e.row) async for e in table.query(after=(f"{partition}:1", "b'"))]
        mine = [key for key in after if key[0].startswith(partition)]
        assert mine == [(f"{partition}:1", row) for row in "cd"] + [
            (f"{partition}:2", r) for r in ("a", "b'", "c", "d")
        ]
        rest = [e.row async for e in table.query(f"{partition}:1", after=(f"{partition}:1", "b"))]
        assert rest == ["b'", "c", "d"]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_an_answer_is_json_whatever_an_instance_measured(number: float) -> None:
    document = installation_document(report("a.test", "i", stages_ms={"install": number, "probe": 1.5}))
    assert json.loads(json.dumps(document, allow_nan=False))["stages_ms"] == {"probe": 1.5}
