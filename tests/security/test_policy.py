"""Boundaries between uploaders: what the policy lets one claim, the others cannot; a faulty policy lets none claim."""

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from azure.storage.blob.aio import BlobServiceClient
from hypothesis import given
from hypothesis import strategies as st

from shared.azure.account import Account
from shared.azure.policy_source import policy_source
from shared.binding import ANY_ROLE
from shared.config import Settings
from shared.errors import CertcastError, ConfigurationError, UnavailableError
from shared.function.diagnosis import health
from shared.function.health import HEALTH_KEPT_S, Health
from shared.function.rules import FAILED_S, KEPT_S, Rules
from shared.state.records import UploadStatus
from shared.upload import PortRanges
from shared.validation.checkup import policy_check
from shared.validation.policy import Policy, Rule
from shared.validation.policy_text import FaultyPolicyError, read_policy, warnings_about
from shared.verdict import VerdictCode
from tests.contracts.edges import own
from tests.rigs.emulator import Emulator, opened_account
from tests.rigs.scenes import PASSWORD, Scene, issued
from tests.rigs.some import some

TENANTS = """
version = 1

[[uploads]]
prefix = "shops/alice/"
hosts = ["alice.example", "*.alice.example"]

[[uploads]]
prefix = "shops/bob/"
hosts = ["*.bob.example", "bücher.example"]
ports = [443, "9000-9010"]
roles = ["web", "*"]

[[uploads]]
prefix = "shops/bob/internal/"
hosts = ["intern.bob.example"]
roles = ["web"]
"""
LEAKED = "AB:" * 31 + "CD"


def allowed(policy: Policy, name: str, *hosts: str, port: int = 443, role: str = ANY_ROLE, of: str = "0" * 64) -> bool:
    return policy.refusal(name=name, hosts=hosts, port=port, role=role, fingerprint_sha256=of) is None


def faults(text: str) -> tuple[str, ...]:
    with pytest.raises(FaultyPolicyError) as caught:
        read_policy(text)
    return caught.value.faults


