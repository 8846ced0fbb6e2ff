import pytest

from local_azure.proxy.counting import Counted, RequestCounter, calling, useful
from local_azure.proxy.operations import Asked, Service, StorageRequest


def ask(
    requests: RequestCounter, operation: str, resource: str, *, caller: str = "function", service: Service = "table"
) -> None:
    headers = {"User-Agent": " ".join(["azsdk-python-data-tables/12 Python/3.11 (Linux)", *calling(caller).values()])}
    request = StorageRequest(operation=operation, resource=resource)
    requests.count(Asked(service=service, request=request, headers=headers), 200)


def test_what_came_after_a_mark_is_told_alone() -> None:
    requests = RequestCounter()
    ask(requests, "Get Entity", "table uploads")
    mark = requests.mark()
    ask(requests, "Get Entity", "table uploads")
    ask(requests, "Put Message", "queue cert-agent-0", service="queue")
    kinds = {(kind.operation, kind.resource): count for kind, count in requests.since(mark).items()}
    assert kinds == {("Get Entity", "uploads"): 1, ("Put Message", "cert-agent-0"): 1}
    assert requests.since(requests.mark()).total() == 0


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, "ok") for status in (200, 201, 204, 206, 304)),
        (404, "missing"),
        (409, "conflict"),
        (412, "conflict"),
        (403, "other"),
        (503, "other"),
    ],
)
def test_an_answers_status_is_its_outcome(status: int, outcome: str) -> None:
    requests = RequestCounter()
    request = StorageRequest(operation="Update Entity", resource="table uploads")
    requests.count(Asked(service="table", request=request, headers={}), status)
    [kind] = requests.mark()
    assert kind == Counted(
        service="table", operation="Update Entity", resource="uploads", caller="client", outcome=kind.outcome
    )
    assert kind.outcome == outcome


def test_polls_heartbeats_and_what_others_ask_are_not_useful() -> None:
    requests = RequestCounter()
    ask(requests, "Get Messages", "queue install-results", service="queue")
    ask(requests, "Update Entity", "table instances", caller="agent-0")
    ask(requests, "Get Entity", "table uploads", caller="client")
    ask(requests, "Get Blob Properties", "container certificates", caller="relay", service="blob")
    ask(requests, "Query Entities", "table instances")
    ask(requests, "Get Blob", "container bundles", caller="agent-12", service="blob")
    kinds = {(kind.operation, kind.caller) for kind in useful(requests.mark())}
    assert kinds == {("Query Entities", "function"), ("Get Blob", "agent-12")}
