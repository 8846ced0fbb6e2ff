"""`upload`, `status` and `remove` as processes of their own against a real storage account; a stand-in for the Function
and for the instances looks at it as they would."""

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from uuid import uuid4

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from shared.azure.blobs import UPLOADS_CONTAINER
from shared.binding import DesiredBinding
from shared.config import EMULATOR_ACCOUNT, EMULATOR_KEY
from shared.function.blob_event import Notice
from shared.function.cloud import Cloud, utc_now
from shared.function.intake import look_at, recheck
from shared.function.results import fold
from shared.messages import (
    RECHECK_QUEUE,
    BindingReport,
    InstallOutcome,
    InstallReport,
    RecheckUpload,
    decode,
    queue_of,
)
from shared.state.records import UploadRecord, UploadStatus
from shared.validation.judge import ValidationPolicy
from shared.validation.trust import Trust
from tests.fakes.judges import InThread
from tests.rigs.certificates import authority
from tests.rigs.command_line import Ran, certcast, clean_environment
from tests.rigs.emulator import Emulator, cloud_on, opened_account
from tests.rigs.rows import registered, report_on
from tests.rigs.some import some

CA = authority()
INSTANCES = 2


class Backstage:
    """Plays the Function and the instances of one role, so that tests sharing the account do not meet."""

    def __init__(self, cloud: Cloud, role: str) -> None:
        self.cloud = cloud
        self.role = role
        self.outcome = InstallOutcome.LIVE
        self.silent: set[str] = set()
        self._seen: dict[str, str] = {}
        self._reported: dict[tuple[str, str, int], int] = {}

    @property
    def instances(self) -> list[str]:
        return [f"{self.role}-{number}" for number in range(INSTANCES)]

    async def register(self) -> None:
        for name in self.instances:
            await self.cloud.queues.create(queue_of(name))
            record = registered(name, role=self.role, at=utc_now(), ready=True)
            await self.cloud.state.instances.update(name, lambda _, record=record: record)  # type: ignore[misc]

    async def play(self) -> None:
        while True:
            await self._as_the_function()
            await self._as_the_instances()
            await asyncio.sleep(0.15)

    async def _as_the_function(self) -> None:
        found = {v.name: v.etag async for v in self.cloud.uploads.each() if v.name.startswith(self.role)}
        for name, etag in found.items():
            if self._seen.get(name) != etag:
                await look_at(self.cloud, Notice(name=name, etag=etag))
        for name in self._seen.keys() - found.keys():
            await look_at(self.cloud, Notice(name=name, deletion=True))
        self._seen = found
        for message in await self.cloud.queues.receive(RECHECK_QUEUE, limit=32, visibility_s=1):
            wish = decode(RecheckUpload, message.body or "")
            if wish.name.startswith(self.role):  # an earlier test's bundles are sealed under another key
                await recheck(self.cloud, wish)
            await self.cloud.queues.done(RECHECK_QUEUE, message)

    async def _as_the_instances(self) -> None:
        rows = [known.value async for known in self.cloud.state.bindings.all(self.role)]
        for instance in self.instances:
            for row in rows:
                key = (instance, row.host, row.port)
                if instance not in self.silent and self._reported.get(key, 0) < row.generation:
                    self._reported[key] = row.generation
                    await fold(self.cloud, InstallReport(instance=instance, reports=(self._report(row),)))

    def _report(self, row: DesiredBinding) -> BindingReport:
        if self.outcome is InstallOutcome.LIVE or not row.present:
            return report_on(row, at=utc_now())
        return report_on(row, at=utc_now(), outcome=self.outcome, reason="the port is taken")


@pytest.fixture
async def backstage(azurite: Emulator, tmp_path: Path) -> AsyncIterator[Backstage]:
    async with opened_account(azurite.connection_string, tmp_path / "key") as account:
        stage = Backstage(cloud_on(account), f"cli-{uuid4().hex[:8]}")
        await stage.register()
        yield stage