class TestBoundaries:
    @pytest.mark.parametrize(
        ("name", "host"),
        [
            ("shops/alice/a.pfx", "alice.example"),
            ("shops/alice/deep/er/a.pfx", "www.alice.example"),
            ("shops/alice/a.pfx", "a.b.c.alice.example"),
            ("shops/alice/a.pfx", "*.alice.example"),
            ("shops/alice/a.pfx", "*.shop.alice.example"),
            ("shops/bob/b.pfx", "xn--bcher-kva.example"),
            ("shops/bob/internal/b.pfx", "intern.bob.example"),
        ],
    )
    def test_an_uploader_claims_its_own(self, name: str, host: str) -> None:
        assert allowed(read_policy(TENANTS), name, host, role="web")

    @pytest.mark.parametrize(
        ("name", "host"),
        [
            ("shops/alice/a.pfx", "www.bob.example"),
            ("shops/alice/a.pfx", "*.example"),
            ("shops/alice/a.pfx", "evilalice.example"),
            ("shops/alice/a.pfx", "alice.example.evil.test"),
            ("shops/bob/b.pfx", "bob.example"),
            ("shops/bob/b.pfx", "*.bücher.example"),
            ("shops/bob/internal/b.pfx", "www.bob.example"),
            ("shops/alice", "alice.example"),
            ("shops/Alice/a.pfx", "alice.example"),
            ("/shops/alice/a.pfx", "alice.example"),
            ("x/shops/alice/a.pfx", "alice.example"),
            ("shops/alicia/a.pfx", "alice.example"),
            ("keyvault://shops/alice", "alice.example"),
        ],
    )
    def test_an_uploader_claims_nothing_of_others(self, name: str, host: str) -> None:
        assert not allowed(read_policy(TENANTS), name, host, role="web")

    def test_one_host_too_many_refuses_the_upload(self) -> None:
        assert not allowed(read_policy(TENANTS), "shops/alice/a.pfx", "www.alice.example", "www.bob.example")

    def test_ports_are_443_unless_the_rule_says_more(self) -> None:
        policy = read_policy(TENANTS)
        assert not allowed(policy, "shops/alice/a.pfx", "alice.example", port=8443)
        assert allowed(policy, "shops/bob/b.pfx", "a.bob.example", port=9005)
        assert not allowed(policy, "shops/bob/b.pfx", "a.bob.example", port=9011)

    def test_roles_are_any_unless_the_rule_names_them(self) -> None:
        policy = read_policy(TENANTS)
        assert allowed(policy, "shops/alice/a.pfx", "alice.example", role="db")
        assert allowed(policy, "shops/bob/b.pfx", "a.bob.example", role=ANY_ROLE)
        assert not allowed(policy, "shops/bob/b.pfx", "a.bob.example", role="db")
        assert not allowed(policy, "shops/bob/internal/b.pfx", "intern.bob.example", role=ANY_ROLE)

    def test_the_rest_and_other_sources_have_rules_by_their_names(self) -> None:
        rest = '[[uploads]]\nprefix = ""\nhosts = ["*"]\n'
        vault = '[[uploads]]\nprefix = "keyvault://shops/"\nhosts = ["k.example"]\n'
        policy = read_policy("version = 1\n" + rest + vault)
        assert allowed(policy, "any.pfx", "any.example", "*.any.example")
        assert allowed(policy, "keyvault://shops/k", "k.example")
        assert not allowed(policy, "keyvault://shops/k", "any.example")

    def test_the_default_is_allowed_by_a_word_of_its_own_on_the_rules_ports(self) -> None:
        policy = read_policy('version = 1\n[[uploads]]\nprefix = ""\nhosts = ["*"]\ndefault = true')
        for port, may in ((443, True), (444, False)):
            refused = policy.refusal(name="a.pfx", hosts=(), port=port, role="*", fingerprint_sha256="", default=True)
            assert (refused is None) is may

    @pytest.mark.parametrize("more", ["", "default = false"])
    def test_every_host_is_not_the_default(self, more: str) -> None:
        policy = read_policy(f'version = 1\n[[uploads]]\nprefix = ""\nhosts = ["*"]\n{more}')
        refused = policy.refusal(name="a.pfx", hosts=("a.b",), port=443, role="*", fingerprint_sha256="", default=True)
        assert "and not the default of port 443." in some(refused).detail

    @pytest.mark.parametrize("written", [LEAKED, LEAKED.lower(), LEAKED.replace(":", ""), LEAKED.replace(":", " ")])
    def test_a_certificate_that_is_never_served_is_refused_under_any_name(self, written: str) -> None:
        text = f'version = 1\nnever = ["{written}"]\n[[uploads]]\nprefix = ""\nhosts = ["*"]\n'
        assert not allowed(read_policy(text), "a.pfx", "a.example", of="ab" * 31 + "cd")
        assert allowed(read_policy(text), "a.pfx", "a.example", of="ab" * 32)

    def test_without_a_policy_everything_is_as_it_was(self) -> None:
        assert allowed(Policy(), "any.pfx", "any.example", port=9, role="db")

    @given(
        name=st.text(st.sampled_from("shops/alicebob."), max_size=24),
        host=st.sampled_from(["alice.example", "a.alice.example", "*.alice.example", "bob.example", "x.bob.example"]),
    )
    def test_only_names_under_a_prefix_claim_what_it_has(self, name: str, host: str) -> None:
        under_alice = name.startswith("shops/alice/") and host.endswith("alice.example")
        under_bob = name.startswith("shops/bob/") and host.endswith(".bob.example")
        assert allowed(read_policy(TENANTS), name, host) is (under_alice or under_bob)


class TestRefusals:
    def test_says_what_the_rule_allows_and_nothing_of_the_others(self) -> None:
        violation = some(
            read_policy(TENANTS).refusal(
                name="shops/alice/a.pfx",
                hosts=("www.alice.example", "www.bob.example"),
                port=22,
                role="db",
                fingerprint_sha256="",
            )
        )
        assert violation.code is VerdictCode.NOT_ALLOWED
        assert violation.rejects
        assert violation.detail.startswith(
            "Uploads under 'shops/alice/' may claim alice.example, *.alice.example on port 443, and not "
            "www.bob.example and port 22."
        )
        assert "9000" not in violation.detail

    @pytest.mark.parametrize("name", ["a.pfx", "shops/a.pfx", "x\n\u202e.pfx"])
    def test_of_a_name_under_no_prefix_names_no_prefix(self, name: str) -> None:
        violation = some(
            read_policy(TENANTS).refusal(name=name, hosts=("a.test",), port=443, role="*", fingerprint_sha256="")
        )
        assert "alice" not in violation.detail
        assert "bob" not in violation.detail
        assert violation.detail.isprintable()


