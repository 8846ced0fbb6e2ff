"""The real .NET gateway over our C# assembly on Mono, in a process of its own: a CLR, once loaded, stays."""

import importlib
import os
import subprocess
import warnings
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from instance_agent.targets.iis.bindings import SiteState
from instance_agent.targets.iis.records import SslRecord
from instance_agent.windows.dotnet import load_assembly, namespace
from instance_agent.windows.sites import DotNetGateway
from tests.fakes.iis.world import Row, made_record
from tests.rigs.programs import path_of

Answer = TypeVar("Answer")

_SOURCES = Path(__file__).parent
_ASSEMBLY = "Microsoft.Web.Administration.dll"


def build(folder: Path) -> Path:
    """Compile the assembly that carries Microsoft.Web.Administration's names."""
    assembly = folder / _ASSEMBLY
    mcs = path_of("mcs")
    assert mcs is not None
    sources = sorted(str(path) for path in _SOURCES.glob("*.cs"))
    done = subprocess.run(
        [mcs, "-target:library", "-optimize+", "-warnaserror+", f"-out:{assembly}", *sources],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return assembly


class MonoProcess:
    """A Python process with Mono in it, which runs functions of importable modules.

    Args:
        assembly: To load into it.
        home: Home folder of the process.
    """

    def __init__(self, assembly: Path | None, home: Path) -> None:
        arguments = (assembly, home)
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_load, initargs=arguments)

    def run(self, function: Callable[..., Answer], *arguments: object) -> Answer:
        """Call there and answer, or raise, here."""
        return self._pool.submit(function, *arguments).result()

    def end(self) -> None:
        """End the process."""
        self._pool.shutdown()


def _load(assembly: Path | None, home: Path) -> None:
    os.environ["HOME"] = str(home)  # Mono keeps the user's certificate stores below it
    os.environ.pop("XDG_CONFIG_HOME", None)
    pythonnet = importlib.import_module("pythonnet")
    mono = importlib.import_module("clr_loader").get_mono
    with warnings.catch_warnings():
        # Debian's Mono is older than pythonnet likes; what is used of it here is what the tests prove.
        warnings.simplefilter("ignore")
        pythonnet.load(mono())
    if assembly is not None:
        load_assembly(assembly)


def gateway(version: tuple[int, int] = (10, 0)) -> DotNetGateway:
    """The gateway of production, in a process with the assembly."""
    return DotNetGateway(lambda: version)


class MonoWorld:
    """The `World` inside the C# assembly, emptied."""

    def __init__(self) -> None:
        self._world: Any = namespace("Certcast.Stub").World
        self._world.Reset()

    @property
    def commits(self) -> int:
        return int(self._world.Commits)

    @property
    def open_sessions(self) -> int:
        return int(self._world.OpenManagers)

    @property
    def starts(self) -> list[str]:
        return [str(name) for name in self._world.Starts]

    def add_site(self, name: str, *, site_id: int = 1, started: bool = True, ftp: str = "") -> None:
        self._world.AddSite(site_id, name, started)
        self._world.SetFtp(name, ftp)

    def add_binding(
        self,
        site: str,
        information: str,
        *,
        protocol: str = "https",
        flags: int = 1,
        thumbprint: str = "",
        store: str = "My",
        ds_mapper: bool = False,
    ) -> None:
        self._world.AddBinding(site, protocol, information, flags, ds_mapper)
        if thumbprint:
            flags_type = namespace("Microsoft.Web.Administration").SslFlags
            endpoint = self._world.EndpointOf(information, flags_type(flags, True))
            self._world.SetRecord(endpoint, bytes.fromhex(thumbprint), store)

    def set_default_ftp(self, thumbprint: str) -> None:
        self._world.DefaultFtpHash = thumbprint

    def rows(self, site: str) -> list[Row]:
        record = next(record for record in self._world.Sites if record.Name == site)
        return [
            Row(
                protocol=str(values["protocol"]),
                information=str(values["bindingInformation"]),
                flags=int(values["sslFlags"]) if values.ContainsKey("sslFlags") else 0,
                ds_mapper=values.ContainsKey("isDsMapperEnabled") and bool(values["isDsMapperEnabled"]),
            )
            for values in record.Bindings
        ]

    def site_names(self) -> list[str]:
        return [str(record.Name) for record in self._world.Sites]

    def records(self) -> dict[str, tuple[str, str]]:
        return {
            str(pair.Key).replace("0.0.0.0", "*"): (bytes(pair.Value.Hash).hex().upper(), str(pair.Value.Store))  # noqa: S104
            for pair in self._world.HttpSys
        }

    def delete_record(self, endpoint: str) -> None:
        self._world.HttpSys.Remove(endpoint.replace("*:", "0.0.0.0:", 1))

    def state(self, site: str) -> SiteState:
        return SiteState(str(self._world.States[site]))

    def require_certificates(self, *thumbprints: str) -> None:
        for thumbprint in thumbprints:
            self._world.StoredCertificates.Add(thumbprint)

    def conflict(self, times: int, *, intruder: tuple[str, str] | None = None) -> None:
        self._world.ConflictsToCome = times
        if intruder is not None:
            self._world.IntruderSite, self._world.IntruderBinding = intruder

    def share_violation(self, times: int) -> None:
        self._world.SharingViolationsToCome = times

    def fail_commit(self, code: int) -> None:
        self._world.CommitHResult = code - (1 << 32)

    def refuse(self, information: str) -> None:
        self._world.RefusedBindings.Add(information)

    def refuse_record(self, endpoint: str, code: int) -> None:
        self._world.RefusedRecords[endpoint.replace("*:", "0.0.0.0:", 1)] = code - (1 << 32)

    def stop_on_commit(self, site: str, *, stays: bool = False) -> None:
        self._world.StopsOnCommit.Add(site)
        if stays:
            self._world.StaysStopped.Add(site)

    def hide_state(self, site: str, times: int) -> None:
        self._world.StateErrors[site] = times

    def hide_certificate(self, information: str) -> None:
        self._world.BrokenHashes.Add(information)


class MonoHttpSys:
    """The records in the C# assembly's http.sys, which has no settings.

    Args:
        world: Whose.
    """

    def __init__(self, world: MonoWorld) -> None:
        self.world = world

    def records(self, endpoints: Collection[str] | None = None) -> list[SslRecord]:
        made = [made_record(endpoint, *found) for endpoint, found in self.world.records().items()]
        return [it for it in made if endpoints is None or it.endpoint in endpoints]

    def put(self, record: SslRecord) -> None:
        raise NotImplementedError(f"{record.endpoint} has no settings to put back here")

    def delete(self, record: SslRecord) -> None:
        self.world.delete_record(record.endpoint)
