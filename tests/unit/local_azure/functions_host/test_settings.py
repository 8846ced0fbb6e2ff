import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from local_azure.functions_host.keys import keys_in, make_keys
from local_azure.functions_host.settings import (
    Connection,
    HostSettings,
    QueueSettings,
    connection,
    read_host_json,
    read_local_settings,
    resolve,
)
from shared.errors import ConfigurationError


def host_json(folder: Path, **document: Any) -> HostSettings:
    (folder / "host.json").write_text(json.dumps({"version": "2.0", **document}), encoding="utf-8")
    return read_host_json(folder)


def test_what_host_json_does_not_say_is_as_the_host_has_it(tmp_path: Path) -> None:
    settings = host_json(tmp_path)
    assert settings.route_prefix == "api"
    assert settings.queues.batch_size == 16
    assert settings.queues.max_polling_interval_s == 60
    assert settings.queues.visibility_timeout_s == 0
    assert settings.queues.max_dequeue_count == 5
    assert settings.queues.invisibility_s == 600
    assert settings.queues.base64


def test_what_host_json_says_is_taken(tmp_path: Path) -> None:
    queues = {
        "batchSize": 4,
        "newBatchThreshold": 1,
        "maxPollingInterval": "00:00:01.5",
        "visibilityTimeout": "1.02:03:04",
        "maxDequeueCount": 2,
        "messageEncoding": "none",
    }
    settings = host_json(
        tmp_path, functionTimeout="00:05:00", extensions={"queues": queues, "http": {"routePrefix": "v1/"}}
    )
    assert settings.function_timeout_s == 300
    assert settings.route_prefix == "v1"
    assert settings.queues == QueueSettings(
        batch_size=4,
        new_batch_threshold=1,
        max_polling_interval_s=1.5,
        visibility_timeout_s=86_400 + 2 * 3600 + 3 * 60 + 4,
        max_dequeue_count=2,
        base64=False,
    )


def test_queues_are_polled_no_more_often_than_the_host_allows(tmp_path: Path) -> None:
    queues = {"maxPollingInterval": "00:00:00.01"}
    assert host_json(tmp_path, extensions={"queues": queues}).queues.max_polling_interval_s == 0.1


def test_no_limit_is_written_as_minus_one(tmp_path: Path) -> None:
    assert host_json(tmp_path, functionTimeout="-1").function_timeout_s is None


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"version": "1.0"}, 'must be "2.0"'),
        ({"functionTimeout": "soon"}, "'soon' is not a time span"),
        ({"extensions": {"queues": {"batchSize": 33}}}, "batchSize must be a whole number from 1 to 32"),
        ({"extensions": {"queues": {"maxDequeueCount": "5"}}}, "maxDequeueCount"),
    ],
)
def test_a_wrong_value_is_one_line(tmp_path: Path, document: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        host_json(tmp_path, **document)


def test_a_missing_or_broken_host_json_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"host\.json cannot be read: No such file"):
        read_host_json(tmp_path)
    for text, reason in (("{", "is not JSON"), ("[]", "must hold a JSON object")):
        (tmp_path / "host.json").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigurationError, match=reason):
            read_host_json(tmp_path)


def test_local_settings_are_read_where_there_are_some(tmp_path: Path) -> None:
    assert read_local_settings(tmp_path) == {}
    path = tmp_path / "local.settings.json"
    path.write_text('\ufeff{"IsEncrypted": false, "Values": {"A": "1"}, "Host": {}}', encoding="utf-8")
    assert read_local_settings(tmp_path) == {"A": "1"}
    path.write_text('{"Values": {"A": 1}}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match="object of strings"):
        read_local_settings(tmp_path)
    path.write_text('{"IsEncrypted": true}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match="func settings decrypt"):
        read_local_settings(tmp_path)


def test_names_between_percent_signs_are_settings() -> None:
    assert resolve("a-%X%-%Y%", {"X": "1", "Y": "%X%"}, "function f") == "a-1-%X%"
    with pytest.raises(ConfigurationError, match="function f refers to the setting Z, which is not set"):
        resolve("%Z%", {}, "function f")


def test_a_connection_is_found_where_the_host_looks_for_it() -> None:
    assert connection("C", {"C": "AccountName=a"}, "f") == Connection(connection_string="AccountName=a")
    assert connection("C", {"C": "x", "AzureWebJobsC": "y"}, "f") == Connection(connection_string="y")
    assert connection("", {"AzureWebJobsStorage": "x"}, "f") == Connection(connection_string="x")
    assert connection("C", {"C__queueServiceUri": "https://q", "C__clientId": "i"}, "f") == Connection(
        queue_url="https://q", client_id="i"
    )
    assert connection("C", {"C__accountName": "shop"}, "f").queue_url == "https://shop.queue.core.windows.net"
    development = connection("C", {"C": "UseDevelopmentStorage=true"}, "f").connection_string
    assert development is not None
    assert "QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1" in development
    with pytest.raises(ConfigurationError, match="f needs the connection C: set C, or C__queueServiceUri"):
        connection("C", {}, "f")


def test_a_connection_does_not_show_its_key() -> None:
    assert "a2V5" not in repr(connection("C", {"C": "AccountName=a;AccountKey=a2V5"}, "f"))


def test_keys_are_made_once_and_are_for_their_owner_alone(tmp_path: Path) -> None:
    made = keys_in(tmp_path / "keys.json")
    assert keys_in(tmp_path / "keys.json") == made
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
    assert made.master not in repr(made)
    assert len({made.master, made.function, made.eventgrid_extension}) == 3


def test_a_file_that_holds_no_keys_is_one_line(tmp_path: Path) -> None:
    for text in ("", "[]", '{"master": "x"}'):
        (tmp_path / "keys.json").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigurationError, match="delete it"):
            keys_in(tmp_path / "keys.json")


def test_each_key_opens_its_own_level_and_the_master_key_opens_all() -> None:
    keys = make_keys()
    opened = {
        name: [level for level in ("anonymous", "function", "system", "admin") if keys.admit(request, level)]
        for name, request in {
            "master": make_mocked_request("GET", "/", {"x-functions-key": keys.master}),
            "function": make_mocked_request("GET", f"/?code={keys.function}"),
            "system": make_mocked_request("GET", f"/?code={keys.eventgrid_extension}"),
            "none": make_mocked_request("GET", "/"),
            "wrong": make_mocked_request("GET", "/?code=%C3%BC"),
        }.items()
    }
    assert opened == {
        "master": ["anonymous", "function", "system", "admin"],
        "function": ["anonymous", "function"],
        "system": ["anonymous", "system"],
        "none": ["anonymous"],
        "wrong": ["anonymous"],
    }
