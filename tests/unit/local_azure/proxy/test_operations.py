import pytest
from multidict import CIMultiDict

from local_azure.proxy.operations import Service, request_of

ACCOUNT = "/devstoreaccount1"


@pytest.mark.parametrize(
    ("service", "method", "target", "expected"),
    [
        ("blob", "GET", "?comp=list", ("List Containers", "account", "")),
        ("blob", "GET", "/certificates?restype=container&comp=list", ("List Blobs", "container certificates", "")),
        ("blob", "GET", "/bundles?restype=container", ("Get Container Properties", "container bundles", "")),
        ("blob", "PUT", "/bundles?restype=container", ("Create Container", "container bundles", "")),
        ("blob", "GET", "/bundles/ab/cd.pem", ("Get Blob", "container bundles", "ab/cd.pem")),
        ("blob", "PUT", "/certificates/a%2Fb%20c.pfx", ("Put Blob", "container certificates", "a/b c.pfx")),
        ("blob", "PUT", "/certificates/a.pfx?comp=blocklist", ("Put Block List", "container certificates", "a.pfx")),
        ("blob", "PUT", "/certificates/a.pfx?comp=tags", ("Set Blob Tags", "container certificates", "a.pfx")),
        ("blob", "PUT", "/certificates/a.pfx?comp=lease", ("PUT lease", "container certificates", "a.pfx")),
        ("queue", "GET", "?comp=list&prefix=cert", ("List Queues", "account", "")),
        ("queue", "PUT", "/cert-agent-x-1", ("Create Queue", "queue cert-agent-x-1", "")),
        ("queue", "GET", "/install-results/messages?numofmessages=32", ("Get Messages", "queue install-results", "")),
        ("queue", "GET", "/install-results/messages?peekonly=true", ("Peek Messages", "queue install-results", "")),
        (
            "queue",
            "DELETE",
            "/install-results/messages/7?popreceipt=x",
            ("Delete Message", "queue install-results", ""),
        ),
        ("blob", "DELETE", "/bundles?restype=container", ("Delete Container", "container bundles", "")),
        ("queue", "DELETE", "/cert-agent-x-1", ("Delete Queue", "queue cert-agent-x-1", "")),
        ("table", "POST", "/Tables", ("Create Table", "account", "")),
        ("table", "DELETE", "/Tables('uploads')", ("Delete Table", "table uploads", "")),
        ("table", "GET", "/uploads()?$filter=x", ("Query Entities", "table uploads", "")),
        ("table", "GET", "/uploads(PartitionKey='blob',RowKey='a')", ("Get Entity", "table uploads", "")),
        ("table", "POST", "/uploads", ("Insert Entity", "table uploads", "")),
        ("table", "POST", "/$batch", ("POST", "account", "")),
    ],
)
def test_an_operation_is_known_by_method_and_target(
    service: Service, method: str, target: str, expected: tuple[str, str, str]
) -> None:
    asked = request_of(service, method, ACCOUNT + target, CIMultiDict())
    assert (asked.operation, asked.resource, asked.path) == expected


@pytest.mark.parametrize(
    ("method", "conditional", "unconditional"),
    [
        ("PUT", "Update Entity", "Insert Or Replace Entity"),
        ("PATCH", "Merge Entity", "Insert Or Merge Entity"),
        ("MERGE", "Merge Entity", "Insert Or Merge Entity"),
    ],
)
def test_a_write_under_an_etag_is_told_from_one_that_overwrites(
    method: str, conditional: str, unconditional: str
) -> None:
    target = f"{ACCOUNT}/uploads(PartitionKey='blob',RowKey='a')"
    assert request_of("table", method, target, CIMultiDict({"if-match": 'W/"1"'})).operation == conditional
    assert request_of("table", method, target, CIMultiDict()).operation == unconditional
