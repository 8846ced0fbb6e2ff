"""The schemas of outgoing events, as docs/events has them, and whether an event is what its schema says."""

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from shared.messages import OutgoingEvent
from shared.state.cloud_event import cloud_event
from tests.rigs.deployment import ROOT

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

FOLDER = ROOT / "docs" / "events"
SUFFIX = ".schema.json"
SOURCE = "https://uploads1.blob.core.windows.net/certificates"


@cache
def schemas() -> dict[str, Any]:
    """The schema documents, by name."""
    return {
        path.name.removesuffix(SUFFIX): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(FOLDER.glob(f"*{SUFFIX}"))
    }


@cache
def validator(event_type: str) -> "Draft202012Validator":
    """What checks the events of a type; its schema is itself checked first."""
    # Imported here, where few tests come: the grammars of its formats take a second to build.
    from jsonschema import Draft202012Validator  # noqa: PLC0415
    from referencing import Registry, Resource  # noqa: PLC0415

    resources = ((schema["$id"], Resource.from_contents(schema)) for schema in schemas().values())
    registry: Registry[Any] = Registry().with_resources(resources)
    schema = schemas()[event_type]
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER)


def as_sent(event: OutgoingEvent) -> dict[str, Any]:
    """The CloudEvent that outlets make of an event."""
    return dict(cloud_event(event, source=SOURCE))


def check_event(event: Mapping[str, Any]) -> None:
    """See that an event is what the schema of its type says.

    Raises:
        AssertionError: It is not; the text says where.
    """
    errors = [f"{error.json_path}: {error.message}" for error in validator(event["type"]).iter_errors(dict(event))]
    assert not errors, errors
