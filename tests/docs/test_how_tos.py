"""What the how-tos have people do, done to one local cloud: `az` is a stand-in, pipelines' steps are run as they are.

Two instances, one of the role `shared` and one of the role `books`, and a stand-in for a key vault.
"""

import asyncio
import base64
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from azure.storage.blob import BlobServiceClient
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from tests.docs import az
from tests.docs.desk import BOOKS, OWN, SHARED, Desk, Runner, runner_in
from tests.docs.shown import run_here
from tests.rigs.certificates import Issued, authority
from tests.rigs.command_line import clean_environment
from tests.rigs.deployment import ROOT
from tests.rigs.programs import needs
from tests.rigs.vault_stub import vault_stub
from tests.rigs.vault_way import vault_way
from tests.rigs.witness import PASSWORD, eventually, witnessed

HOW_TO = Path("docs/how-to")
AZ, PLANS, MIGRATING = HOW_TO / "az.md", HOW_TO / "shop-plans.md", HOW_TO / "migrating.md"
GITHUB, DEVOPS = HOW_TO / "github-actions.md", HOW_TO / "azure-devops.md"
WORKFLOW, PIPELINE = (ROOT / HOW_TO / "examples" / name for name in ("github-actions.yml", "azure-pipelines.yml"))

AZ_PASSWORD = run_here(AZ, "STORAGE=ACCOUNT")
AZ_UPLOAD = run_here(AZ, "version=$(az storage blob upload ")
AZ_WATCH = run_here(AZ, "for ((tries = 0;")
AZ_BATCH = run_here(AZ, "az storage blob upload-batch ")
AZ_DELETE = run_here(AZ, "az storage blob delete ")
FREE = run_here(PLANS, "certcast upload free-plan.pfx ")
SILVER = run_here(PLANS, "certcast upload books.pfx --name shops/books.pfx --role shared\n", alike=True)
DEDICATED = run_here(PLANS, "certcast upload books.pfx --name dedicated/books.pfx ")
NOT_SHARED = run_here(PLANS, "certcast remove shops/books.pfx")
NOT_DEDICATED = run_here(PLANS, "certcast remove dedicated/books.pfx")
AS_PFX = run_here(GITHUB, "openssl pkcs12 -export ", alike=True)

CHECK_OLD = run_here(MIGRATING, "for file in old/")
TRIAL = run_here(MIGRATING, "certcast upload trial.pfx ")
COPY = run_here(MIGRATING, "az storage blob copy start-batch ")

TENANT, SHOP, LATER = "www.books.example", "books.ecommerce.example", "www.unknown.example"
VARIABLES = {"CERTCAST_ACCOUNT": "account", "CERTIFICATE_VAULT": "shop"}

