"""What the pages have people do to a running deployment, done to one local cloud: the README's, as it is written.

Only the addresses are others: the README's local cloud is on the standard ports, a test's on free ones, and an account
in Azure is this one. `az` is the stand-in of `az.py`.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import BlobClient

from instance_agent.installing.probe import served_fingerprint
from local_azure.state_folder import HOST_KEYS, LOGS
from tests.docs import afternoon
from tests.docs.az import install
from tests.docs.shown import run_here
from tests.rigs.certificates import authority
from tests.rigs.command_line import clean_environment
from tests.rigs.pages import DEPLOY, OPERATIONS, README, VERDICTS, blocks, section, text_of
from tests.rigs.programs import needs

COMMANDS, POLICY, UPLOADING = Path("docs/commands.md"), Path("docs/policy.md"), Path("docs/uploading.md")
DOCTOR_PAGE, HISTORY_PAGE = Path("docs/doctor.md"), Path("docs/history.md")

START = run_here(README, 'export PATH="$PWD/.venv/bin:$PATH"    #')
UPLOAD = run_here(README, 'export PATH="$PWD/.venv/bin:$PATH"\n')
AZ = run_here(README, "az storage blob upload ")
PROGRAM = run_here(README, "import time")
REMOVE = run_here(README, "certcast remove ")
AZ_IN_AZURE = run_here(UPLOADING, "az storage blob upload ")
FREE_PLAN = run_here(UPLOADING, "certcast upload free-plan.pfx ")
SILVER_PLAN = run_here(UPLOADING, "certcast upload books.pfx ")
AZ_WITH_A_REFERENCE = run_here(COMMANDS, "az storage blob upload ")
CHANGE_METADATA = run_here(VERDICTS, "from azure.core import MatchConditions")
UPLOAD_WITH_A_PORT = run_here(VERDICTS, "certcast upload shop.pfx ")
FAILED_LINES = run_here(COMMANDS, "certcast status --failed --json-lines")
COMPLETION = run_here(COMMANDS, 'eval "$(certcast completion bash)"')
ASK_HISTORY = run_here(HISTORY_PAGE, "certcast history --since 1d")
LOGS_OF_ONE = run_here(HISTORY_PAGE, "certcast logs shop.pfx")
DOCTOR = run_here(POLICY, "CERTCAST_POLICY=policy.toml certcast doctor")
AFTERNOON = [
    run_here(DEPLOY, begins)
    for begins in (
        "az login",
        "GROUP=$(azd env get-value ",
        "curl --fail ",
        "KEY=$(az functionapp keys list ",
        "CERTCAST_FUNCTION_KEY=$KEY certcast doctor",
        "STORAGE_ID=$(az storage account show ",
    )
]
"""From `azd up` to `azd down`, as the page has it; what agents and servers need is the local cloud's."""
STATUS_API = AFTERNOON[3]
DOCTOR_HERE = run_here(DOCTOR_PAGE, "certcast doctor\n")
DOCTOR_OF_THE_FUNCTION = run_here(DOCTOR_PAGE, "export CERTCAST_FUNCTION_KEY=")
KEY_IDS = run_here(OPERATIONS, "az storage blob list ")

OUTPUTS = {
    "AZURE_RESOURCE_GROUP": "rg-certcast",
    "CERTCAST_AGENT_CLIENT_ID": "11111111-2222-3333-4444-555555555555",
    "CERTCAST_AGENT_IDENTITY": "/subscriptions/x/resourceGroups/x/providers/Microsoft.ManagedIdentity/x/agent",
    "CERTCAST_FUNCTION_APP": "certcast-app",
    "CERTCAST_KEY_ENCRYPTION_KEY": "https://certcast.vault.azure.net/keys/certcast",
    "CERTCAST_STORAGE_ACCOUNT": "certcaststate",
}
"""What infra/main.bicep puts out, as far as the page asks for it."""
SAID = "--- said"

