"""The Function's settings: what is taken, what is refused, and that a refusal says what to do."""

from base64 import b64encode

import pytest

from shared.config import (
    EMULATOR_ACCOUNT,
    EMULATOR_KEY,
    Settings,
    StorageAccess,
    emulator_connection_string,
    number,
    switch,
    vault_host,
)
from shared.config import text as text_of
from shared.config.webhooks import MAX_WEBHOOKS, webhook_secrets, webhook_urls
from shared.errors import ConfigurationError

KEY = {"CERTCAST_KEY_ENCRYPTION_KEY": "file:/var/lib/certcast/key"}
SHORTHAND = {"CERTCAST_STORAGE": "UseDevelopmentStorage=true"}


class TestStorage:
    @pytest.mark.parametrize(
        "text", ["UseDevelopmentStorage=true", "usedevelopmentstorage=TRUE;", " UseDevelopmentStorage=true "]
    )
    def test_the_emulators_shorthand_is_spelled_out(self, text: str) -> None:
        access = StorageAccess.from_env({"CERTCAST_STORAGE": text})
        assert access.connection_string == emulator_connection_string()
        assert access.is_emulator
        assert "BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;" in access.connection_string
        assert f"AccountKey={EMULATOR_KEY};" in access.connection_string

    def test_a_connection_string_is_taken_as_it_is(self) -> None:
        text = "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"
        access = StorageAccess.from_env({"CERTCAST_STORAGE": text})
        assert access.connection_string == f"{text};"
        assert not access.is_emulator
        assert StorageAccess.from_env({"CERTCAST_STORAGE": f"{text};"}) == access

    def test_a_connection_string_is_not_shown(self) -> None:
        text = "AccountName=shop;AccountKey=c2VjcmV0"
        settings = Settings.from_env(KEY | {"CERTCAST_STORAGE": text})
        assert "c2VjcmV0" not in repr(settings)

    def test_text_that_is_no_connection_string_is_refused_without_quoting_it(self) -> None:
        for text in ("c2VjcmV0", "AccountKey=c2VjcmV0", "https://c2VjcmV0"):
            with pytest.raises(ConfigurationError, match="neither AccountName nor BlobEndpoint") as caught:
                StorageAccess.from_env({"CERTCAST_STORAGE": text})
            assert "c2VjcmV0" not in str(caught.value)

    def test_an_account_name_alone_is_reached_with_an_identity(self) -> None:
        access = StorageAccess.from_env({"CERTCAST_STORAGE__accountName": "shop"})
        assert access == StorageAccess(
            blob_url="https://shop.blob.core.windows.net",
            queue_url="https://shop.queue.core.windows.net",
            table_url="https://shop.table.core.windows.net",
        )

    def test_service_addresses_win_over_the_account_name(self) -> None:
        env = {
            "CERTCAST_STORAGE__accountName": "shop",
            "CERTCAST_STORAGE__tableServiceUri": "https://shop.table.core.chinacloudapi.cn",
            "CERTCAST_STORAGE__clientId": "11111111-2222-3333-4444-555555555555",
        }
        access = StorageAccess.from_env(env)
        assert access.table_url == "https://shop.table.core.chinacloudapi.cn"
        assert access.blob_url == "https://shop.blob.core.windows.net"
        assert access.client_id == "11111111-2222-3333-4444-555555555555"

    def test_an_identity_may_be_chosen_beside_a_connection_string(self) -> None:
        env = {"CERTCAST_STORAGE": "AccountName=shop;AccountKey=c2VjcmV0", "CERTCAST_STORAGE__clientId": " 1111 "}
        assert StorageAccess.from_env(env).client_id == "1111"

    def test_an_address_that_is_missing_is_named(self) -> None:
        env = {"CERTCAST_STORAGE__blobServiceUri": "https://shop.blob.core.windows.net"}
        with pytest.raises(ConfigurationError, match="CERTCAST_STORAGE__queueServiceUri") as caught:
            StorageAccess.from_env(env)
        assert "missing: CERTCAST_STORAGE__queueServiceUri, CERTCAST_STORAGE__tableServiceUri" in str(caught.value)

    def test_a_default_serves_only_when_nothing_is_set(self) -> None:
        default = "AccountName=default;"
        assert StorageAccess.from_env({}, default=default).connection_string == default
        named = StorageAccess.from_env({"CERTCAST_STORAGE__accountName": "shop"}, default=default)
        assert named.connection_string is None
        with pytest.raises(ConfigurationError, match="no storage account"):
            StorageAccess.from_env({"CERTCAST_STORAGE": "  "})

    def test_the_emulators_ports_can_be_others(self) -> None:
        text = emulator_connection_string(blob_port=1, queue_port=2, table_port=3)
        assert f"TableEndpoint=http://127.0.0.1:3/{EMULATOR_ACCOUNT};" in text