@asynccontextmanager
async def playing(backstage: Backstage) -> AsyncIterator[None]:
    task = asyncio.create_task(backstage.play())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Desk:
    """A person with a PFX and the command."""

    def __init__(self, backstage: Backstage, azurite: Emulator, folder: Path) -> None:
        self.role = backstage.role
        self.name = f"{backstage.role}.pfx"
        self.host = f"{backstage.role}.example.com"
        self.env = clean_environment(CERTCAST_STORAGE=azurite.connection_string)
        self._folder = folder

    def pfx(self, *, password: str | None = "hunter2", not_before: datetime | None = None) -> Path:
        path = self._folder / self.name
        path.write_bytes(CA.issue(self.host, not_before=not_before).pfx(password))
        return path

    async def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> Ran:
        return await certcast(*arguments, stdin=stdin, env=self.env)

    async def upload(self, path: Path, *arguments: str, stdin: bytes = b"hunter2\n") -> Ran:
        return await self("upload", path, "--role", self.role, "--password-stdin", "--json", *arguments, stdin=stdin)

    def using(self, **settings: str) -> Self:
        self.env = clean_environment(**settings)
        return self


@pytest.fixture
def desk(backstage: Backstage, azurite: Emulator, tmp_path: Path) -> Desk:
    return Desk(backstage, azurite, tmp_path)


async def test_an_upload_is_waited_for_until_it_is_live_everywhere(desk: Desk, backstage: Backstage) -> None:
    async with playing(backstage):
        ran = await desk.upload(desk.pfx(), "--host", desk.host.upper(), "--port", "8443")
    assert ran.code == 0, ran.err
    assert ran.document["status"] == "live"
    assert (ran.document["live"], ran.document["expected"]) == (INSTANCES, INSTANCES)
    assert ran.document["hosts"] == [desk.host]
    assert ran.document["port"] == 8443
    assert ran.document["seconds_to_live"] >= 0
    assert "hunter2" not in ran.out + ran.err
    version = some(await backstage.cloud.uploads.version(desk.name))
    assert "CertificatePassword" not in version.metadata
    assert version.metadata["HostHeader"] == desk.host


async def test_an_upload_without_a_password_is_sent_without_one(desk: Desk, backstage: Backstage) -> None:
    async with playing(backstage):
        ran = await desk("upload", desk.pfx(password=None), "--role", desk.role)
    assert ran.code == 0, ran.err
    assert f"live: {desk.name} on {INSTANCES}/{INSTANCES} in " in ran.out
    assert some(await backstage.cloud.uploads.version(desk.name)).metadata.keys() == {"Role"}


async def test_what_would_be_rejected_is_not_sent(desk: Desk, backstage: Backstage) -> None:
    ran = await desk.upload(desk.pfx(), "--host", "other.example.org")
    assert ran.code == 1
    assert ran.document["uploaded"] is False
    assert [violation["code"] for violation in ran.document["violations"]] == ["host_not_covered"]
    assert await backstage.cloud.uploads.version(desk.name) is None


async def test_a_renewal_is_not_taken_for_live_because_the_certificate_before_is(
    desk: Desk, backstage: Backstage
) -> None:
    async with playing(backstage):
        assert (await desk.upload(desk.pfx())).code == 0
    ran = await desk.upload(desk.pfx(), "--timeout", "1")
    assert ran.code == 3
    assert "the Function has not looked at it" in ran.document["error"]
    async with playing(backstage):
        ran = await desk.upload(renewed := desk.pfx())
    assert ran.code == 0, ran.err
    checked = await desk("check", renewed, "--json", "--password-stdin", stdin=b"hunter2")
    assert ran.document["fingerprint_sha256"] == checked.document["fingerprint_sha256"]