FAULTS = [
    ("version = 2", "version is '2': write version = 1."),
    ("version = true", "version is 'True': write version = 1."),
    ("", "version is missing: write version = 1."),
    ("version = 1", "uploads has no entry"),
    ("version = 1\nuploads = []", "uploads has no entry"),
    ('version = 1\nuploads = ["a"]', "uploads entry 1 is 'a': write a table"),
    ("version = 1\nnevr = []", "'nevr' is not known"),
    ('version = 1\nnever = "a"', "never is 'a': write a list"),
    ('version = 1\nnever = ["abc"]', "never: 'abc' is no SHA-256 fingerprint"),
    ("version = 1\nnever = [1]", "never: '1' is no SHA-256 fingerprint"),
    ('[[uploads]]\nhosts = ["*"]', "uploads entry 1 has no prefix"),
    ('[[uploads]]\nprefix = "a/"', "uploads entry 1 ('a/') has no hosts"),
    ('[[uploads]]\nprefix = "a/"\nhosts = []', "uploads entry 1 ('a/') has no hosts"),
    ('[[uploads]]\nprefix = "a/"\nhosts = "*"', "uploads entry 1 ('a/'): hosts is '*': write a list"),
    ('[[uploads]]\nprefix = "a/"\nhosts = [1]', "uploads entry 1 ('a/'): hosts: '1' is no host"),
    ('[[uploads]]\nprefix = "a/"\nhosts = ["https://x/"]', "uploads entry 1 ('a/'): hosts: 'https://x/' is a URL"),
    ('[[uploads]]\nprefix = "a/"\nhosts = ["*x.example"]', "hosts: '*x.example' has a * where none may be"),
    ('[[uploads]]\nprefix = "a/"\nhosts = ["*.*.x.example"]', "'*.*.x.example' has two stars"),
    ('[[uploads]]\nprefix = "a/"\nhosts = ["B.example", "b.example."]', "hosts 'b.example' is there twice"),
    ('[[uploads]]\nprefix = "a/"\nhosts = ["*"]\nports = [0]', "uploads entry 1 ('a/'): ports: '0' is no port"),
    ('[[uploads]]\nprefix = "a/"\nhosts = ["*"]\nports = [true]', "ports: 'True' is no port"),
    ('[[uploads]]\nprefix = "a/"\nhosts = ["*"]\nports = ["9-8"]', "ports: '9-8' is no port"),
    ('[[uploads]]\nprefix = "a/"\nhosts = ["*"]\nports = []', "ports is empty: leave it out for 443"),
    ('[[uploads]]\nprefix = "a/"\nhosts = ["*"]\nroles = ["a b"]', "roles: 'a b' is no role"),
    ('[[uploads]]\nprefix = "a/"\nhosts = ["*"]\nroles = []', "roles is empty: leave it out for any role"),
    ('[[uploads]]\nprefix = "a/"\nhosts = ["*"]\nhost = ["*"]', "uploads entry 1 ('a/'): 'host' is not known"),
    ('[[uploads]]\nprefix = "a/"\nhosts = ["*"]\ndefault = 1', "('a/'): default is '1': write true, or false"),
    ('[[uploads]]\nprefix = "a/../b/"\nhosts = ["*"]', "uploads entry 1 ('a/../b/'): no name begins so"),
    (
        '[[uploads]]\nprefix = "a/"\nhosts = ["*"]\n[[uploads]]\nprefix = "a/"\nhosts = ["*"]',
        "prefix 'a/' is there twice",
    ),
    ("version = 1\nversion = 1", "the policy is no TOML"),
    ('{"version": 1, "never": ["x"], "never": []}', "'never' is there twice in one object"),
    ('{"version": 1', "the policy is no JSON"),
    ('{"a":' * 100_000, "nested too deeply"),
    ('{"uploads": ' + "[" * 900 + "]" * 900 + "}", "uploads entry 1 is a list"),
    ("#" * 1_000_001, "longer than 1,000,000 characters"),
]


class TestTexts:
    @pytest.mark.parametrize(("text", "fault"), FAULTS, ids=[fault for _, fault in FAULTS])
    def test_what_is_wrong_is_named_with_its_entry_and_its_cure(self, text: str, fault: str) -> None:
        found = faults(text)
        assert any(fault in each for each in found), found
        assert all(each.isprintable() and each[-1] == "." for each in found)

    def test_all_faults_are_named_at_once(self) -> None:
        assert (
            len(faults('version = 3\nnever = ["x"]\n[[uploads]]\nprefix = "a/"\nhosts = ["*", "a:1"]\nrole = []')) == 4
        )

    def test_toml_and_json_say_the_same(self) -> None:
        entry = {"prefix": "a/", "hosts": ["*.a.example"], "ports": ["443", 8443], "roles": ["web"]}
        lines = "version = 1|[[uploads]]|prefix = 'a/'|hosts = ['*.A.example.']|ports = [8443, 443]|roles = ['web']"
        text = "\ufeff" + lines.replace("|", "\r\n")
        same = read_policy(json.dumps({"version": 1, "uploads": [entry]}))
        assert read_policy(text) == same
        assert some(same.rules)[0].ports == PortRanges.parse("443,8443")

    def test_a_prefix_that_is_no_folder_is_warned_about(self) -> None:
        (warning,) = warnings_about(
            Policy(
                rules=(
                    Rule(prefix="shops/alice", hosts=("*",)),
                    Rule(prefix="b/", hosts=("*",)),
                    Rule(prefix="", hosts=()),
                )
            )
        )
        assert "'shops/alicex/a.pfx'" in warning

    @given(st.text() | st.text().map(lambda text: "{" + text) | st.binary().map(repr))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            read_policy(text)
        except FaultyPolicyError as error:
            given_up = error.faults
        else:
            given_up = ("none",)
        assert given_up


