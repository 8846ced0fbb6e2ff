"""The Functions app as deployed: only the uploaded files, only requirements.txt, loaded by Microsoft's own runtime."""

import ast
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from local_azure.eventgrid.schemas import EventSchema, notification
from shared.azure.account import Account
from shared.azure.key_encryption import make_key_file
from shared.binding import BindingKey
from shared.config import StorageAccess
from shared.messages import InstallReport, encode, queue_of
from shared.state.records import UploadRecord, UploadStatus
from tests.rigs.certificates import authority
from tests.rigs.deployment import ROOT
from tests.rigs.emulator import emulator
from tests.rigs.functions_runtime import Worker, deploy, worker
from tests.rigs.interpreters import python_3_13
from tests.rigs.rows import registered, report_on
from tests.rigs.some import some

pytestmark = [
    pytest.mark.skipif(python_3_13() is None, reason="needs Python 3.13: python.org, pyenv install 3.13"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),  # the first run fills an environment
]

PASSWORD = "zebra-crossing-7411"
TIMER = '{"IsPastDue": false, "Schedule": {"AdjustForDST": true}, "ScheduleStatus": null}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The app in its folder, and the storage account it works on."""

    folder: Path
    connection_string: str
    key: Path

    @property
    def settings(self) -> dict[str, str]:
        return {
            "AzureWebJobsStorage": self.connection_string,
            "CERTCAST_STORAGE": self.connection_string,
            "CERTCAST_TRUST": "off",
            "CERTCAST_KEY_ENCRYPTION_KEY": f"file:{self.key}",
            "FUNCTIONS_WORKER_RUNTIME": "python",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A worker that runs the app, and the account as its users and agents see it."""

    worker: Worker
    account: Account
    blobs: BlobServiceClient
    queues: QueueServiceClient

    async def upload(self, name: str, content: bytes, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Upload a blob; answers the event that Azure makes of it."""
        blob = self.blobs.get_blob_client("certificates", name)
        made = await blob.upload_blob(content, metadata=dict(metadata), overwrite=True)
        return {
            "topic": "/subscriptions/0/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/devstoreaccount1",
            "subject": f"/blobServices/default/containers/certificates/blobs/{name}",
            "eventType": "Microsoft.Storage.BlobCreated",
            "id": "831e1650-001e-001b-66ab-eeb76e069631",
            "data": {
                "api": "PutBlob",
                "eTag": made["etag"].strip('"'),
                "contentLength": len(content),
                "blobType": "BlockBlob",
                "url": blob.url,
                "sequencer": "00000000000004420000000000028963",
            },
            "dataVersion": "",
            "metadataVersion": "1",
            "eventTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }

    async def record(self, name: str) -> UploadRecord:
        return some(await self.account.state.uploads.get(name))

    async def messages(self, queue: str) -> list[str]:
        """Take what is on a queue, as the host or an agent would, without waiting for what is not due yet."""
        received = self.queues.get_queue_client(queue).receive_messages(messages_per_page=32)
        return [base64.b64decode(message.content).decode() async for message in received]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployed")
    key = tmp_path_factory.mktemp("key") / "key-encryption.key"
    make_key_file(key)
    with emulator() as running:
        yield Deployment(folder=deploy(folder), connection_string=running.connection_string, key=key)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    text, log = deployment.connection_string, tmp_path_factory.mktemp("site") / "log"
    async with contextlib.AsyncExitStack() as stack:
        account = await stack.enter_async_context(
            Account(StorageAccess(connection_string=text), key_encryption_key=f"file:{deployment.key}")
        )
        await account.create_all()
        yield Site(
            worker=await stack.enter_async_context(worker(deployment.folder, deployment.settings, log)),
            account=account,
            blobs=await stack.enter_async_context(BlobServiceClient.from_connection_string(text)),
            queues=await stack.enter_async_context(QueueServiceClient.from_connection_string(text)),
        )


def functions_written() -> set[str]:
    """Names of all functions in the source: what `app.function_name` says, else the Python function's name."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / "function_app.py").read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = [each for each in node.decorator_list if ast.unparse(each).startswith("app.")]
            given = [
                str(ast.literal_eval(each.args[0]))
                for each in decorators
                if isinstance(each, ast.Call) and ast.unparse(each.func) == "app.function_name"
            ]
            names.update(given or [node.name] if decorators else [])
    return names


async def test_the_runtime_finds_every_function_with_its_trigger(site: Site) -> None:
    assert site.worker.error == ""
    triggers = {name: bindings[0] for name, bindings in site.worker.functions.items()}
    assert triggers["on_blob_event"] == {"direction": "IN", "type": "eventGridTrigger", "name": "event"}
    assert triggers["sweep"]["type"] == "timerTrigger"
    queues = {
        "recheck_upload": "certificate-recheck",
        "install_result": "install-results",
    }
    for name, queue in queues.items():
        assert triggers[name] == {
            "direction": "IN",
            "type": "queueTrigger",
            "name": "message",
            "queueName": queue,
            "connection": "CERTCAST_STORAGE",
        }
    assert functions_written() == set(triggers)


async def test_nothing_but_health_and_the_description_is_answered_without_a_key(site: Site) -> None:
    triggers = [bindings[0] for bindings in site.worker.functions.values()]
    routes = {trigger["route"]: trigger["authLevel"] for trigger in triggers if trigger["type"] == "httpTrigger"}
    assert "FUNCTION" in routes.values()
    assert {route for route, level in routes.items() if level != "FUNCTION"} == {"healthz", "openapi.json"}


async def test_an_upload_becomes_a_sealed_bundle_a_desired_row_and_a_message_to_each_instance(site: Site) -> None:
    issued = authority().issue("www.store2.com")
    await site.account.queues.create(queue_of("one"))
    await site.account.state.instances.write(
        "one", registered("one", role="web", at=datetime.now(UTC), ready=True), None
    )
    metadata = {"HostHeader": "www.store2.com", "PortNumber": "443", "CertificatePassword": PASSWORD}
    event = await site.upload("store2.pfx", issued.pfx(PASSWORD), metadata)

    assert await site.worker.deliver_event(event) == ""

    record = await site.record("store2.pfx")
    assert (record.status, record.violations) == (UploadStatus.ACCEPTED, ())
    assert record.fingerprint_sha256 == issued.fingerprint
    sealed = [blob async for blob in site.blobs.get_container_client("bundles").list_blob_names()]
    assert [name for name in sealed if name.startswith(issued.fingerprint)] == [f"{record.bundle_id}.pem"]
    desired = some(await site.account.state.bindings.get(BindingKey(role="*", host="www.store2.com", port=443)))
    assert (desired.fingerprint_sha256, desired.source) == (issued.fingerprint, "store2.pfx")
    properties = await site.blobs.get_blob_client("certificates", "store2.pfx").get_blob_properties()
    assert properties.metadata == {
        "HostHeader": "www.store2.com",
        "PortNumber": "443",
        "certcast_bundle": record.bundle_id,
    }
    assert len(await site.messages(queue_of("one"))) == 1

    report = report_on(desired, at=datetime.now(UTC) + timedelta(milliseconds=1))
    message = encode(InstallReport(instance="one", reports=(report,)))
    assert await site.worker.deliver_message("install_result", message) == ""
    assert (await site.record("store2.pfx")).status is UploadStatus.LIVE
    assert PASSWORD not in site.worker.log


def as_cloud_event(event: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {**json.loads(notification(EventSchema.CLOUD_EVENTS, event, deliveries=0).body), **more}


async def test_an_upload_and_a_deletion_that_are_told_as_cloud_events_are_acted_on(site: Site) -> None:
    issued = authority().issue("cloud.store2.com")
    event = await site.upload("cloud.pfx", issued.pfx(PASSWORD), {"CertificatePassword": PASSWORD})
    # What the library's own decoding cannot take is no matter: an offset, and an attribute of that name.
    told = as_cloud_event(event, time="2026-03-04T05:06:07+02:00", self="x", traceparent="00-0-0-01")
    assert await site.worker.deliver_event(told) == ""
    assert (await site.record("cloud.pfx")).status is UploadStatus.ACCEPTED
    await site.blobs.get_blob_client("certificates", "cloud.pfx").delete_blob()
    deleted = {**event, "eventType": "Microsoft.Storage.BlobDeleted", "data": {"api": "DeleteBlob"}}
    assert await site.worker.deliver_event(as_cloud_event(deleted)) == ""
    assert (await site.record("cloud.pfx")).status is UploadStatus.REMOVED


async def test_an_event_of_either_schema_that_makes_no_sense_is_dropped_with_one_line(site: Site) -> None:
    blob_event = {
        "topic": "t",
        "subject": "/blobServices/default/containers/certificates/blobs/none.pfx",
        "eventType": "Microsoft.Storage.BlobCreated",
        "id": "1",
        "data": {},
        "dataVersion": "",
        "eventTime": "2026-01-01T00:00:00Z",
    }
    vault_event = {**blob_event, "subject": "web", "eventType": "Microsoft.KeyVault.CertificateNewVersionCreated"}
    told: list[tuple[str, object]] = [
        (function, event)
        for function, good in (("on_blob_event", blob_event), ("on_key_vault_event", vault_event))
        for event in (
            {**good, "eventType": None},
            {**good, "subject": [1]},
            as_cloud_event(good, specversion="9"),
            as_cloud_event(good, type=5),
            as_cloud_event(good, subject={}),
            [good],
            "text",
        )
    ]
    told += [("on_blob_event", as_cloud_event(blob_event, subject=subject)) for subject in (None, "elsewhere")]
    told += [("on_key_vault_event", as_cloud_event(vault_event, data=data)) for data in (None, "x", {"VaultName": 1})]
    before = len(site.worker.records)
    for function, event in told:
        assert await site.worker.deliver_event(event, function) == "", event
    ours = [each for each in site.worker.records[before:] if each["name"].startswith(("certcast", "shared"))]
    dropped = [each for each in ours if "an event is dropped" in each["text"]]
    assert {each["fate"] for each in dropped} == {"shown"}
    assert len(dropped) == len(ours) == len(told)


async def test_a_file_that_is_no_certificate_is_rejected_and_the_event_is_done_with(site: Site) -> None:
    event = await site.upload("broken.pfx", b"not a PFX", {"CertificatePassword": PASSWORD})
    assert await site.worker.deliver_event(event) == ""
    record = await site.record("broken.pfx")
    assert record.status is UploadStatus.REJECTED
    assert [violation.code.value for violation in record.violations] == ["unreadable_bundle"]


async def test_a_password_that_comes_after_the_upload_is_found_by_the_recheck(site: Site) -> None:
    issued = authority().issue("late.store2.com")
    event = await site.upload("late.pfx", issued.pfx(PASSWORD), {})
    assert await site.worker.deliver_event(event) == ""
    assert (await site.record("late.pfx")).status is UploadStatus.WAITING_FOR_METADATA

    blob = site.blobs.get_blob_client("certificates", "late.pfx")
    await blob.set_blob_metadata({"CertificatePassword": PASSWORD})
    waiting = site.queues.get_queue_client("certificate-recheck")
    assert (await waiting.get_queue_properties()).approximate_message_count
    message = '{"version":1,"name":"late.pfx","attempt":0}'
    assert await site.worker.deliver_message("recheck_upload", message) == ""
    assert (await site.record("late.pfx")).status is UploadStatus.ACCEPTED


async def test_a_message_that_makes_no_sense_is_dropped_and_not_retried(site: Site) -> None:
    assert await site.worker.deliver_message("install_result", "{}") == ""
    assert await site.worker.deliver_message("recheck_upload", "not JSON") == ""


async def test_what_the_app_logs_is_shown_and_the_sdks_say_nothing_about_each_request(site: Site) -> None:
    issued = authority().issue("logged.store2.com")
    event = await site.upload("logged.pfx", issued.pfx(PASSWORD), {"CertificatePassword": PASSWORD})
    assert await site.worker.deliver_event(event) == ""
    assert await site.worker.invoke("sweep", parameter="timer", kind="json", value=TIMER) == ""
    assert await site.worker.deliver_message("install_result", "{}") == ""

    ours = [record for record in site.worker.records if record["name"].startswith(("certcast", "shared"))]
    shown = [record["text"] for record in ours if record["fate"] == "shown"]
    assert [text for text in shown if text.startswith("upload logged.pfx: accepted")]
    assert [text for text in shown if text.startswith("queue install-results: a message is dropped")]
    # Threads have no invocation: what is logged there is never seen.
    assert [record for record in ours if record["fate"] == "no invocation"] == []
    assert [record for record in site.worker.records if record["name"].startswith("azure.")] == []


async def test_an_app_that_lacks_a_module_is_seen_to_fail(deployment: Deployment, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "function_app.py").write_text("import instance_agent\n")
    async with worker(folder, deployment.settings, tmp_path / "log") as broken:
        assert "instance_agent" in broken.error


async def test_log_lines_reach_the_host_as_json_with_the_trace_of_the_invocation(
    site: Site, deployment: Deployment, tmp_path: Path
) -> None:
    issued = authority().issue("lines.example.com")
    event = await site.upload("lines.pfx", issued.pfx(PASSWORD), {"CertificatePassword": PASSWORD})
    json_lines = deployment.settings | {"CERTCAST_LOG_FORMAT": "json"}
    async with worker(deployment.folder, json_lines, tmp_path / "json") as talking:
        trace = f"00-{'a1' * 16}-{'b2' * 8}-01"
        told = {"parameter": "event", "kind": "json", "value": json.dumps(event), "traceparent": trace}
        assert await talking.invoke("on_blob_event", **told) == ""
        said = [record["text"] for record in talking.records if record["name"].startswith("shared.")]
    [accepted] = [line for line in map(json.loads, said) if "accepted for" in line["message"]]
    assert (accepted["upload"], accepted["trace_id"], accepted["span_id"]) == ("lines.pfx", "a1" * 16, None)
    assert (await site.record("lines.pfx")).traceparent == trace


async def test_spans_that_cannot_be_sent_are_said_by_healthz_and_in_each_invocation(
    deployment: Deployment, tmp_path: Path
) -> None:
    async with worker(deployment.folder, deployment.settings | {"CERTCAST_TRACES": "jaeger"}, tmp_path / "log") as lost:
        assert lost.error == ""
        assert lost.functions
        failed = await lost.invoke("sweep", parameter="timer", kind="json", value=TIMER)
    assert "CERTCAST_TRACES must be otlp or azure-monitor, not 'jaeger'" in failed
