import re
from xml.etree import ElementTree as ET

import pytest
from multidict import CIMultiDict

from local_azure.as_azure import AsAzure
from local_azure.proxy.answers import LOST, Refusal, Slow
from local_azure.proxy.counting import calling
from local_azure.proxy.faults import Faults, Rule
from local_azure.proxy.operations import Asked, Service, StorageRequest, request_of
from local_azure.proxy.refusals import REFUSALS, SERVER_BUSY, TAGS_NO_SUCH_PARAMETER
from local_azure.proxy.standing import entity_bytes, metadata_bytes

COMPONENTS = ("", "list", "block", "blocklist", "metadata", "tags")
SERVICES: tuple[Service, ...] = ("blob", "table")


def asked(operation: str = "Get Messages", resource: str = "queue x", *, caller: str = "function") -> Asked:
    headers = CIMultiDict({"User-Agent": " ".join(calling(caller).values())})
    return Asked(service="queue", request=StorageRequest(operation=operation, resource=resource), headers=headers)


def known_operations() -> set[str]:
    """What requests for blobs, containers and rows may be called."""
    targets = [f"/devstoreaccount1{path}?comp={component}" for path in ("/c", "/c/b") for component in COMPONENTS]
    headers = [CIMultiDict[str](), CIMultiDict({"If-Match": "*"})]
    return {
        request_of(service, method, target, each).operation
        for service in SERVICES
        for method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE")
        for target in targets
        for each in headers
    }


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.code)
def test_every_refusal_names_its_source_and_operations_that_there_are(refusal: Refusal) -> None:
    assert re.match(r"https://(learn\.microsoft\.com|github\.com)/\S+$", refusal.source)
    assert refusal.operations <= known_operations()
    assert 400 <= refusal.status < 600
    assert refusal.message.endswith(".") or refusal.message.endswith("(8KB).")


def test_a_loss_and_a_delay_name_their_sources_too() -> None:
    assert LOST.source.startswith("https://github.com/")
    assert Slow(delay_s=1).source.startswith("https://learn.microsoft.com/")


def test_a_refusals_details_stand_beside_code_and_message() -> None:
    request = Asked(
        service="blob",
        request=StorageRequest(operation="Set Blob Tags", resource="container c"),
        headers=CIMultiDict({"x-ms-version": "2025-11-05"}),
    )
    answer = TAGS_NO_SUCH_PARAMETER.response(request)
    assert isinstance(answer.body, bytes)
    error = ET.fromstring(answer.body.decode("utf-8-sig"))  # noqa: S314 - our own
    assert [(part.tag, (part.text or "").splitlines()[0]) for part in error] == [
        ("Code", "InvalidQueryParameterValue"),
        ("Message", TAGS_NO_SUCH_PARAMETER.message),
        ("QueryParameterName", "comp"),
        ("QueryParameterValue", "tags"),
    ]
    assert answer.headers["x-ms-version"] == "2025-11-05"


def answers(faults: Faults, count: int) -> list[str | None]:
    given = [faults.answer(asked()) for _ in range(count)]
    return [None if each is None else each.name for each in given]


def test_a_share_of_requests_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    first, again, other = (AsAzure(busy=0.1, lost=0.1, seed=seed).faults() for seed in (7, 7, 8))
    seen = answers(first, 2000)
    assert seen == answers(again, 2000)
    assert seen != answers(other, 2000)
    assert 150 < seen.count("ServerBusy") < 250
    assert 120 < seen.count("answer lost") < 240
    assert first.applied == {"ServerBusy": seen.count("ServerBusy"), "answer lost": seen.count("answer lost")}


@pytest.mark.parametrize(
    ("caller", "met"), [("function", True), ("agent-3", True), ("client", False), ("relay", False)]
)
def test_chance_meets_certcast_and_not_its_clients(caller: str, met: bool) -> None:  # noqa: FBT001
    faults = AsAzure(busy=0.5, lost=0.5, seed=1).faults()
    for _ in range(100):
        faults.answer(asked(caller=caller))
    assert bool(faults.applied) is met


def test_rules_come_and_go_and_the_first_that_fits_is_applied() -> None:
    faults = Faults()
    lost = faults.add(Rule(answer=LOST, resource="queue cert-*"))
    busy = faults.add(Rule(answer=SERVER_BUSY))
    assert faults.answer(asked()) is SERVER_BUSY
    assert faults.answer(asked(resource="queue cert-agent-0")) is LOST
    faults.remove(lost)
    assert faults.answer(asked(resource="queue cert-agent-0")) is SERVER_BUSY
    faults.remove(busy)
    assert faults.answer(asked()) is None
    assert (lost.applied, busy.applied) == (1, 2)


def test_metadata_is_measured_by_names_and_values_and_rows_in_two_bytes_a_character() -> None:
    assert metadata_bytes(CIMultiDict({"X-Ms-Meta-Host": "a.test", "x-ms-version": "1"})) == len("Host") + len("a.test")
    assert entity_bytes({"PartitionKey": "p", "n": "text"}) == 2 * (len("PartitionKey") + 1 + 1 + 4)
