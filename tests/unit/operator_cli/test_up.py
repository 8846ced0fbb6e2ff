"""What `certcast up` makes of its options."""

from pathlib import Path

import pytest

from local_azure.eventgrid.schemas import EventSchema
from operator_cli import up
from shared.config import Settings
from shared.errors import ConfigurationError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FUNCTION = {"CERTCAST_STORAGE": "UseDevelopmentStorage=true", "CERTCAST_KEY_ENCRYPTION_KEY": "file:key"}


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


def function_settings(*given: str) -> Settings:
    """The Function's settings where `certcast up` has these options."""
    context = up.command.make_context("up", list(given))
    told = up._webhook_settings(context.params["webhooks"], context.params["webhook_secret_file"])
    return Settings.from_env(FUNCTION | told)


def test_webhooks_are_those_of_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTCAST_WEBHOOK", "https://c.test/")
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n{SECRET}\n")
    given = ("--webhook", "https://a.test/1", "--webhook", "http://127.0.0.1:1/", "--webhook-secret-file", str(file))
    settings = function_settings(*given)
    assert settings.webhooks == ("https://a.test/1", "http://127.0.0.1:1/")
    assert len(settings.webhook_secrets) == 2


def test_webhooks_are_else_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert function_settings().webhooks == ()
    monkeypatch.setenv("CERTCAST_WEBHOOK", "https://c.test/")
    monkeypatch.setenv("CERTCAST_WEBHOOK_SECRET", SECRET)
    settings = function_settings()
    assert settings.webhooks == ("https://c.test/",)
    assert len(settings.webhook_secrets) == 1


def test_webhooks_that_cannot_be_used_are_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--webhook: the address must begin with https"):
        function_settings("--webhook", "http://example.com/")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        function_settings("--webhook", "https://a.test/", "--webhook-secret-file", str(tmp_path / "none"))
