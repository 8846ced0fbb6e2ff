"""A real Apache beside a files target whose templates are those of docs/targets/files.md."""

import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from instance_agent.installing.probe import served_fingerprint
from instance_agent.selection import make_target
from instance_agent.targets.base import BindingTarget
from instance_agent.targets.parts.fallback import self_made_fallback
from instance_agent.targets.parts.pem_file import file_name
from local_azure.processes.child import ChildProcess, start_child
from local_azure.processes.listening import port_offsets
from shared.bundle import CertificateBundle
from tests.rigs.deployment import ROOT
from tests.rigs.programs import path_of, require

PORTS = (443, 8443)
DOCUMENT = ROOT / "docs" / "targets" / "files.md"

_MODULES = "/usr/lib/apache2/modules"
_CONFIGURATION = """\
ServerRoot "{folder}"
ServerName apache.certcast.invalid
PidFile "{folder}/httpd.pid"
ErrorLog /dev/stderr
DefaultRuntimeDir "{folder}"
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule ssl_module {modules}/mod_ssl.so
{user}
MaxKeepAliveRequests 0
KeepAliveTimeout 60
DocumentRoot "{folder}/www"
SSLSessionCache none
{listening}
IncludeOptional "{folder}/certcast/rendered/apache.conf"
{listeners}
"""
_LISTENER = """\
<VirtualHost *:{port}>
    ServerName fallback.certcast.invalid
    SSLEngine on
    SSLCertificateFile "{folder}/fallback.pem"
</VirtualHost>
"""


def documented(name: str) -> str:
    """The code block of the documentation that follows the mention of a file."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.search(rf"`{re.escape(name)}`[^\n]*\n+```[a-z]*\n(.*?)```", text, re.DOTALL)
    assert found, f"{DOCUMENT} shows no {name}"
    return found[1]


class ApacheRig:
    """The server, and the target that stands for the agent."""

    ports = PORTS
    probe = staticmethod(served_fingerprint)

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = dict(env)
        self.process: ChildProcess | None = None
        self.target: BindingTarget = make_target("files", self.env)

    @property
    def fallback(self) -> str:
        return CertificateBundle.from_pem((self.folder / "fallback.pem").read_bytes()).fingerprint_sha256

    async def restart_agent(self, **settings: str) -> None:
        await self.target.stop()
        self.env |= settings
        self.target = make_target("files", self.env)
        await self.target.start()

    async def tamper(self, host: str, port: int, bundle: CertificateBundle) -> None:
        path = self._pem(host, port)
        tag = path.read_bytes().partition(b"\n")[0]
        _put(path, tag + b"\n" + bundle.to_pem())
        await self.reload()

    async def untie(self, host: str, port: int) -> None:
        """As somebody does who takes the virtual host out of the file that the templates make."""
        path = self.folder / "certcast" / "rendered" / "apache.conf"
        hosts = re.findall(r"<VirtualHost .*?</VirtualHost>\n", path.read_text(), re.DOTALL)
        _put(path, "".join(each for each in hosts if f'"{self._pem(host, port)}"' not in each).encode())
        await self.reload()

    def _pem(self, host: str, port: int) -> Path:
        return self.folder / "certcast" / "live" / str(port) / f"{file_name(host)}.pem"

    async def reload(self) -> None:
        """As somebody does, and not the target."""
        assert self.process is not None
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGUSR1)

    async def start_server(self) -> None:
        command = [apache(), "-f", str(self.folder / "httpd.conf"), "-DFOREGROUND"]
        self.process = await start_child("apache2", command, folder=self.folder)
        await self.process.line_matching(re.compile("resuming normal operations"), timeout_s=30)

    async def stop_server(self) -> None:
        if self.process is not None:
            await self.process.stop()


def _put(path: Path, content: bytes) -> None:
    """Whole at any moment: a reload may be under way, and Apache ends where it reads half a file."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.replace(path)


def apache() -> str:
    found = path_of("apache2") or path_of("httpd")
    return found or require("apache2")


@asynccontextmanager
async def serving_apache(**settings: str) -> AsyncIterator[ApacheRig]:
    """A running Apache and a started target; nothing of them is left in the end."""
    with (
        port_offsets(1, ports=PORTS) as [offset],
        tempfile.TemporaryDirectory(prefix="certcast-test-", ignore_cleanup_errors=True) as made,
    ):
        folder = Path(made)
        _write(folder, offset)
        rig = ApacheRig(
            folder,
            {
                "CERTCAST_FILES_FOLDER": str(folder / "certcast"),
                "CERTCAST_FILES_TEMPLATES": str(folder / "templates"),
                "CERTCAST_FILES_CHECK": f"{apache()} -t -f '{folder}/httpd.conf'",
                "CERTCAST_FILES_RELOAD": f"pkill -USR1 -F '{folder}/httpd.pid'",
                "CERTCAST_FILES_FALLBACK": str(folder / "fallback.pem"),
                "CERTCAST_FILES_ADDRESS": "127.0.0.1",
                "CERTCAST_FILES_PORT_OFFSET": str(offset),
                "CERTCAST_RELOAD_MIN_INTERVAL_S": "0",
                **settings,
            },
        )
        await rig.start_server()
        try:
            await rig.target.start()
            yield rig
        finally:
            await rig.target.stop()
            await rig.stop_server()


def _write(folder: Path, offset: int) -> None:
    (folder / "www").mkdir()
    (folder / "templates" / "all").mkdir(parents=True)
    (folder / "templates" / "all" / "apache.conf.j2").write_text(documented("templates/all/apache.conf.j2"))
    (folder / "fallback.pem").write_bytes(self_made_fallback(datetime.now(UTC)).to_pem())
    (folder / "httpd.conf").write_text(
        _CONFIGURATION.format(
            folder=folder,
            modules=_MODULES,
            user="User www-data\nGroup www-data" if os.geteuid() == 0 else "",
            listening="\n".join(f"Listen 127.0.0.1:{port + offset}" for port in PORTS),
            listeners="".join(_LISTENER.format(folder=folder, port=port + offset) for port in PORTS),
        )
    )