class TestSettings:
    def test_what_is_not_set_has_a_safe_default(self) -> None:
        settings = Settings.from_env(KEY | SHORTHAND)
        assert (settings.trust, settings.scrub_password, settings.key_vaults) == ("public", True, frozenset())

    def test_the_environment_of_the_process_is_read_when_none_is_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (KEY | SHORTHAND | {"CERTCAST_TRUST": "off"}).items():
            monkeypatch.setenv(name, value)
        assert Settings.from_env().trust == "off"

    def test_a_missing_key_encryption_key_is_said_with_the_cure(self) -> None:
        with pytest.raises(ConfigurationError, match=r"CERTCAST_KEY_ENCRYPTION_KEY is not set: give .* file:<path>"):
            Settings.from_env(SHORTHAND)

    def test_vaults_are_named_in_any_usual_form(self) -> None:
        env = KEY | SHORTHAND | {"CERTCAST_KEY_VAULTS": "Shop, https://other.vault.azure.net/  third.vault.azure.cn"}
        assert Settings.from_env(env).key_vaults == {
            "shop.vault.azure.net",
            "other.vault.azure.net",
            "third.vault.azure.cn",
        }

    @pytest.mark.parametrize(
        ("name", "host"),
        [
            ("shop", "shop.vault.azure.net"),
            ("https://Shop.vault.azure.net", "shop.vault.azure.net"),
            ("shop.managedhsm.azure.net", "shop.managedhsm.azure.net"),
        ],
    )
    def test_a_vault_is_known_by_its_host_name(self, name: str, host: str) -> None:
        assert vault_host(name) == host


