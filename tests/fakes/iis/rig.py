"""The IIS target over an IIS in memory, put together for tests."""

from pathlib import Path

from instance_agent.targets.iis.bindings import SslFlags
from instance_agent.targets.iis.catch_all import CatchAllPolicy
from instance_agent.targets.iis.target import IisTarget
from tests.fakes.iis.http_sys import HttpSys
from tests.fakes.iis.memory import MemoryIis
from tests.fakes.iis.stores import MemoryStores

WEB = "Web"


class Machine:
    """A Windows Server for tests: IIS with one web site, certificate stores and http.sys."""

    def __init__(self, *, version: tuple[int, int] = (10, 0), site: str | None = WEB) -> None:
        self.iis = MemoryIis(version=version)
        self.stores = MemoryStores()
        self.http_sys = HttpSys(self.iis, self.stores)
        self.foreign_records = self.http_sys.foreign
        self.pauses: list[float] = []
        self.iis.usable = self.stores.has_usable
        if site is not None:
            self.add_web_site(site, port=80, site_id=1)

    def add_web_site(self, name: str, *, port: int = 81, site_id: int = 2) -> None:
        """A site that is one by its http binding."""
        self.iis.add_site(name, site_id=site_id)
        self.iis.add_binding(name, f"*:{port}:", protocol="http", flags=0)

    def target(
        self,
        *,
        store: str = "My",
        catch_all: str = "keep",
        role_instance: str | None = None,
        probe_address: str = "127.0.0.1",
        new_flags: SslFlags = SslFlags.NONE,
        windows_build: int = 20348,
        journal: Path | None = None,
    ) -> IisTarget:
        """A target as the agent makes it, not started."""
        return IisTarget(
            self.iis,
            self.stores,
            http_sys=self.http_sys,
            new_flags=new_flags,
            windows_build=windows_build,
            journal=journal,
            store=store,
            catch_all=CatchAllPolicy.parse(catch_all),
            role_instance=role_instance,
            probe_address=probe_address,
            pause=self.pauses.append,
        )

    def bindings(self, site: str = WEB) -> dict[str, int]:
        """The https bindings of a site: information and flags."""
        return {row.information: row.flags for row in self.iis.rows(site) if row.protocol == "https"}

    def served(self, endpoint: str) -> str | None:
        """Thumbprint of the certificate on an http.sys record."""
        found = self.iis.records().get(endpoint)
        return None if found is None else found[0]