class Ruled(Scene):
    """A scene with a policy whose text a test may change."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: str | Exception = text
        self.reads = 0
        self.cloud = replace(
            self.cloud,
            rules=Rules(self._read, lambda: self.storage.clock().timestamp()),
            health=Health([policy_check(self._read)], lambda: self.storage.clock().timestamp()),
        )

    async def _read(self) -> str:
        self.reads += 1
        if isinstance(self.text, Exception):
            raise self.text
        return self.text


class TestInForce:
    async def test_an_upload_of_anothers_host_is_rejected_and_one_of_its_own_is_served(self) -> None:
        scene = Ruled(TENANTS)
        await scene.handle(await scene.upload("shops/alice/a.pfx", "www.alice.example", "www.bob.example"))
        record = await scene.record("shops/alice/a.pfx")
        assert (record.status, [v.code for v in record.violations]) == (
            UploadStatus.REJECTED,
            [VerdictCode.NOT_ALLOWED],
        )
        assert not [row async for row in scene.cloud.state.bindings.all()]
        assert not scene.storage.bundles
        record = await scene.accepted("shops/alice/b.pfx", "www.alice.example")
        assert record.status is UploadStatus.ACCEPTED

    async def test_hosts_may_be_named_in_the_metadata_or_come_from_the_certificate(self) -> None:
        scene = Ruled(TENANTS)
        metadata = {"CertificatePassword": PASSWORD, "HostHeader": "www.alice.example"}
        both = "www.alice.example", "www.bob.example"
        record = await scene.looked_at(await scene.upload("shops/alice/a.pfx", *both, metadata=metadata))
        assert record.status is UploadStatus.ACCEPTED
        await scene.edit("shops/alice/a.pfx", HostHeader="www.bob.example")
        record = await scene.looked_at("shops/alice/a.pfx")
        assert record.status is UploadStatus.REJECTED

    async def test_what_has_no_rule_is_not_even_opened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def judge(*_: object, **__: object) -> None:
            raise AssertionError("it was opened")

        monkeypatch.setattr("shared.function.ruling.judge", judge)
        scene = Ruled(TENANTS)
        await scene.handle(await scene.upload("mallory.pfx", "www.alice.example"))
        record = await scene.record("mallory.pfx")
        assert [violation.code for violation in record.violations] == [VerdictCode.NOT_ALLOWED]

    async def test_a_marker_of_anothers_bundle_is_held_to_it_too(self) -> None:
        scene = Ruled(TENANTS)
        mine = await scene.accepted("shops/bob/b.pfx", "www.bob.example")
        content = scene.storage.uploads["shops/bob/b.pfx"].content
        stolen = {"certcast_bundle": mine.bundle_id, "HostHeader": "www.bob.example"}
        await scene.handle(await scene.upload("shops/alice/a.pfx", content=content, metadata=stolen))
        assert (await scene.record("shops/alice/a.pfx")).status is UploadStatus.REJECTED

    async def test_a_certificate_on_the_list_is_refused_under_every_prefix(self) -> None:
        leaf = issued("www.alice.example").fingerprint
        scene = Ruled(f'version = 1\nnever = ["{leaf.upper()}"]\n[[uploads]]\nprefix = ""\nhosts = ["*"]\n')
        await scene.handle(await scene.upload("a.pfx", "www.alice.example"))
        (violation,) = (await scene.record("a.pfx")).violations
        assert violation.code is VerdictCode.NOT_ALLOWED
        assert leaf in violation.detail

    @pytest.mark.parametrize(
        "trouble", ["version = 2", UnavailableError("no answer"), ConfigurationError("no such file")], ids=str
    )
    async def test_one_that_cannot_be_used_lets_nothing_be_accepted_and_nothing_be_lost(
        self, trouble: str | Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        scene = Ruled(TENANTS)
        scene.text = trouble
        for number in range(5):
            await scene.handle(await scene.upload(f"shops/alice/{number}.pfx", "www.alice.example", serial=number))
        assert not [row async for row in scene.cloud.state.bindings.all()]
        assert len(await scene.rechecks()) == 5
        errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(errors) == 1
        assert scene.reads == 1
        answer = await health(scene.cloud)
        assert answer.status == 503
        assert answer.document == {"status": "failing", "parts": {"policy": "failing"}}
        scene.text = TENANTS
        scene.storage.clock.advance(FAILED_S)
        record = await scene.looked_at("shops/alice/0.pfx")
        assert record.status is UploadStatus.ACCEPTED
        scene.storage.clock.advance(HEALTH_KEPT_S)
        assert (await health(scene.cloud)).status == 200

    async def test_it_is_read_again_after_a_minute_and_not_before(self) -> None:
        scene = Ruled(TENANTS)
        for number in range(3):
            await scene.accepted(f"shops/alice/{number}.pfx", "www.alice.example", serial=number)
        assert scene.reads == 1
        scene.text = TENANTS.replace("*.alice.example", "shop.alice.example")
        scene.storage.clock.advance(KEPT_S)
        await scene.handle(await scene.upload("shops/alice/4.pfx", "www.alice.example", serial=4))
        assert (await scene.record("shops/alice/4.pfx")).status is UploadStatus.REJECTED
        assert scene.reads == 2

    async def test_a_rejected_renewal_leaves_what_is_served_in_place(self) -> None:
        scene = Ruled(TENANTS)
        before = await scene.accepted("shops/alice/a.pfx", "www.alice.example")
        await scene.handle(await scene.upload("shops/alice/a.pfx", "www.bob.example", day=1))
        row = await scene.row("www.alice.example")
        assert (row.source, row.bundle_id) == ("shops/alice/a.pfx", before.bundle_id)


class TestWhereItIs:
    @pytest.fixture
    async def account(self, azurite: Emulator, tmp_path: Path) -> AsyncIterator[Account]:
        async with opened_account(azurite.connection_string, tmp_path / "key") as opened:
            yield opened

    @pytest.mark.parametrize(
        "setting",
        [
            "blob:certificates/policy.toml",
            "blob:certificates/a/b.toml",
            "blob:x",
            "blob:/policy.toml",
            "blob:policies/",
            "blob:policies/../certificates/policy.toml",
            "blob:policies/..",
            "blob:../certificates/policy.toml",
            "blob:Policies/policy.toml",
            "blob:a?b/policy.toml",
        ],
    )
    async def test_not_where_uploaders_write(self, setting: str, account: Account) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_POLICY"):
            policy_source(setting, account)

    async def test_in_a_blob(self, azurite: Emulator, account: Account) -> None:
        container = own()[:40]
        read = policy_source(f"blob:{container}/the policy.toml", account)
        named = f"blob {container}/the policy.toml, which CERTCAST_POLICY names: "
        with pytest.raises(UnavailableError, match=f"{named}the container itself is not there"):
            await read()
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
            await service.create_container(container)
            with pytest.raises(CertcastError, match=f"{named}not there"):
                await read()
            blob = service.get_blob_client(container, "the policy.toml")
            for text in (TENANTS, '{"version": 1}', "ü" * 1000, ""):
                await blob.upload_blob(text.encode(), overwrite=True)
                assert await read() == text
            await blob.upload_blob(b"\xff\xfe", overwrite=True)
            with pytest.raises(UnavailableError, match="is not UTF-8"):
                await read()

    async def test_in_a_file_or_in_the_setting_itself(self, account: Account, tmp_path: Path) -> None:
        path = tmp_path / "policy.toml"
        read = policy_source(str(path), account)
        with pytest.raises(UnavailableError, match=r"policy\.toml, which CERTCAST_POLICY names, cannot be read"):
            await read()
        path.write_text(TENANTS, encoding="utf-8")
        assert await read() == TENANTS
        with pytest.raises(UnavailableError, match="cannot be read"):
            await policy_source("a\0b", account)()
        assert await policy_source('{"version": 1}', account)() == '{"version": 1}'


def test_the_setting_is_read() -> None:
    env = {"CERTCAST_STORAGE": "UseDevelopmentStorage=true", "CERTCAST_KEY_ENCRYPTION_KEY": "file:key"}
    assert Settings.from_env(env).rules == ""
    assert Settings.from_env({**env, "CERTCAST_POLICY": " blob:policies/p.toml "}).rules == "blob:policies/p.toml"
