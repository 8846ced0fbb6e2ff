"""The dashboard's pages of tenants, as its serving half would have them made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.function.board import View
from shared.function.dashboard import pages
from shared.function.dashboard.links import KEY, Links
from shared.function.dashboard.told import CertificateView, HistoryView
from shared.state.document import Document, installation_document, instance_document, upload_document
from shared.state.history import history_document
from shared.state.overview import Asked, Summary
from shared.state.timeline import moment_document, timeline
from tests.rigs.tenants import NOW, Tenants, tenants

BASE = "/api/dashboard"


def view_of(uploads: Sequence[Document], instances: Sequence[Document]) -> View:
    """A look at these entries."""
    return View(
        as_of=NOW,
        uploads=uploads,
        instances=instances,
        summary=Summary.of(uploads, instances, now=NOW),
        complete=True,
        rows_read=len(uploads),
        note="",
        trouble="",
        version="1",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Makes the pages of a platform."""

    of: Tenants = field(default_factory=tenants)
    code: str = ""
    can_act: bool = True

    def links(self, query: Mapping[str, str] | None = None) -> Links:
        """The addresses of somebody who asks for that."""
        asked = {name: value for name, value in (query or {}).items() if name != KEY}
        return Links(base=BASE, code=self.code, query=asked, can_act=self.can_act)

    def view(self) -> View:
        """All of it."""
        uploads = sorted((upload_document(each) for each in self.of.uploads), key=lambda each: str(each["name"]))
        return view_of(uploads, [instance_document(each, now=NOW) for each in self.of.instances.values()])

    def fleet(self, view: View | None = None, query: Mapping[str, str] | None = None) -> str:
        """The fleet page."""
        asked = Asked.of(query or {})
        assert isinstance(asked, Asked), asked
        return pages.fleet(view or self.view(), asked, self.links(query))

    def certificate(self, name: str, notice: str = "") -> str:
        """The page of an upload."""
        [record] = [each for each in self.of.uploads if each.name == name]
        reports = self.of.installations_of(name)
        past = [entry for entry in self.of.history if entry.name == name]
        view = CertificateView(
            as_of=NOW,
            upload=upload_document(record),
            installations=[installation_document(each) for each in reports],
            complete=True,
            moments=[moment_document(each) for each in timeline(record, reports, past)],
            past=[history_document(each) for each in past],
            notice=notice,
            instances=self.view().instances,
        )
        return pages.certificate(view, self.links({"name": name}))

    def history(self, since: str = "90d", host: str = "", kind: str = "") -> str:
        """The page of what became of uploads."""
        entries = [history_document(entry) for entry in self.of.history]
        view = HistoryView(as_of=NOW, entries=entries, since=since, host=host, kind=kind)
        return pages.history(view, self.links({"since": since}))

    def problem(self) -> str:
        """A page that says what is wrong."""
        return pages.problem(404, "there is no upload named nothing.pfx", self.links())