async def test_an_instance_that_says_nothing_times_out_with_how_far_it_got(desk: Desk, backstage: Backstage) -> None:
    backstage.silent = {backstage.instances[0]}
    async with playing(backstage):
        ran = await desk.upload(desk.pfx(), "--timeout", "3")
    assert ran.code == 3
    assert (ran.document["status"], ran.document["live"], ran.document["expected"]) == ("accepted", 1, 2)
    assert "live on 1/2" in ran.document["error"]


async def test_an_instance_that_cannot_serve_it_is_a_failure_with_its_reason(desk: Desk, backstage: Backstage) -> None:
    backstage.outcome = InstallOutcome.FAILED
    async with playing(backstage):
        ran = await desk.upload(desk.pfx())
    assert ran.code == 1
    assert ran.document["status"] == "failed"
    assert "the port is taken" in ran.document["reason"]


async def test_a_rejection_by_the_cloud_alone_is_told_with_its_reasons(desk: Desk, backstage: Backstage) -> None:
    roots = Trust(roots=(authority("the only one").certificate,), name="roots.pem")
    object.__setattr__(backstage.cloud, "judges", InThread(ValidationPolicy(trust=roots)))
    async with playing(backstage):
        ran = await desk.upload(desk.pfx())
    assert ran.code == 1
    assert (ran.document["status"], ran.document["uploaded"]) == ("rejected", True)
    assert [violation["code"] for violation in ran.document["violations"]] == ["incomplete_chain"]


async def test_an_older_certificate_than_the_one_served_is_superseded_and_fails(
    desk: Desk, backstage: Backstage
) -> None:
    async with playing(backstage):
        assert (await desk.upload(desk.pfx())).code == 0
        older = desk.pfx(not_before=datetime.now(UTC) - timedelta(days=9))
        ran = await desk.upload(older, "--name", f"{desk.role}/older.pfx")
    assert ran.code == 1
    assert ran.document["status"] == "superseded"
    assert [violation["code"] for violation in ran.document["violations"]] == ["older_than_live"]


async def test_a_certificate_for_later_is_done_when_it_is_scheduled(desk: Desk, backstage: Backstage) -> None:
    async with playing(backstage):
        ran = await desk.upload(desk.pfx(not_before=datetime.now(UTC) + timedelta(days=2)))
    assert (ran.code, ran.document["status"]) == (0, "scheduled")


async def test_without_waiting_the_upload_alone_is_done(desk: Desk, backstage: Backstage) -> None:
    ran = await desk.upload(desk.pfx(), "--no-wait")
    assert (ran.code, ran.document["uploaded"]) == (0, True)
    assert await backstage.cloud.uploads.version(desk.name) is not None


