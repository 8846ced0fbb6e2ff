"""What `certcast up` makes of its options."""

import pytest

from local_azure.eventgrid.schemas import EventSchema
from operator_cli import up


@pytest.mark.parametrize(
    ("given", "schema"),
    [
        ([], EventSchema.EVENT_GRID),
        (["--event-schema", "eventgrid"], EventSchema.EVENT_GRID),
        (["--event-schema", "EventGridSchema"], EventSchema.EVENT_GRID),
        (["--event-schema", "CloudEvents"], EventSchema.CLOUD_EVENTS),
        (["--event-schema", "CloudEventSchemaV1_0"], EventSchema.CLOUD_EVENTS),
        (["--event-schema", "cloudeventschemav1_0"], EventSchema.CLOUD_EVENTS),
    ],
)
def test_a_schema_has_azures_name_or_a_short_one_in_any_case(given: list[str], schema: EventSchema) -> None:
    context = up.command.make_context("up", given)
    assert up._EVENT_SCHEMAS[context.params["event_schema"]] is schema