class TestWebhooks:
    URL = "https://hooks.example.com:8443/services/s3cret?sig=s3cret%2F&a=b,c"

    def test_one_or_several_are_taken_each_once(self) -> None:
        env = KEY | SHORTHAND | {"CERTCAST_WEBHOOK": f" {self.URL}\n http://[::1]:9/x {self.URL} http://localhost/"}
        assert Settings.from_env(env).webhooks == (self.URL, "http://[::1]:9/x", "http://localhost/")
        assert Settings.from_env(KEY | SHORTHAND).webhooks == ()

    @pytest.mark.parametrize(
        "url",
        [
            "hooks.example.com/s3cret",
            "http://hooks.example.com/s3cret",
            "http://127.0.0.1.example.com/s3cret",
            "http://169.254.169.254/s3cret",
            "ftp://127.0.0.1/s3cret",
            "file:///s3cret",
            "https:///s3cret",
            "https://user:s3cret@hooks.example.com/",
            "https://s3cret@hooks.example.com/",
            "https://hooks.example.com/#s3cret",
            "https://hooks.example.com:99999/s3cret",
            "https://hooks.example.com:s3cret/",
            "https://hooks.example.com:0/s3cret",
            "https://a.test/s3cret,https://b.test/s3cret",
            "https://[s3cret/",
            "https://hööks.example.com/s3cret",
            "https://hooks.example.com/s3cret\x1b[31m",
            "https://hooks.example.com/" + "s3cret" * 1000,
        ],
    )
    def test_an_address_that_cannot_be_used_is_refused_and_not_shown(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match=r"^CERTCAST_WEBHOOK: address 2 .*; write https://HOST/") as caught:
            webhook_urls(f"https://fine.example.com/s3cret {url}")
        assert "s3cret" not in str(caught.value)

    def test_more_than_the_queue_has_places_for_are_refused(self) -> None:
        urls = [f"https://{number}.test/" for number in range(MAX_WEBHOOKS + 1)]
        assert len(webhook_urls(" ".join(urls[1:]))) == MAX_WEBHOOKS
        with pytest.raises(ConfigurationError, match="CERTCAST_WEBHOOK has 5 addresses, and may have 4"):
            webhook_urls(" ".join(urls))

    def test_secrets_are_as_standard_webhooks_has_them(self) -> None:
        text = "whsec_" + b64encode(b"a" * 24).decode() + "\n whsec_" + b64encode(b"b" * 64).decode() + "\n"
        assert webhook_secrets(text) == (b"a" * 24, b"b" * 64)

    @pytest.mark.parametrize(
        "text",
        [
            "s3cret",
            "whsec_",
            "whsec_s3cret",
            "whsec_" + "!" * 40,
            "whsec_" + "é" * 40,
            b64encode(b"s" * 32).decode(),
            "whsec_" + b64encode(b"s" * 23).decode(),
            "whsec_" + b64encode(b"s" * 65).decode(),
        ],
    )
    def test_others_are_refused_with_how_one_is_made_and_not_shown(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match=r"CERTCAST_WEBHOOK_SECRET: .*openssl rand -base64 32") as caught:
            webhook_secrets(text)
        assert text.removeprefix("whsec_") not in str(caught.value) or text == "whsec_"

    def test_neither_is_shown(self) -> None:
        secret = "whsec_" + b64encode(b"s3cret" * 5).decode()
        env = KEY | SHORTHAND | {"CERTCAST_WEBHOOK": self.URL, "CERTCAST_WEBHOOK_SECRET": secret}
        assert "s3cret" not in repr(Settings.from_env(env))

    @pytest.mark.parametrize("text", ["https://example.com/certcast", "/certcast", "urn:example:a", ""])
    def test_a_source_is_a_uri_reference(self, text: str) -> None:
        assert Settings.from_env(KEY | SHORTHAND | {"CERTCAST_EVENT_SOURCE": text}).event_source == text

    @pytest.mark.parametrize("text", ["two words", "<a>", "größe", "a\x00b", '"'])
    def test_anything_else_is_none(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_EVENT_SOURCE must be a URI"):
            Settings.from_env(KEY | SHORTHAND | {"CERTCAST_EVENT_SOURCE": text})


class TestTextSwitchesAndNumbers:
    def test_text_is_taken_without_blanks_around_it_and_blanks_alone_are_the_default(self) -> None:
        assert text_of({"X": " a b "}, "X", "c") == "a b"
        assert text_of({"X": " "}, "X", "c") == text_of({}, "X", "c") == "c"
        assert text_of({}, "X") == ""

    @pytest.mark.parametrize("text", ["1", "true", "Yes", " ON "])
    def test_yes_is_yes(self, text: str) -> None:
        assert switch({"X": text}, "X", default=False)

    @pytest.mark.parametrize("text", ["0", "false", "No", " OFF "])
    def test_no_is_no(self, text: str) -> None:
        assert not switch({"X": text}, "X", default=True)

    @pytest.mark.parametrize("default", [True, False])
    def test_nothing_is_the_default(self, *, default: bool) -> None:
        assert switch({}, "X", default=default) is default
        assert switch({"X": " "}, "X", default=default) is default

    def test_anything_else_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="X must be true or false, not 'maybe'"):
            switch({"X": "maybe"}, "X", default=True)

    @pytest.mark.parametrize("text", ["1", "100", " 7 "])
    def test_numbers_within_bounds_are_taken(self, text: str) -> None:
        assert number({"X": text}, "X", default=5, least=1, most=100) == int(text)

    @pytest.mark.parametrize("text", ["0", "101", "-5", "1.5", "seven", "0x10", "1 2"])
    def test_other_numbers_are_refused_with_the_bounds(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="X must be a whole number from 1 to 100"):
            number({"X": text}, "X", default=5, least=1, most=100)

    def test_no_number_is_the_default(self) -> None:
        assert number({"X": ""}, "X", default=5, least=1, most=100) == 5
