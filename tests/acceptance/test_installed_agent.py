"""The agent as it is installed: on a machine with nothing of ours, from the download to a served certificate and back.

The machine is a Debian 12 of its own under systemd, its HAProxy serves, the cloud is `certcast up` on this machine, and
the commands are docs/agents.md's, as they stand there. Only addresses and ports are others.
"""

import asyncio
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import pytest
import yaml

from devtools.packages import deb
from instance_agent.installing.probe import served_fingerprint
from local_azure.processes.listening import free_port
from tests.docs.shown import run_here
from tests.rigs.certificates import authority
from tests.rigs.clean_root import CleanRoot, clean_root
from tests.rigs.command_line import clean_environment
from tests.rigs.deployment import ROOT
from tests.rigs.pages import AGENTS, blocks, section, text_of
from tests.rigs.programs import needs
from tests.rigs.releases import Release, another, built, served, wheels_of

PACKAGE = run_here(AGENTS, 'curl --fail --remote-name-all "$RELEASE/SHA256SUMS" "$RELEASE/certcast-agent')
SCRIPT = run_here(AGENTS, "wheel=certcast-")
RESTART = run_here(AGENTS, "sudo certcast-agent restart")
HAPROXY = run_here(AGENTS, "sudo install -d -o certcast")
ROLL_BACK = run_here(AGENTS, "sudo sh install.sh --rollback")
REMOVE = run_here(AGENTS, "sudo apt-get remove certcast-agent")
[SETTINGS] = blocks(section(AGENTS, "## Settings"), "ini")
GO_BACK = "sudo apt-get install --allow-downgrades ./certcast-agent_OLDER.deb"
CLOUD_INIT = ROOT / "infra" / "agent" / "cloud-init.yaml"

HOST, UNIT, STARTED_S, PATIENCE_S = "www.example.com", "certcast-agent.service", 90, 40
NEW, BAD = "99.1.0", "99.2.0"
STARTS = b'sys.exit(imported("instance_agent.command").main())'
NEVER_READY = b'sys.exit(1 if "run" in sys.argv else imported("instance_agent.command").main())'
"""How a version behaves that passes its preflight and ends at once when it is to serve."""

