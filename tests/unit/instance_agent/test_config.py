"""The agent's settings, from environment and file, and the names that follow from them."""

import re
import socket
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from instance_agent.config import agent_settings, named_instance, read_environment
from shared.errors import ConfigurationError

ENV = {"CERTCAST_STORAGE": "UseDevelopmentStorage=true", "CERTCAST_KEY_ENCRYPTION_KEY": "file:/key"}


class TestSettings:
    def test_what_is_not_set_has_a_default(self) -> None:
        settings = agent_settings(ENV)
        assert settings.instance == settings.host == socket.gethostname()
        assert (settings.role, settings.target, settings.poll_max_ms) == ("*", "embedded", 500)
        assert (settings.health_address, settings.health_port) == ("127.0.0.1", 8484)

    def test_the_instance_is_named_by_its_setting_then_the_platform_then_the_cloud_then_the_machine(self) -> None:
        platform = ENV | {"RoleInstanceID": "web_IN_0", "WEBSITE_INSTANCE_ID": "abc"}
        assert agent_settings(platform | {"CERTCAST_INSTANCE": "mine"}, metadata_name="vm").instance == "mine"
        assert agent_settings(platform, metadata_name="vm").instance == "web_IN_0"
        assert agent_settings(ENV, metadata_name="vm").instance == "vm"
        assert named_instance(ENV) is None
        assert named_instance({"CERTCAST_INSTANCE": "  "}) is None

    def test_a_missing_key_is_said_with_its_consequence(self) -> None:
        with pytest.raises(
            ConfigurationError, match=r"CERTCAST_KEY_ENCRYPTION_KEY is not set.*bundles cannot be opened"
        ):
            agent_settings({"CERTCAST_STORAGE": "UseDevelopmentStorage=true"})

    @pytest.mark.parametrize("role", ["web", "Web.Tier-2_a", "x" * 64, "*", ""])
    def test_a_role_as_uploads_have_it_is_taken(self, role: str) -> None:
        assert agent_settings(ENV | {"CERTCAST_ROLE": role}).role == (role or "*")

    @pytest.mark.parametrize("role", ["a b", "x" * 65, "**", "web/api", "größe", "web\napi"])
    def test_a_role_that_no_upload_could_name_is_refused(self, role: str) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_ROLE"):
            agent_settings(ENV | {"CERTCAST_ROLE": role})

    @pytest.mark.parametrize("text", ["99", "60001", "fast"])
    def test_a_poll_interval_out_of_bounds_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_POLL_MAX_MS"):
            agent_settings(ENV | {"CERTCAST_POLL_MAX_MS": text})


class TestQueueNames:
    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
    @example("0" * 180)
    @example("web-" * 40)
    def test_every_instance_has_a_queue_name_that_the_service_takes_with_its_poison_queue(self, instance: str) -> None:
        queue = agent_settings(ENV | {"CERTCAST_INSTANCE": instance}).queue
        for name in (queue, f"{queue}-poison"):
            assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name)
            assert "--" not in name
            assert 3 <= len(name) <= 63
        assert queue.startswith("cert-agent-")

    def test_instances_whose_names_differ_only_in_what_is_left_out_have_different_queues(self) -> None:
        names = ["web_IN_0", "web-in-0", "WEB_IN_0", "web.in.0", "web_IN_0 ☃"]
        queues = {agent_settings(ENV | {"CERTCAST_INSTANCE": name}).queue for name in names}
        assert len(queues) == len(names)
        assert all(queue.startswith("cert-agent-web-in-0-") for queue in queues)


class TestTheSettingsFile:
    @staticmethod
    def file(folder: Path, text: str) -> dict[str, str]:
        path = folder / "agent.toml"
        path.write_text(text, encoding="utf-8")
        return {"CERTCAST_CONFIG": str(path)}

    def test_it_is_read_and_the_environment_wins(self, tmp_path: Path) -> None:
        named = self.file(
            tmp_path, "CERTCAST_ROLE = 'web'\nCERTCAST_POLL_MAX_MS = 500\nCERTCAST_X = true\nCERTCAST_TARGET = 'iis'\n"
        )
        env = read_environment(named | {"CERTCAST_TARGET": "embedded"})
        assert env["CERTCAST_ROLE"] == "web"
        assert env["CERTCAST_POLL_MAX_MS"] == "500"
        assert env["CERTCAST_X"] == "true"
        assert env["CERTCAST_TARGET"] == "embedded"

    def test_without_one_the_environment_is_all(self) -> None:
        assert read_environment({"A": "b"}) == {"A": "b"}

    def test_the_environment_of_the_process_is_read_when_none_is_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CERTCAST_ROLE", "web")
        assert read_environment()["CERTCAST_ROLE"] == "web"

    def test_one_that_is_named_must_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"none\.toml cannot be read: No such file"):
            read_environment({"CERTCAST_CONFIG": str(tmp_path / "none.toml")})

    def test_one_that_is_not_toml_is_refused_without_quoting_it(self, tmp_path: Path) -> None:
        for text in ("CERTCAST_STORAGE=AccountKey=hunter2", "\xff", "'hunter2"):
            with pytest.raises(ConfigurationError, match="is not TOML") as caught:
                read_environment(self.file(tmp_path, text))
            assert "hunter2" not in str(caught.value)
            assert caught.value.__suppress_context__

    def test_one_in_another_encoding_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "agent.toml"
        path.write_bytes("CERTCAST_ROLE = 'größe'".encode("latin-1"))
        with pytest.raises(ConfigurationError, match="is not TOML"):
            read_environment({"CERTCAST_CONFIG": str(path)})

    @pytest.mark.parametrize("value", ["['web']", "{a = 1}", "1.5", "2026-01-01"])
    def test_a_setting_that_is_neither_text_nor_number_is_refused(self, tmp_path: Path, value: str) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_ROLE must be text, a number or true/false"):
            read_environment(self.file(tmp_path, f"CERTCAST_ROLE = {value}"))


@pytest.mark.parametrize("instance", ["x" * 189, "ä" * 32, "/" * 63])
def test_an_id_that_fits_no_key_is_said(instance: str) -> None:
    with pytest.raises(ConfigurationError, match="too long for a row's key"):
        agent_settings(ENV | {"CERTCAST_INSTANCE": instance})
    assert agent_settings(ENV | {"CERTCAST_INSTANCE": instance[: len(instance) // 2]}).instance