[STATUS] = blocks(section(README, "## Your first upload"), "")
EMULATOR = "UseDevelopmentStorage=true"
STARTED_S, PATIENCE_S = 90, 40
HOST, PASSWORD = "www.example.com", "secret"

pytestmark = [
    needs("openssl", "bash", "curl"),
    pytest.mark.skipif(os.name == "nt", reason="the blocks are for a POSIX shell"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A folder in which `.venv` is this environment, with the README's local cloud running in it.

    Attributes:
        folder: The folder; blocks run in it.
        connection_string: The storage account.
        agent: Where its first agent serves.
        environment: What blocks run with; their programs are found, but for those that README's `export` brings.
    """

    folder: Path
    connection_string: str = field(repr=False)
    agent: str
    environment: dict[str, str] = field(repr=False)

    def run(self, script: str, **environment: str) -> str:
        """Run one block, or several, as one shell does; answers what it says on stdout."""
        script = script.replace(EMULATOR, shlex.quote(self.connection_string)).replace("127.0.0.1:8443", self.agent)
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def run_python(self, program: str) -> str:
        """Run a program of a page in a file of its own."""
        (self.folder / "program.py").write_text(program.replace(EMULATOR, self.connection_string), encoding="utf-8")
        return self.run("python program.py", PATH=self.with_certcast)

    @property
    def with_certcast(self) -> str:
        return os.pathsep.join([str(self.folder / ".venv" / "bin"), self.environment["PATH"]])

    @property
    def functions_url(self) -> str:
        log = (self.folder / ".certcast" / LOGS / "functions.log").read_text(encoding="utf-8")
        [url] = re.findall(r"Functions host is listening at (http://\S+)", log)
        return str(url)

    def blob(self, name: str) -> BlobClient:
        return BlobClient.from_connection_string(self.connection_string, "certificates", name)

    def metadata(self, name: str) -> dict[str, str]:
        with self.blob(name) as blob:
            return dict(blob.get_blob_properties().metadata)

    def sweep(self) -> None:
        """Have the Function sweep now."""
        header = f"x-functions-key: {keys_of(self.folder)['master']}"
        asked = f"curl --fail --silent --data '{{}}' --header @- {self.functions_url}/admin/functions/sweep"
        self.run(f"{asked} <<<{shlex.quote(header)}")

    def upload(self, name: str) -> dict[str, Any]:
        """What `certcast status` says of an upload."""
        [found] = json.loads(self.run(f"certcast status {name} --json", PATH=self.with_certcast))["uploads"]
        assert isinstance(found, dict)
        return found

    def becomes(self, name: str, status: str, *, unlike: str = "") -> dict[str, Any]:
        """Wait until a blob's tags tell of a status, and answer what `certcast status` says then.

        Args:
            name: The blob.
            status: What is waited for.
            unlike: The version that the tags are about so far.
        """
        until = time.monotonic() + PATIENCE_S
        with self.blob(name) as blob:
            while True:
                tags = blob.get_blob_tags()
                if tags.get("certcast_status") == status and tags["certcast_version"] != unlike:
                    return self.upload(name)
                assert time.monotonic() < until, tags
                time.sleep(0.1)

    def told_version(self, name: str) -> str:
        """The version that the blob's tags are about."""
        with self.blob(name) as blob:
            return blob.get_blob_tags()["certcast_version"]


def keys_of(folder: Path) -> dict[str, str]:
    keys = json.loads((folder / ".certcast" / HOST_KEYS).read_text(encoding="utf-8"))
    assert isinstance(keys, dict)
    return keys


def without_programs() -> dict[str, str]:
    """An environment in which the programs are not found before the README's `export` says where they are."""
    inherited = clean_environment()
    own = str(Path(sys.executable).parent)
    inherited["PATH"] = os.pathsep.join(folder for folder in inherited["PATH"].split(os.pathsep) if folder != own)
    return inherited


@contextmanager
def cloud_of_the_readme(folder: Path, start: str = START) -> Iterator[str]:
    """What `certcast up` prints when it is up; Ctrl-C, which a terminal sends to all of its processes, ends it."""
    printed = folder / "up.txt"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-ec", f"{start.rstrip()} --free-ports"],
            cwd=folder,
            env=without_programs(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + STARTED_S
        while "logs are in" not in printed.read_text():
            assert process.poll() is None, printed.read_text()
            assert time.monotonic() < until, printed.read_text()
            time.sleep(0.1)
        yield printed.read_text()
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
        assert "Traceback" not in printed.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    folder = tmp_path_factory.mktemp("clone")
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    programs = folder / "programs"
    programs.mkdir()
    with cloud_of_the_readme(folder) as printed:
        [connection_string] = re.findall(r"^  (DefaultEndpointsProtocol=\S+)$", printed, re.MULTILINE)
        [agent] = re.findall(r"^  agent-0 +https://(\S+)$", printed, re.MULTILINE)
        stand_in = install(programs, account=connection_string, function_key=keys_of(folder)["function"])
        environment = without_programs() | stand_in | {"CERTCAST_STORAGE": connection_string}
        environment["PATH"] = os.pathsep.join([str(programs), environment["PATH"]])
        yield Clone(folder=folder, connection_string=connection_string, agent=agent, environment=environment)


def as_shape(table: str) -> list[str]:
    """The lines of a table without widths and numbers."""
    words = (re.sub(r"\d+", "N", " ".join(line.split())) for line in table.splitlines())
    return [re.sub("─+", "─", line) for line in words if line]


def test_the_first_upload_of_the_readme_works_as_it_is_written(clone: Clone) -> None:
    said = clone.run(UPLOAD)
    assert said.startswith("accepted: www.example.com:443\n")
    assert re.search(r"^live: shop\.pfx on 3/3 in [\d.]+ s$", said, re.MULTILINE)
    assert re.search(r"^subject=CN ?= ?www\.example\.com$", said, re.MULTILINE)
    shown = as_shape(STATUS)
    assert [line for line in as_shape(said) if line in shown] == shown

    assert PROGRAM.count(EMULATOR) == 1
    assert clone.run_python(PROGRAM).strip() == "live 3/3"

    before = clone.told_version("shop.pfx")
    clone.run(AZ)
    clone.becomes("shop.pfx", "live", unlike=before)
    assert clone.metadata("shop.pfx").keys() == {"HostHeader", "certcast_bundle"}

    removed = clone.run(f"{UPLOAD.splitlines()[0]}\n{REMOVE}")
    assert "removed, and served nowhere any more: shop.pfx" in removed


@pytest.fixture
def pfx(clone: Clone) -> Path:
    """`shop.pfx`, as the pages name it, and its password in `password.txt`; nothing of that name is uploaded."""
    with clone.blob("shop.pfx") as blob:
        if blob.exists():
            blob.delete_blob()
    (clone.folder / "password.txt").write_text(f"{PASSWORD}\n", encoding="utf-8")
    made = clone.folder / "shop.pfx"
    made.write_bytes(authority().issue(HOST, "other.example.com").pfx(PASSWORD))
    return made


@pytest.mark.usefixtures("pfx")
def test_an_upload_by_az_is_taken_up(clone: Clone) -> None:
    clone.run(AZ_IN_AZURE)
    assert clone.becomes("shop.pfx", "live")["live"] == 3


@pytest.mark.usefixtures("pfx")
def test_an_upload_by_az_with_a_reference_to_its_password_has_it_looked_up(clone: Clone) -> None:
    clone.run(AZ_WITH_A_REFERENCE)
    said = clone.becomes("shop.pfx", "rejected")
    assert [violation["code"] for violation in said["violations"]] == ["password_secret_unavailable"]


def test_changing_one_line_of_the_metadata_keeps_the_others_before_and_after_it_is_served(
    clone: Clone, pfx: Path
) -> None:
    metadata = {"HostHeader": HOST, "portnumber": "https", "CertificatePassword": PASSWORD}
    with clone.blob("shop.pfx") as blob:
        blob.upload_blob(pfx.read_bytes(), metadata=metadata)
    said = clone.becomes("shop.pfx", "rejected")
    assert [violation["code"] for violation in said["violations"]] == ["invalid_port"]

    clone.run_python(CHANGE_METADATA)
    assert clone.metadata("shop.pfx") == {"HostHeader": HOST, "PortNumber": "443", "CertificatePassword": PASSWORD}
    clone.sweep()
    assert clone.becomes("shop.pfx", "live")["hosts"] == [HOST]

    marked = clone.metadata("shop.pfx")
    assert marked.keys() == {"HostHeader", "PortNumber", "certcast_bundle"}
    assert CHANGE_METADATA.count('{"PortNumber": "443"}') == 1
    clone.run_python(CHANGE_METADATA.replace('{"PortNumber": "443"}', '{"HostHeader": "other.example.com"}'))
    assert clone.metadata("shop.pfx") == marked | {"HostHeader": "other.example.com"}
    before = clone.told_version("shop.pfx")
    clone.sweep()
    assert clone.becomes("shop.pfx", "live", unlike=before)["hosts"] == ["other.example.com"]


@pytest.mark.usefixtures("pfx")
def test_uploading_again_with_a_port_is_all_that_a_wrong_one_takes(clone: Clone) -> None:
    assert "live: shop.pfx on 3/3 in " in clone.run(UPLOAD_WITH_A_PORT, PATH=clone.with_certcast)


def shown_to(clone: Clone, *names: str | None) -> list[str]:
    """The certificates that clients are shown that ask for these names, None for one that asks for none."""
    address, _, port = clone.agent.rpartition(":")
    return [asyncio.run(served_fingerprint((address, int(port)), name, timeout_s=10)) for name in names]


def test_a_platforms_free_plan_answers_where_no_shop_of_the_silver_plan_does(clone: Clone) -> None:
    [own] = shown_to(clone, None)
    first = authority().issue("*.ecommerce.example", not_before=datetime.now(UTC) - timedelta(days=9))
    second = authority().issue("*.second.example")
    books = authority().issue("www.books.example")
    strangers = (None, "www.unknown.example", "a.b.ecommerce.example")
    (clone.folder / "free-plan.pfx").write_bytes(first.pfx(None))
    (clone.folder / "books.pfx").write_bytes(books.pfx(None))
    path = clone.with_certcast
    assert "accepted: *.ecommerce.example:443, the default of port 443" in clone.run(
        f"certcast check free-plan.pfx --default && {FREE_PLAN}", PATH=path
    )
    assert set(shown_to(clone, "www.books.example", "alice.ecommerce.example", *strangers)) == {first.fingerprint}
    assert "live: silver/books.pfx on 3/3" in clone.run(SILVER_PLAN, PATH=path)
    assert shown_to(clone, "www.books.example", *strangers) == [books.fingerprint, *[first.fingerprint] * 3]
    assert "*.ecommerce.example:443, the default of port 443" in clone.run("certcast status", PATH=path)

    (clone.folder / "second.pfx").write_bytes(second.pfx(None))
    assert "live: second.pfx on 3/3" in clone.run("certcast upload second.pfx --default", PATH=path)
    assert set(shown_to(clone, *strangers[:2])) == {second.fingerprint}
    assert shown_to(clone, "alice.ecommerce.example") == [first.fingerprint]
    told = clone.upload("platform/free-plan.pfx")
    assert (told["status"], told["live"], told["default"]) == ("live", 3, True)
    assert told["reason"] == "the default of port 443 is served from second.pfx"

    clone.run("certcast remove second.pfx", PATH=path)
    assert set(shown_to(clone, *strangers)) == {first.fingerprint}
    clone.run("certcast remove platform/free-plan.pfx", PATH=path)
    assert shown_to(clone, "www.books.example", *strangers) == [books.fingerprint, *[own] * 3]


def here(clone: Clone, script: str) -> str:
    """With this cloud's addresses in place of Azure's."""
    there = {
        "https://$APP.azurewebsites.net": clone.functions_url,
        ' --account "$STORAGE"': "",
        "INSTANCE:443": clone.agent,
    }
    for azure, local in there.items():
        script = script.replace(azure, local)
    return script


def test_an_operator_s_afternoon_from_a_clone_to_a_certificate_and_back(clone: Clone) -> None:
    """One shell, in which each block goes on from what the ones before it set; `certcast` is where `pip` put it."""
    issued = authority().issue("test.example.com")
    (clone.folder / "test.pfx").write_bytes(issued.pfx(None))
    programs = clone.folder / "afternoon"
    programs.mkdir()
    environment = afternoon.install(programs, OUTPUTS) | {
        "HOME": str(clone.folder),
        "PATH": os.pathsep.join([str(programs), clone.environment["PATH"]]),
    }
    script = "".join(f"{block}echo '{SAID}'\n" for block in AFTERNOON)
    parts = clone.run(here(clone, script), **environment).split(f"{SAID}\n")
    deployed, agents, works, api, doctor, removed, _ = parts
    assert not deployed.strip()
    assert not agents.strip()
    settings = dict(line.split("=", 1) for line in (clone.folder / "agent.env").read_text("utf-8").splitlines())
    assert settings == {
        "CERTCAST_STORAGE__accountName": OUTPUTS["CERTCAST_STORAGE_ACCOUNT"],
        "CERTCAST_STORAGE__clientId": OUTPUTS["CERTCAST_AGENT_CLIENT_ID"],
        "CERTCAST_KEY_ENCRYPTION_KEY": OUTPUTS["CERTCAST_KEY_ENCRYPTION_KEY"],
    }
    assert works.startswith('{"status": "ok"}')
    assert works.count(" ready ") == 3
    assert "live: test.pfx on 3/3 in " in works
    assert issued.fingerprint.upper() in works.replace(":", "")
    assert "removed, and served nowhere any more: test.pfx" in works
    assert "uploads" in json.loads(api)
    assert checks_in(doctor)["Function: key file"] == checks_in(doctor)["events"] == "ok"
    assert not removed.strip()


def test_asking_the_status_api_and_which_key_seals(clone: Clone, pfx: Path) -> None:
    with clone.blob("shop.pfx") as blob:
        blob.upload_blob(pfx.read_bytes(), metadata={"CertificatePassword": PASSWORD})
    clone.becomes("shop.pfx", "live")
    named = "GROUP=g APP=a STORAGE=s\n"
    asked = json.loads(clone.run(named + here(clone, STATUS_API)))
    assert "shop.pfx" in {upload["name"] for upload in asked["uploads"]}
    assert re.fullmatch(r'( *\d+ "KeyId": *"[^"]+"\n)+', clone.run(named + KEY_IDS))


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_what_failed_is_told_line_by_line(clone: Clone) -> None:
    with clone.blob("broken/a.pfx") as blob:
        blob.upload_blob(b"no certificate", metadata={"CertificatePassword": PASSWORD})
    clone.becomes("broken/a.pfx", "rejected")
    assert "broken/a.pfx" in clone.run(FAILED_LINES, PATH=clone.with_certcast).splitlines()
    shown = clone.run("certcast status --failed --host example.com", PATH=clone.with_certcast)
    assert "broken/a.pfx" not in shown
    with clone.blob("broken/a.pfx") as blob:
        blob.delete_blob()


def test_what_became_of_uploads_is_shown_as_the_page_on_history_says(clone: Clone, pfx: Path) -> None:
    with clone.blob("shop.pfx") as blob:
        blob.upload_blob(pfx.read_bytes(), overwrite=True, metadata={"CertificatePassword": PASSWORD})
    clone.becomes("shop.pfx", "live")
    with clone.blob("history/bad.pfx") as blob:
        blob.upload_blob(b"no certificate", metadata={"CertificatePassword": PASSWORD})
    clone.becomes("history/bad.pfx", "rejected")
    newest, on_host, rejected = (clone.run(line, PATH=clone.with_certcast) for line in ASK_HISTORY.strip().splitlines())
    for kind in ("accepted", "live", "rejected"):
        assert re.search(rf"^ \d{{4}}-\d\d-\d\d [\d:]{{8}} +{kind} ", newest, re.MULTILINE), newest
    assert "shop.pfx" in on_host
    assert "history/bad.pfx" not in on_host
    assert "history/bad.pfx" in rejected
    assert " live " not in rejected
    logs = clone.run(LOGS_OF_ONE, PATH=clone.with_certcast)
    stages = [stage for stage in ("uploaded", "noticed", "judged", "told", "installed", "live") if f" {stage} " in logs]
    assert stages == ["uploaded", "noticed", "judged", "told", "installed", "live"], logs
    events = json.loads(
        clone.run(
            "timeout 30 certcast events --since 10m --json-lines | grep -m 1 history/bad.pfx",
            PATH=clone.with_certcast,
        )
    )
    assert events["event_type"] == "Certcast.CertificateRejected"
    with clone.blob("history/bad.pfx") as blob:
        blob.delete_blob()


def test_the_shell_completes_commands_and_uploads(clone: Clone, pfx: Path) -> None:
    with clone.blob("completed/shop.pfx") as blob:
        blob.upload_blob(pfx.read_bytes(), metadata={"CertificatePassword": PASSWORD})
    clone.becomes("completed/shop.pfx", "live")
    pressed = """
    COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()
    _certcast_completion certcast; printf '%s\n' "${{COMPREPLY[@]}}"
    """
    typed = ("certcast redep", "certcast status completed/s", "certcast status --js")
    script = COMPLETION + "".join(pressed.format(line=line) for line in typed)
    assert clone.run(script, PATH=clone.with_certcast).split() == [
        *("redeploy", "completed/shop.pfx", "--json", "--json-lines"),
    ]
    clone.run("certcast remove completed/shop.pfx", PATH=clone.with_certcast)


def test_trying_a_policy_on_what_is_there(clone: Clone) -> None:
    [policy] = [block for block in blocks(text_of(POLICY), "toml") if "[[uploads]]" in block]
    assert policy.count('"3F:7A:…"') == 1
    written = policy.replace("3F:7A:…", "3F" * 32)
    (clone.folder / "policy.toml").write_text(written, encoding="utf-8")
    clone.run(f"{DOCTOR.rstrip()} --json", PATH=clone.with_certcast)


def checks_in(said: str) -> dict[str, str]:
    """The checks by name, with what each came to."""
    lines = re.findall(r"^(\S.*?)  +(ok|warning|wrong|not looked at)(?:  |$)", said, re.MULTILINE)
    return {name: result for name, result in lines if name not in {"warning", "wrong"}}


def test_the_doctor_looks_at_what_its_page_shows(clone: Clone) -> None:
    here, function, broken = blocks(text_of(DOCTOR_PAGE), "text")
    assert checks_in(here).keys() == checks_in(broken).keys()
    assert checks_in(clone.run(DOCTOR_HERE, PATH=clone.with_certcast)) == checks_in(here)

    assert DOCTOR_OF_THE_FUNCTION.count("http://127.0.0.1:7071") == 1
    script = DOCTOR_OF_THE_FUNCTION.replace("http://127.0.0.1:7071", clone.functions_url)
    said = checks_in(clone.run(script, PATH=clone.with_certcast))
    assert {name: result for name, result in said.items() if name.startswith("Function")} == checks_in(function)
