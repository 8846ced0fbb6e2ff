"""`selftest --preflight` where there is no IIS: the settings alone, with nothing asked and nothing written."""

from pathlib import Path

import pytest

from instance_agent.command import main
from shared.azure.key_encryption import make_key_file

STORAGE = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:1/a;"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    make_key_file(tmp_path / "key")
    given = {
        "CERTCAST_STORAGE": f"{STORAGE}QueueEndpoint=http://127.0.0.1:1/a;TableEndpoint=http://127.0.0.1:1/a",
        "CERTCAST_KEY_ENCRYPTION_KEY": f"file:{tmp_path / 'key'}",
        "CERTCAST_TARGET": "haproxy",
        "CERTCAST_HAPROXY_FOLDER": str(tmp_path / "lists"),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.usefixtures("settings")
def test_settings_that_the_agent_starts_with_are_said_to_be_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["selftest", "--preflight"]) == 0
    assert capsys.readouterr().out == f"ok   settings for HAProxy with the folder {tmp_path / 'lists'}, role *\n"
    assert not (tmp_path / "lists").exists()


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [
        ("CERTCAST_TARGET", "apache", "must be one of caddy, embedded"),
        ("CERTCAST_KEY_ENCRYPTION_KEY", "file:/nowhere/key", "key file /nowhere/key cannot be read"),
        ("CERTCAST_HAPROXY_SOCKET", "admin.sock", "must be an absolute path"),
        ("CERTCAST_PROBE_PROXY_PROTOCOL", "v3", "CERTCAST_PROBE_PROXY_PROTOCOL"),
        ("CERTCAST_ROLE", "a b", "CERTCAST_ROLE must be"),
    ],
)
def test_a_wrong_setting_is_named_with_its_cure(
    settings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, cure: str
) -> None:
    settings.setenv(name, value)
    assert main(["selftest", "--preflight"]) == 2
    assert cure in capsys.readouterr().err


@pytest.mark.usefixtures("settings")
def test_the_whole_selftest_is_for_iis(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest"]) == 2
    assert "CERTCAST_TARGET is haproxy, which has `--preflight` alone" in capsys.readouterr().err