async def test_an_uploader_who_may_use_the_container_alone_learns_it_from_the_tags(
    desk: Desk, backstage: Backstage, azurite: Emulator
) -> None:
    permission = ContainerSasPermissions(read=True, write=True, create=True, delete=True, tag=True)
    sas = generate_container_sas(
        EMULATOR_ACCOUNT,
        UPLOADS_CONTAINER,
        account_key=EMULATOR_KEY,
        permission=permission,
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    desk.using(CERTCAST_STORAGE=f"BlobEndpoint={azurite.blob_url};SharedAccessSignature={sas}", CERTCAST_TRUST="off")
    async with playing(backstage):
        ran = await desk.upload(desk.pfx())
        again = await desk.upload(desk.pfx(not_before=datetime.now(UTC) - timedelta(days=1)))
    assert ran.code == 0, ran.err
    assert (ran.document["status"], ran.document["live"], ran.document["expected"]) == ("live", 2, 2)
    assert again.code == 0, again.err
    refused = await desk("status")
    assert refused.code == 2
    assert "opens the container alone" in refused.err


async def test_status_shows_uploads_and_instances(desk: Desk, backstage: Backstage) -> None:
    async with playing(backstage):
        assert (await desk.upload(desk.pfx())).code == 0
    document = (await desk("status", "--json")).document
    upload = next(upload for upload in document["uploads"] if upload["name"] == desk.name)
    assert (upload["status"], upload["live"], upload["expected"]) == ("live", 2, 2)
    mine = [instance for instance in document["instances"] if instance["role"] == desk.role]
    assert [instance["id"] for instance in mine] == backstage.instances
    assert all(instance["ready"] for instance in mine)
    tables = await desk("status", desk.name)
    assert tables.code == 0
    for text in (desk.name, f"{desk.host}:443", *backstage.instances):
        assert text in tables.out
    assert "\x1b" not in tables.out


async def test_a_removal_is_waited_for_until_no_instance_serves_it(desk: Desk, backstage: Backstage) -> None:
    async with playing(backstage):
        assert (await desk.upload(desk.pfx())).code == 0
        backstage.silent = {backstage.instances[1]}
        late = await desk("remove", desk.name, "--timeout", "2", "--json")
        assert late.code == 3
        assert (late.document["status"], late.document["live"]) == ("removed", 1)
        still = (await desk("status", "--json")).document["uploads"]
        assert desk.name in [upload["name"] for upload in still]
        backstage.silent = set()
        assert (await desk.upload(desk.pfx())).code == 0
        ran = await desk("remove", desk.name, "--json")
    assert ran.code == 0, ran.err
    assert (ran.document["status"], ran.document["live"]) == ("removed", 0)
    gone = (await desk("status", "--json")).document["uploads"]
    assert desk.name not in [upload["name"] for upload in gone]


async def test_removing_what_is_not_there_fails_with_the_way_to_find_names(desk: Desk) -> None:
    ran = await desk("remove", "nothing-of-that-name.pfx", "--json")
    assert ran.code == 1
    assert "certcast status" in ran.document["error"]


async def test_an_upload_that_was_never_looked_at_is_removed_at_once(desk: Desk) -> None:
    assert (await desk.upload(desk.pfx(), "--no-wait")).code == 0
    ran = await desk("remove", desk.name)
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("command", [["status"], ["remove", "a.pfx"], ["upload"]])
async def test_storage_that_is_not_there_is_told_at_once_with_the_way_to_start_it(
    desk: Desk, command: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    blob = f"BlobEndpoint=http://127.0.0.1:{port}/{EMULATOR_ACCOUNT}"
    desk.using(CERTCAST_STORAGE=f"AccountName={EMULATOR_ACCOUNT};AccountKey={EMULATOR_KEY};{blob}")
    arguments = [*command, desk.pfx(password=None)] if command == ["upload"] else command
    ran = await desk(*arguments, "--json")
    assert ran.code == 1
    assert "certcast up" in ran.document["error"]
    assert f"127.0.0.1:{port}" in ran.document["error"]


@pytest.mark.parametrize(
    ("connection_string", "code"),
    [
        ("hunter2", 2),
        (f"AccountName={EMULATOR_ACCOUNT};AccountKey=hunter2;BlobEndpoint=BLOB;TableEndpoint=TABLE", 1),
        (f"AccountName={EMULATOR_ACCOUNT};AccountKey=aHVudGVyMg==;BlobEndpoint=BLOB;TableEndpoint=TABLE", 1),
        ("BlobEndpoint=http://[hunter2;SharedAccessSignature=sig", 2),
    ],
)
async def test_a_wrong_connection_string_is_one_line_that_does_not_quote_it(
    desk: Desk, azurite: Emulator, connection_string: str, code: int
) -> None:
    text = connection_string.replace("BLOB", azurite.blob_url).replace("TABLE", azurite.table_url)
    desk.using(CERTCAST_STORAGE=text)
    ran = await desk("status", "--json")
    assert ran.code == code, ran.err
    assert ran.document.keys() == {"error"}
    assert "hunter2" not in ran.out + ran.err
    assert "aHVudGVyMg" not in ran.out + ran.err
    assert "Traceback" not in ran.err


async def test_an_account_without_certcast_is_told_to_be_so(desk: Desk, azurite: Emulator) -> None:
    account = f"AccountName={EMULATOR_ACCOUNT};AccountKey={EMULATOR_KEY};BlobEndpoint={azurite.blob_url}"
    desk.using(
        CERTCAST_STORAGE=f"{account};TableEndpoint={azurite.table_url.replace(EMULATOR_ACCOUNT, 'devstoreaccount2')}"
    )
    ran = await desk("status", "--json")
    assert ran.code == 1
    assert len(ran.err.strip().splitlines()) == 1


async def test_watching_prints_what_changes_until_ctrl_c(desk: Desk, backstage: Backstage) -> None:
    async with playing(backstage):
        assert (await desk.upload(desk.pfx())).code == 0
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operator_cli", "status", desk.name, "--watch"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=desk.env,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while b"last seen" not in await process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err) == (0, b"")
    assert b"\x1b" not in out


async def test_events_are_shown_as_they_come_about_until_ctrl_c_though_none_is_sent(
    desk: Desk, backstage: Backstage
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "operator_cli", "events", "--since", "1m", "--json-lines"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=desk.env,
    )
    assert process.stdout is not None
    kinds: list[str] = []
    try:
        async with playing(backstage), asyncio.timeout(60):
            assert (await desk.upload(desk.pfx())).code == 0
            while "live" not in kinds:
                entry = json.loads(await process.stdout.readline())
                kinds += [entry["kind"]] if entry["name"] == desk.name else []
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err, kinds) == (0, b"", ["accepted", "live"])
    told = (await desk("history", "--name", desk.name, "--json")).document
    assert [entry["kind"] for entry in told["entries"]] == ["live", "accepted"]
    way = (await desk("logs", desk.name, "--json")).document
    assert {"uploaded", "judged", "installed", "live"} <= {moment["stage"] for moment in way["timeline"]}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells of a reader that is gone only to who writes")
async def test_events_end_with_their_reader_though_none_comes(desk: Desk, backstage: Backstage) -> None:
    async with playing(backstage):
        assert (await desk.upload(desk.pfx())).code == 0
    command = f"{shlex.quote(sys.executable)} -m operator_cli events --since 1m | head -1"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-o", "pipefail", "-c", command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=desk.env,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    assert (process.returncode, err) == (0, b"")
    assert b" Certcast.Certificate" in out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells of a reader that is gone only to who writes")
async def test_watching_ends_with_its_reader_though_nothing_changes(desk: Desk) -> None:
    command = f"{shlex.quote(sys.executable)} -m operator_cli status --watch | head -1"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-o", "pipefail", "-c", command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=desk.env,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    assert (process.returncode, err) == (0, b"")
    [line] = out.decode().splitlines()
    assert " live" in line or "no uploads" in line or "nothing to be served" in line


async def test_what_is_asked_for_comes_as_a_document_or_as_lines_and_the_summary_is_of_all(
    desk: Desk, backstage: Backstage
) -> None:
    async with playing(backstage):
        assert (await desk.upload(desk.pfx())).code == 0
    wish = ("status", "--host", desk.host, "--expiring", "9999d", "--limit", "1")
    document = (await desk(*wish, "--json")).document
    assert ([upload["name"] for upload in document["uploads"]], document["total"]) == ([desk.name], 1)
    assert document["summary"]["uploads"] >= 1
    lines = [json.loads(line) for line in (await desk(*wish, "--json-lines")).out.splitlines()]
    assert [line["kind"] for line in lines] == ["summary", "upload", *["instance"] * len(document["instances"])]
    assert lines[1].items() >= {"name": desk.name, "status": "live", "missing": []}.items()
    shown = await desk(*wish)
    for line in (
        shown.out.splitlines()[0],
        document["summary"]["line"],
    ):  # earlier tests' instances go silent meanwhile
        assert re.match(r"\d+ of \d+ live", line)
    assert desk.name in shown.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--json", "--json-lines"), "use one of them"),
        (("a.pfx", "--failed"), "NAME shows one upload"),
        (("--all", "--url", "http://127.0.0.1:1", "--account", "a"), "knows its storage account"),
        (("--expiring", "never"), "--expiring must be a length of time"),
    ],
)
async def test_options_that_make_no_sense_are_refused(desk: Desk, arguments: tuple[str, ...], said: str) -> None:
    ran = await desk("status", *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1


async def test_an_error_is_a_line_among_lines(desk: Desk) -> None:
    ran = await desk("status", "nothing-of-that-name.pfx", "--json-lines")
    [line] = ran.out.splitlines()
    assert (ran.code, json.loads(line).keys()) == (1, {"error"})


async def test_an_upload_is_installed_once_more_and_live_again(desk: Desk, backstage: Backstage) -> None:
    async with playing(backstage):
        assert (await desk.upload(desk.pfx())).code == 0
        before = some(await backstage.cloud.state.uploads.get(desk.name))
        [key] = before.claims
        generation = some(await backstage.cloud.state.bindings.get(key)).generation
        ran = await desk("redeploy", desk.name, "--json")
        assert ran.code == 0, ran.err
        assert ran.document.items() >= {"status": "live", "live": 2, "expected": 2, "redeployed": True}.items()
        assert some(await backstage.cloud.state.bindings.get(key)).generation > generation
        backstage.outcome = InstallOutcome.FAILED
        failed = await desk("redeploy", desk.name)
    assert failed.code == 1
    assert f"failed: {desk.name} on 0/2" in failed.out
    assert "the port is taken" in failed.out
    late = await desk("redeploy", desk.name, "--timeout", "1")
    assert late.code == 3
    assert "the Function has not begun it for 1 s" in late.err
    asked = await desk("redeploy", desk.name, "--no-wait")
    assert (asked.code, asked.out.split(":")[0]) == (0, "asked for")


async def test_what_is_not_served_is_not_installed_again(desk: Desk, backstage: Backstage) -> None:
    unknown = await desk("redeploy", "nothing-of-that-name.pfx", "--json")
    assert unknown.code == 1
    assert "no upload 'nothing-of-that-name.pfx' is known" in unknown.document["error"]
    async with playing(backstage):
        assert (await desk.upload(desk.pfx(not_before=datetime.now(UTC) + timedelta(days=2)))).code == 0
        ran = await desk("redeploy", desk.name, "--json")
    assert ran.code == 1
    assert ran.document["error"] == (
        f"upload {desk.name} is scheduled and serves no host, so there is nothing to install again"
    )


async def test_names_that_a_shell_would_read_as_something_else_are_not_completed(
    desk: Desk, backstage: Backstage
) -> None:
    names = ["plain.pfx", "sub/plain-1.pfx", "a b.pfx", "$(touch x).pfx", "a;b.pfx", "semi\nplain.pfx", "quo'te.pfx"]
    uploads = backstage.cloud.state.uploads
    for name in names:
        record = UploadRecord(name=f"{backstage.role}{name}", revision=1, status=UploadStatus.REJECTED)
        await uploads.overwrite(record.name, record)
    try:
        desk.env |= {"_CERTCAST_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
        desk.env["COMP_WORDS"] = f"certcast redeploy {backstage.role}"
        ran = await desk()
        assert sorted(ran.out.splitlines()) == [f"plain,{backstage.role}{name}" for name in names[:2]]
        desk.env["COMP_WORDS"] = f"certcast redeploy {backstage.role}sub"
        assert (await desk()).out.splitlines() == [f"plain,{backstage.role}sub/plain-1.pfx"]
        assert ran.err == ""
        desk.env["CERTCAST_STORAGE"] = "hunter2"
        assert (ran := await desk()).out.strip() + ran.err == ""
    finally:
        for name in names:
            full = f"{backstage.role}{name}"
            await uploads.remove(full, some(await uploads.find(full)))


async def test_watching_and_one_document_exclude_each_other(desk: Desk) -> None:
    ran = await desk("status", "--watch", "--json")
    assert ran.code == 2
    assert json.loads(ran.out).keys() == {"error"}