pytestmark = [
    needs("mmdebstrap", "systemd-nspawn", "dpkg-deb", "haproxy"),
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to boot a machine"),
    pytest.mark.timeout(420),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A machine, what is installed on it, and the cloud that it is to serve.

    Attributes:
        root: The machine.
        releases: Versions, by name: this checkout's first.
        release_url: Where the folders of these are served.
        cloud: The connection string.
        tls: Where the machine's HAProxy listens.
        settings: Its agent's settings file.
    """

    root: CleanRoot
    releases: dict[str, Release]
    release_url: str
    cloud: str = field(repr=False)
    tls: tuple[str, int]
    settings: str = field(repr=False)

    def does(self, script: str, version: str = "", **variables: str) -> str:
        """Run a block of the page, for a version; pip is to reach no index."""
        return self.root.run(script, **self.variables(version) | variables)

    def fails(self, script: str, version: str = "", *, code: int = 1, **variables: str) -> str:
        """What a block says that fails with this exit code."""
        ran = self.root.ran(script, **self.variables(version) | variables)
        assert ran.returncode == code, ran.stdout
        return ran.stdout

    def variables(self, version: str) -> dict[str, str]:
        """What the blocks of the page take; the first version's unless another is named."""
        version = version or next(iter(self.releases))
        return {
            "RELEASE": f"{self.release_url}/{self.releases[version].folder.name}",
            "VERSION": version,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "/wheels",
        }

    def set_up(self, *others: str) -> None:
        """Give the agent its settings, and further ones."""
        self.root.write("/etc/certcast/agent.env", "\n".join([self.settings, *others, ""]).encode())

    @property
    def process(self) -> str:
        """The agent's process id there."""
        return self.root.run(f"systemctl show {UNIT} --property=MainPID --value").strip()

    @property
    def current(self) -> str:
        """The version that install.sh has made the current one."""
        return self.root.run("readlink /opt/certcast/current").strip().removeprefix("versions/").rpartition("-")[0]

    def goes_live(self, folder: Path) -> str:
        """Upload a new certificate, wait until it is live, and tell its fingerprint."""
        issued = authority().issue(HOST)
        pfx = folder / "shop.pfx"
        pfx.write_bytes(issued.pfx("secret"))
        upload = [sys.executable, "-m", "operator_cli", "upload", str(pfx), "--password-stdin"]
        environment = clean_environment(CERTCAST_STORAGE=self.cloud)
        done = subprocess.run(upload, input="secret", env=environment, capture_output=True, text=True, check=False)
        assert re.search(r"^live: shop\.pfx on 2/2 ", done.stdout, re.MULTILINE), done.stdout + done.stderr
        assert self.seen() == issued.fingerprint
        return issued.fingerprint

    def seen(self) -> str:
        """The certificate that the machine's HAProxy serves."""
        return asyncio.run(served_fingerprint(self.tls, HOST, timeout_s=5))

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """Meanwhile shake hands all the time; every handshake shows the certificate."""
        expected, over, seen = self.seen(), Event(), list[str]()

        def shake() -> None:
            while not over.wait(0.1):
                try:
                    seen.append(self.seen())
                except OSError as error:
                    seen.append(repr(error))

        shaking = Thread(target=shake)
        shaking.start()
        try:
            yield
        finally:
            over.set()
            shaking.join()
        assert len(seen) > 2
        assert set(seen) == {expected}


@contextmanager
def local_cloud(folder: Path) -> Iterator[str]:
    """`certcast up` with one agent of its own; what it printed once it was up."""
    folder.mkdir()
    printed = folder / "up.txt"
    with printed.open("wb") as output:
        up = subprocess.Popen(
            [sys.executable, "-m", "operator_cli", "up", "--agents", "1", "--free-ports", "--state", folder],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + STARTED_S
        while "logs are in" not in printed.read_text():
            assert up.poll() is None, printed.read_text()
            assert time.monotonic() < until, printed.read_text()
            time.sleep(0.1)
        yield printed.read_text()
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(STARTED_S)


def releases_of(folder: Path, wheels: Path) -> dict[str, Release]:
    """This checkout's version, a newer one, and one that does not become ready; and the wheels that they all need."""
    first = built(folder / "first")
    wheels_of(first, wheels)
    agent = (ROOT / "instance_agent" / "__main__.py").read_bytes()
    assert STARTS in agent
    bad = {"instance_agent/__main__.py": agent.replace(STARTS, NEVER_READY)}
    others = [another(first, NEW), another(first, BAD, package=False, code=bad)]
    return {each.version: each for each in (first, *others)}


def haproxy_configuration(port: int) -> bytes:
    """The page's, on another port, and with the socket that the page on agents gives to certcast."""
    [text] = [block for block in blocks(text_of(Path("docs/targets/haproxy.md")), "") if "stats socket" in block]
    [line] = re.findall(r"`(stats socket [^`]+)` in `haproxy.cfg`", text_of(AGENTS))
    assert line.startswith("stats socket /run/haproxy/admin.sock mode 600 level admin")
    text = text.replace("stats socket /run/haproxy/admin.sock mode 600 level admin", line)
    assert "bind :443 " in text
    return text.replace("bind :443 ", f"bind 127.0.0.1:{port} ").encode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, wheels = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("wheels")
    (folder / "releases").mkdir()
    port, health = free_port(), free_port()
    with served(folder / "releases") as server, ThreadPoolExecutor() as beside:
        building = beside.submit(releases_of, folder / "releases", wheels)
        with (
            clean_root(tmp_path_factory.mktemp("machine"), {"/wheels": wheels}) as root,
            local_cloud(folder / "cloud") as printed,
        ):
            releases = building.result()
            [cloud] = re.findall(r"^  (DefaultEndpointsProtocol=\S+)$", printed, re.MULTILINE)
            given = {
                "CERTCAST_STORAGE": cloud,
                "CERTCAST_KEY_ENCRYPTION_KEY": "file:/etc/certcast/key",
                "CERTCAST_TARGET": "haproxy",
                "CERTCAST_ROLE": "web",
                "CERTCAST_INSTANCE": "clean-root",
                "CERTCAST_HEALTH_PORT": str(health),
                "CERTCAST_HAPROXY_PORT_OFFSET": str(port - 443),
            }
            assert set(re.findall(r"^(\w+?)(?:__\w+)?=", SETTINGS, re.MULTILINE)) <= set(given)
            [key] = (folder / "cloud").glob("*.key")
            issued = authority().issue("fallback.example.com")
            root.run("mkdir -p /etc/certcast; echo 'APT::Get::Assume-Yes true;' > /etc/apt/apt.conf.d/yes")
            root.write("/etc/haproxy/fallback.pem", issued.bundle().to_pem())
            root.write("/etc/haproxy/haproxy.cfg", haproxy_configuration(port))
            root.write("/etc/certcast/key", key.read_bytes())
            yield Site(
                root=root,
                releases=releases,
                release_url=f"http://127.0.0.1:{server.server_port}",
                cloud=cloud,
                tls=("127.0.0.1", port),
                settings="\n".join(f"{name}={value}" for name, value in given.items()),
            )
        server.shutdown()


def test_the_package_from_the_download_to_a_served_certificate(site: Site, tmp_path: Path) -> None:
    said = site.does(PACKAGE, VERSION=deb._debian(next(iter(site.releases))))
    assert f"{next(iter(site.releases.values())).package.name}: OK" in said
    assert site.root.run("stat --format '%a %U:%G' /etc/certcast/agent.env") == "600 root:root\n"
    if not site.root.booted:
        return
    assert "not started: write /etc/certcast/agent.env, then run `certcast-agent restart`" in said
    site.set_up()
    site.does(f"{HAPROXY}chown certcast /etc/certcast/key\nsystemctl restart haproxy\n")
    assert site.does(RESTART).endswith("certcast-agent: ready\n")
    assert site.root.run(f"stat --format %U /proc/{site.process}") == "certcast\n"
    assert site.root.run(f"systemd-analyze verify {UNIT} 2>&1") == ""
    site.goes_live(tmp_path)


def test_the_package_up_and_back_while_all_goes_on(site: Site) -> None:
    first = next(iter(site.releases))
    install = upgrade_of_cloud_init(site)
    if not site.root.booted:
        site.does(install.replace("certcast-agent restart\n", ""), NEW)
        return
    with site.unbroken():
        before = site.process
        site.set_up("CERTCAST_TARGET=apache")
        said = site.fails(install, NEW, code=2)
        assert "CERTCAST_TARGET in /etc/certcast/agent.env must be one of caddy" in said
        assert site.process == before
        site.set_up()
        assert site.does(RESTART).endswith("certcast-agent: ready\n")
        assert site.process != before
        assert GO_BACK in text_of(AGENTS)
        package = site.releases[first].package.name
        site.does(f"cp {package} certcast-agent_OLDER.deb\n{GO_BACK}\ncertcast-agent wait")
    assert site.root.run("dpkg-query --show --showformat '${Version}' certcast-agent").startswith(deb._debian(first))


def upgrade_of_cloud_init(site: Site) -> str:
    """What cloud-init runs, for the newer package; its lists of packages are not fetched."""
    [script] = yaml.safe_load(CLOUD_INIT.read_text(encoding="utf-8"))["runcmd"]
    package = site.releases[NEW].package
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    script = script.replace("=RELEASE", '="$RELEASE"').replace("SHA256 ", f"{digest} ")
    return str(script).replace("VERSION", NEW).replace("apt-get update\n", "")


def test_the_package_goes_and_leaves_what_is_served(site: Site) -> None:
    remove, purge = (re.split(r"\s+#", line) for line in REMOVE.splitlines())
    assert "purge" in remove[1]
    if site.root.booted:
        with site.unbroken():
            site.does(remove[0])
            assert site.root.run("test -e /etc/certcast/agent.env; cat /etc/certcast/agent.env") == f"{site.settings}\n"
            site.does(remove[0].replace("remove", "purge"))
    else:
        site.does(remove[0].replace("remove", "purge"))
    assert leftovers(site) == LEFT
    assert "--purge" in purge[1]


def test_install_sh_from_the_download_to_a_served_certificate(site: Site, tmp_path: Path) -> None:
    first = next(iter(site.releases))
    if not site.root.booted:
        said = site.does(f"umask 077\n{SCRIPT}")
        assert "is installed and not started: write /etc/certcast/agent.env" in said
        return
    site.set_up("CERTCAST_HAPROXY_FOLDER=/srv/nowhere")
    said = site.fails(f"umask 077\n{SCRIPT}")
    assert "key file /etc/certcast/key cannot be read (Permission denied)" in said
    assert "is installed and not started: put that right, then run `certcast-agent restart`" in said
    site.does(f"{HAPROXY}chown certcast /etc/certcast/key\nsystemctl restart haproxy\n")
    assert "CERTCAST_HAPROXY_FOLDER: /srv/nowhere is not a folder this account can write" in site.fails(RESTART)
    site.set_up()
    assert site.does(RESTART).endswith("certcast-agent: ready\n")
    assert site.root.run("stat --format %a /opt/certcast/current/ /etc/certcast/agent.env").split() == ["755", "600"]
    assert site.root.run(f"stat --format %U /proc/{site.process}") == "certcast\n"
    assert site.current == first
    site.goes_live(tmp_path)


def test_install_sh_up_and_back_while_all_goes_on(site: Site) -> None:
    if not site.root.booted:
        return
    first = site.current
    with site.unbroken():
        assert "certcast-agent: ready\n" in site.does(SCRIPT, NEW, PIP_FIND_LINKS="/nowhere")
        assert site.current == NEW
        site.does(ROLL_BACK)
        assert site.current == first
        before = site.process
        assert f"version {NEW}-" in site.does(SCRIPT, NEW)
        assert site.current == NEW
        assert site.process != before


def test_an_upgrade_that_fails_leaves_what_ran(site: Site) -> None:
    if not site.root.booted:
        return
    before = site.process
    with site.unbroken():
        assert "and not 0000" in site.fails(SCRIPT.replace('"$(sum "$wheel")"', "0" * 64), BAD)
        assert "could not be fetched" in site.fails(
            SCRIPT.replace('--wheel "$wheel"', '--wheel "$RELEASE/none/$wheel"'), BAD
        )
        site.set_up("CERTCAST_POLL_MAX_MS=1")
        said = site.fails(SCRIPT, BAD)
        assert "CERTCAST_POLL_MAX_MS must be" in said
        assert "does not start with these settings; what ran before runs on" in said
        site.set_up()
        assert site.process == before
        said = site.fails(SCRIPT, BAD, CERTCAST_READY_S="3")
        assert "not ready after 3 s" in said
        assert f"the version before, {NEW}-" in said
        assert "certcast-agent: ready\n" in said
    assert site.current == NEW


def test_one_that_is_ended_in_its_middle_leaves_what_ran_and_another_waits_for_none(site: Site) -> None:
    if not site.root.booted:
        return
    with site.unbroken():
        script = SCRIPT.replace("sudo sh install.sh", "echo $$ > /run/installing; exec sh install.sh")
        under_way = site.root.started(script, **site.variables(BAD), CERTCAST_READY_S="600")
        until = time.monotonic() + PATIENCE_S
        while site.current != BAD:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert "another install.sh runs on this machine" in site.fails(SCRIPT, NEW)
        site.root.run("kill -TERM $(cat /run/installing)")
        said, _ = under_way.communicate(timeout=PATIENCE_S)
        assert under_way.returncode == 143
        assert f"the version before, {NEW}-" in said
        assert site.current == NEW
        assert site.root.run("certcast-agent wait 2>&1") == "certcast-agent: ready\n"


def test_install_sh_takes_the_agent_away_and_leaves_what_is_served(site: Site) -> None:
    uninstall = REMOVE.splitlines()[1].partition(" #")[0]
    if site.root.booted:
        with site.unbroken():
            site.does(uninstall)
            assert site.root.run("cat /etc/certcast/agent.env") == f"{site.settings}\n"
            site.does(f"{uninstall} --purge")
    else:
        site.does(f"{uninstall} --purge")
    assert leftovers(site) == LEFT


LEFT = {"/etc/certcast", "/etc/certcast/key", "/etc/haproxy/certcast"}
"""What is the administrator's, and what HAProxy serves."""


def leftovers(site: Site) -> set[str]:
    """What is there of certcast, but for downloads; the user is gone, and nothing is of a user who is gone."""
    apart = " ".join(f"-not -path '/{folder}/*'" for folder in ("srv", "run", "tmp", "wheels"))
    found = site.root.run(f"find / -xdev -name '*certcast*' {apart}; ls -d /etc/certcast/*")
    assert site.root.run("find / -xdev -nouser; ! getent passwd certcast") == ""
    return set(found.split())