pytestmark = [
    needs("bash", "openssl"),
    pytest.mark.skipif(os.name == "nt", reason="the blocks are for a POSIX shell"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    folder, programs, secrets = (tmp_path_factory.mktemp(name) for name in ("desk", "programs", "secrets"))
    with vault_stub(tmp_path_factory.mktemp("vault")) as stub, vault_way(stub) as way:
        settings = PlatformSettings(
            agents=2,
            ports=FREE_PORTS,
            function_environment={**way.environment, "CERTCAST_KEY_VAULTS": "shop"},
            own_environment={SHARED: {"CERTCAST_ROLE": "shared"}, BOOKS: {"CERTCAST_ROLE": "books"}},
        )
        async with witnessed(settings) as cloud:
            account = cloud.platform.connection_string
            environment = clean_environment(CERTCAST_STORAGE=account)
            environment |= az.install(programs, account=account, secrets=secrets)
            environment["PATH"] = os.pathsep.join([str(programs), str(OWN), environment["PATH"]])
            yield Desk(folder=folder, cloud=cloud, way=way, secrets=secrets, environment=environment)


def put(desk: Desk, file: str, *hosts: str, password: str | None = None) -> Issued:
    """Put a PFX into the folder."""
    issued = authority().issue(*hosts)
    (desk.folder / file).parent.mkdir(exist_ok=True)
    (desk.folder / file).write_bytes(issued.pfx(password))
    return issued


async def test_the_page_on_az_uploads_watches_renews_and_removes(desk: Desk) -> None:
    (desk.folder / "password.txt").write_text(PASSWORD, encoding="utf-8")
    first = put(desk, "shop.pfx", "www.example.com", password=PASSWORD)
    assert AZ_PASSWORD.count("VAULT=PASSWORDS") == 1
    setting = AZ_PASSWORD.replace("VAULT=PASSWORDS", "VAULT=shop")
    await desk.run(setting)
    desk.way.stub.secrets["shop"] = (desk.secrets / "shop").read_text("utf-8")
    names = setting.splitlines()[0]
    assert (await desk.run(names, AZ_UPLOAD, AZ_WATCH)).strip() == "live 2/2 None"
    assert await desk.shows("www.example.com") == [first.fingerprint] * 2

    put(desk, "shop.pfx", "www.other.example", password=PASSWORD)
    told = await desk.run(names, AZ_UPLOAD, AZ_WATCH)
    assert told.startswith("rejected 0/0 host_not_covered the certificate accepted before ")
    assert await desk.shows("www.example.com") == [first.fingerprint] * 2

    second = put(desk, "certs/one.pfx", "one.example.com", password=PASSWORD)
    put(desk, "certs/two.pfx", "two.example.com", password="another one")
    await desk.run(names, AZ_BATCH)
    await desk.cloud.becomes("renewed/one.pfx", "live", live=2)
    await desk.cloud.tagged("renewed/two.pfx", certcast_status="rejected")
    [listing] = re.findall(r"az storage blob list .*", AZ_BATCH, re.DOTALL)
    rows = [row.split("\t") for row in (await desk.run(names, listing)).strip().splitlines()]
    assert [row[:3] for row in rows] == [["renewed/one.pfx", "live", "2/2"], ["renewed/two.pfx", "rejected", "0/0"]]
    assert "unreadable_bundle" in rows[1][3]
    assert await desk.shows("one.example.com") == [second.fingerprint] * 2

    await desk.run(names, AZ_DELETE)
    await desk.cloud.becomes("shops/shop.pfx", "removed", live=0)


async def test_a_shop_moves_between_the_plans_and_is_shown_the_right_certificate_at_each_step(desk: Desk) -> None:
    wildcard = put(desk, "free-plan.pfx", "*.ecommerce.example").fingerprint
    own = put(desk, "books.pfx", TENANT).fingerprint
    fallback = (await desk.shows(TENANT))[BOOKS]

    assert "live: platform/free-plan.pfx on 1/1" in await desk.run(FREE)
    assert {host: await desk.shows(host) for host in (SHOP, TENANT, LATER)} == {
        host: [wildcard, fallback] for host in (SHOP, TENANT, LATER)
    }

    assert "live: shops/books.pfx on 1/1" in await desk.run(SILVER)
    assert await desk.shows(TENANT) == [own, fallback]
    assert await desk.shows(SHOP) == [wildcard, fallback]

    assert "live: dedicated/books.pfx on 1/1" in await desk.run(DEDICATED)
    assert await desk.shows(TENANT) == [own, own]
    assert await desk.shows(LATER) == [wildcard, own]
    for name in ("shops/books.pfx", "dedicated/books.pfx"):
        assert (await desk.cloud.becomes(name, "live", live=1)).total == 1

    await desk.run(NOT_SHARED)
    assert await desk.shows(TENANT) == [wildcard, own]
    assert await desk.shows(SHOP) == [wildcard, own]

    await desk.run(SILVER)
    assert await desk.shows(TENANT) == [own, own]
    await desk.run(NOT_DEDICATED)
    assert await desk.shows(TENANT) == [own, fallback]


async def test_another_role_under_the_same_name_takes_it_away_where_it_was(desk: Desk) -> None:
    issued, host = authority().issue("www.moved.example"), "www.moved.example"
    await desk.cloud.goes_live("shops/moved.pfx", issued, live=1, Role="shared")
    before = await desk.shows(host)
    await desk.cloud.upload("shops/moved.pfx", issued.pfx(PASSWORD), Role="books")

    async def moved() -> bool:
        return (await desk.shows(host))[BOOKS] == issued.fingerprint

    await eventually(moved, "the other instance to serve it")
    await desk.cloud.becomes("shops/moved.pfx", "live", live=1)
    assert before[SHARED] == issued.fingerprint
    assert (await desk.shows(host))[SHARED] != issued.fingerprint


async def test_copied_uploads_are_taken_up_and_keep_their_passwords_where_they_were(desk: Desk) -> None:
    """A container of another name in the account of the local cloud, with passwords in its metadata."""
    put(desk, "old/good.pfx", "www.old.example", password=PASSWORD)
    put(desk, "old/bad.pfx", "www.bad.example", password="another one")
    for name in ("good", "bad"):
        (desk.folder / "old" / f"{name}.txt").write_text(PASSWORD, encoding="utf-8")
    checked = await desk.run(CHECK_OLD)
    assert re.findall(r"^(\S+) would be rejected$", checked, re.MULTILINE) == ["old/bad.pfx"]

    put(desk, "trial.pfx", "trial.example.com")
    assert TRIAL.count("--role trial ") == 1
    assert "live: trial/trial.pfx on 1/1" in await desk.run(TRIAL.replace("--role trial ", "--role books "))
    metadata = {"HostHeader": "www.old.example", "PortNumber": "443", "CertificatePassword": PASSWORD}
    with BlobServiceClient.from_connection_string(desk.cloud.platform.connection_string) as service:
        old = service.get_blob_client("old", "migrated.pfx")
        await asyncio.to_thread(service.create_container, "old")  # this process has the relay, which is to answer
        await asyncio.to_thread(old.upload_blob, (desk.folder / "old" / "good.pfx").read_bytes(), metadata=metadata)
        await desk.run(COPY)
        await desk.cloud.becomes("migrated.pfx", "live", live=2)
        left = await asyncio.to_thread(old.get_blob_properties)
        taken_up = await asyncio.to_thread(service.get_blob_client("certificates", "migrated.pfx").get_blob_properties)
    assert left.metadata == metadata
    assert taken_up.metadata.keys() == {"HostHeader", "PortNumber", "certcast_bundle"}


async def test_a_renewal_in_the_vault_is_served_and_one_that_lost_its_tags_is_taken_down(desk: Desk) -> None:
    name, host = "keyvault://shop/www-example-com", "www.vault.example"
    ours, bots = {"HostHeader": host}, {"Acmebot": json.dumps({"endpoint": "acme.example", "dnsProvider": "Azure DNS"})}

    async def new_version(tags: Mapping[str, str]) -> Issued:
        issued = authority().issue(host)
        desk.way.stub.put("www-example-com", base64.b64encode(issued.pfx(None)).decode(), **tags)
        data = {"VaultName": "shop", "ObjectName": "www-example-com", "ObjectType": "Certificate", "Version": "1"}
        kind = "Microsoft.KeyVault.CertificateNewVersionCreated"
        assert await desk.cloud.deliver("on_key_vault_event", kind, "www-example-com", data) == 202
        return issued

    for _ in ("first", "renewed"):
        issued = await new_version(ours | bots)
        await desk.cloud.serves(host, issued.fingerprint)
        await desk.cloud.becomes(name, "live", live=2)
    assert (await desk.cloud.record(name)).warnings == ()

    lost = await new_version(bots)
    await desk.cloud.becomes(name, "removed", live=0)
    assert not {issued.fingerprint, lost.fingerprint} & set(await desk.shows(host))


@pytest.fixture
def runner(desk: Desk, tmp_path: Path) -> Runner:
    return runner_in(tmp_path, desk)


def keep(desk: Desk, *hosts: str) -> Issued:
    """Put a certificate into the vault that `az keyvault secret download` reads."""
    issued = authority().issue(*hosts)
    (desk.secrets / "shop").write_bytes(base64.b64encode(issued.pfx(None)))
    return issued


async def test_the_workflow_uploads_and_fails_with_the_reasons_where_it_is_refused(desk: Desk, runner: Runner) -> None:
    [job] = yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"].values()
    issued = keep(desk, "www.example.com")
    ran = await runner.run(job, VARIABLES)
    assert ran.code == 0, ran.said
    assert "pip install --require-hashes --only-binary :all: --requirement certcast/requirements.txt\n" in ran.said
    assert "pip install --no-index --no-deps certcast/certcast-1.0-py3-none-any.whl\n" in ran.said
    assert "live: shops/shop.pfx on 2/2" in ran.said
    assert await desk.shows("www.example.com") == [issued.fingerprint] * 2

    keep(desk, "www.other.example")
    ran = await runner.run(job, VARIABLES)
    assert ran.code == 1, ran.said
    assert "host_not_covered" in ran.said
    assert "www.other.example" in ran.said
    assert not (runner.temporary / "shop.pfx").exists()
    assert await desk.shows("www.example.com") == [issued.fingerprint] * 2


async def test_what_an_acme_client_leaves_becomes_a_file_that_is_accepted(desk: Desk) -> None:
    issued = authority().issue("www.acme.example")
    key = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in (issued.certificate, *issued.chain))
    (desk.folder / "privkey.pem").write_bytes(key)
    (desk.folder / "fullchain.pem").write_bytes(chain)
    made = await desk.try_out(AS_PFX, "-e", RUNNER_TEMP=str(desk.folder))
    assert made.code == 0, made.said
    await desk.cloud.account.uploads.write("acme.pfx", (desk.folder / "shop.pfx").read_bytes(), {})
    await desk.cloud.becomes("acme.pfx", "live", live=2)
    assert await desk.shows("www.acme.example") == [issued.fingerprint] * 2


async def test_the_pipeline_uploads_and_fails_with_the_reason_where_it_is_rejected(desk: Desk, tmp_path: Path) -> None:
    [job] = yaml.safe_load(PIPELINE.read_text("utf-8"))["jobs"]
    [script] = [step["inputs"]["inlineScript"] for step in job["steps"] if "inputs" in step]
    for macro, value in {"Agent.TempDirectory": str(tmp_path), "account": "account", "vault": "shop"}.items():
        assert f"$({macro})" in script
        script = script.replace(f"$({macro})", value)
    issued = keep(desk, "www.example.com")
    ran = await desk.try_out(script)
    assert (ran.code, ran.said.splitlines()[-1]) == (0, "shops/shop.pfx: live 2/2"), ran.said

    keep(desk, "www.other.example")
    ran = await desk.try_out(script)
    assert ran.code == 1, ran.said
    said = ran.said.splitlines()[-1]
    assert said.startswith(
        "##vso[task.logissue type=error]shops/shop.pfx: rejected. host_not_covered the certificate "
    ), ran.said
    assert not (tmp_path / "shop.pfx").exists()
    assert await desk.shows("www.example.com") == [issued.fingerprint] * 2
