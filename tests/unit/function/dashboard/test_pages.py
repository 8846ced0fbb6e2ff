"""The dashboard's pages as HTML: what stands in them, whatever the names."""

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from shared.function.dashboard import pages
from shared.function.dashboard.headline import headline
from shared.function.dashboard.links import Links
from shared.state.document import Document, instance_document, upload_document
from shared.state.overview import Asked, Summary
from shared.state.records import UploadRecord, UploadStatus
from tests.rigs.dashboard import BASE, Pages, view_of
from tests.rigs.tenants import NOW, live, tenants

HOSTILE = "<script>alert(1)</script>\"' onload=x &amp; \u202egpj.exe\u2066 {{ 7*7 }} " + "x" * 255


class Reader(HTMLParser):
    """Collects elements, attributes and visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]


def said_of(uploads: list[UploadRecord], instances: list[Document]) -> tuple[str, str]:
    summary = Summary.of([upload_document(each) for each in uploads], instances, now=NOW)
    found = headline(summary, complete=True)
    return found.tone, found.text


RUNNING = [instance_document(tenants().instances["web-0"], now=NOW)]
NEW = {**RUNNING[0], "id": "new", "ready": False}
GOOD = live("a.pfx", ["a.example"], days_left=50, seconds=1)


@pytest.mark.parametrize(
    ("uploads", "instances", "expected"),
    [
        ([], RUNNING, ("idle", "There are no uploads yet")),
        ([GOOD], RUNNING, ("good", "The one upload is served on every instance")),
        ([GOOD] * 500, RUNNING, ("good", "All 500 uploads are served on every instance")),
        ([GOOD], [*RUNNING, NEW], ("busy", "The one upload is served on every instance that is ready")),
        (
            [GOOD, GOOD],
            [*RUNNING, {**RUNNING[0], "alive": False, "state": "silent"}],
            ("warn", "All 2 uploads are served on every instance that runs"),
        ),
        (
            [GOOD, replace(GOOD, status=UploadStatus.ACCEPTED, live=0)],
            RUNNING,
            ("warn", "1 of 2 uploads is not served on every instance"),
        ),
        (
            [GOOD, replace(GOOD, status=UploadStatus.REJECTED)],
            RUNNING,
            ("bad", "1 of 2 uploads is not served on every instance"),
        ),
        (
            [GOOD, replace(GOOD, not_after=NOW - timedelta(days=1))],
            RUNNING,
            ("bad", "1 of 2 uploads has ended"),
        ),
        ([replace(GOOD, status=UploadStatus.SUPERSEDED)], RUNNING, ("idle", "Nothing is to be served now")),
    ],
)
def test_the_headline_answers_whether_all_is_served(
    uploads: list[UploadRecord], instances: list[Document], expected: tuple[str, str]
) -> None:
    assert said_of(uploads, instances) == expected


def test_while_rows_are_read_the_answer_is_not_given() -> None:
    made = Pages()
    page = made.fleet(replace(made.view(), complete=False, rows_read=4000, trouble="table uploads cannot be read"))
    assert "Not all uploads have been read yet" in page
    assert "4,000 rows read so far" in page
    assert "table uploads cannot be read" in page


def test_hostile_names_stand_everywhere_as_text_alone() -> None:
    platform = tenants()
    template = platform.uploads[0]
    hostile = replace(
        template,
        name=HOSTILE,
        hosts=(HOSTILE, "b.example"),
        reason=HOSTILE,
        subject=HOSTILE,
        issuer=HOSTILE,
        chain=(HOSTILE, HOSTILE),
        role=HOSTILE,
        site=HOSTILE,
        missing=(HOSTILE,),
        password_left=HOSTILE,
        tags_refused=HOSTILE,
    )
    known = platform.instances["web-0"]
    instance = replace(
        known,
        value=replace(known.value, id=HOSTILE, role=HOSTILE, trouble=HOSTILE, target_kind=HOSTILE, asked_id=HOSTILE),
    )
    reports = [
        replace(each, source=HOSTILE, instance=HOSTILE, host=HOSTILE, reason=HOSTILE, stages_ms={HOSTILE: 1.0})
        for each in platform.installations_of(template.name)
    ]
    history = [replace(each, name=HOSTILE, hosts=(HOSTILE,), reason=HOSTILE) for each in platform.history]
    made = Pages(
        of=replace(platform, uploads=[hostile], instances={HOSTILE: instance}, installations=reports, history=history),
        code=HOSTILE,
    )
    plain = set(Reader(Pages(code="k").fleet()).elements)
    for page in (
        made.fleet(query={"host": HOSTILE, "prefix": HOSTILE, "instance": HOSTILE, "status": "live," + "y" * 99}),
        made.certificate(HOSTILE, notice=HOSTILE),
        made.history(since=HOSTILE, host=HOSTILE, kind=HOSTILE),
        pages.problem(404, HOSTILE, made.links()),
    ):
        read = Reader(page)
        assert read.elements.count("script") == 1
        assert not {name for name, _ in read.attributes if name.startswith("on") or name == "style"}
        assert set(read.elements) - plain <= {"details", "summary", "dl", "dt", "dd", "ol", "h3", "h4", "code"}
        assert "<script>alert(1)</script>" in read.text
        assert "{{ 7*7 }}" in read.text
        assert "\u202e" not in read.text
        assert "\u202e" not in "".join(read.values("data-key") + read.values("data-status"))


def test_what_was_typed_and_the_name_to_redeploy_reach_the_browser_letter_by_letter() -> None:
    platform = tenants()
    name = 'kunden/\u202e <b> "x".pfx'
    made = Pages(of=replace(platform, uploads=[replace(platform.uploads[0], name=name)]))
    assert name in Reader(made.certificate(name)).values("value")
    assert name in Reader(made.fleet(query={"prefix": name})).values("value")
    assert any("%E2%80%AE" in address for address in Reader(made.fleet()).values("href"))


def test_the_key_is_carried_on_by_every_address_and_form_and_shown_nowhere() -> None:
    made = Pages(code="the-key")
    for page in (made.fleet(), made.certificate("alpenrad/shop.pfx"), made.history(), made.problem()):
        read = Reader(page)
        own = [address for address in read.values("href") + read.values("src") if not address.startswith("#")]
        assert own
        assert all(address.startswith(BASE) and "code=the-key" in address for address in own)
        assert "the-key" not in read.text
    assert "the-key" in Reader(made.fleet()).values("value")
    assert "code=the-key" in " ".join(Reader(made.certificate("alpenrad/shop.pfx")).values("action"))


def test_a_page_of_many_shows_some_and_links_to_the_others() -> None:
    uploads = [
        upload_document(live(f"{number:05}.pfx", ["a.example"], days_left=9, seconds=1)) for number in range(120)
    ]
    view = view_of(uploads, RUNNING)
    first, last = (Pages().fleet(view, {"offset": offset, "sort": "-name"}) for offset in ("0", "100"))
    assert "1 to 100 of 120" in first
    assert "00119.pfx" in first
    assert 'rel="prev"' not in first
    assert f'rel="next" href="{BASE}?offset=100&amp;sort=-name"' in first
    assert "101 to 120 of 120" in last
    assert 'rel="next"' not in last
    assert "There are no more" in Pages().fleet(view, {"offset": "500"})
    assert Pages().fleet(view, {"limit": "100000"}).count('data-status="live"') == 120


def test_no_page_is_longer_than_its_bounds() -> None:
    uploads = [
        upload_document(live(f"{number:05}.pfx", ["a.example"], days_left=9, seconds=1)) for number in range(700)
    ]
    instances = [{**RUNNING[0], "id": f"web-{number}"} for number in range(300)]
    page = Pages().fleet(view_of(uploads, instances), {"limit": "100000"})
    assert page.count('data-status="live"') == pages.MOST_UPLOADS_SHOWN
    assert page.count('data-status="ready"') == pages.INSTANCES_SHOWN
    assert "100 of 300, those first that need somebody" in page
    assert Pages().fleet(view_of([], instances), {"instances": "all"}).count('data-status="ready"') == 300


def test_a_column_is_sorted_one_way_and_then_the_other() -> None:
    assert 'aria-sort="ascending"><a href="/api/dashboard?sort=-expiry">' in Pages().fleet(query={"sort": "expiry"})
    assert 'aria-sort="descending"><a href="/api/dashboard?sort=expiry">' in Pages().fleet(query={"sort": "-expiry"})
    assert len(re.findall("aria-sort", Pages().fleet())) == 1


def test_totals_link_to_what_they_count() -> None:
    page = Pages().fleet()
    for query in ("status=rejected", "status=partially_live", "expiring=14d"):
        assert f"{BASE}?{query}" in page
        asked = Asked.of(dict([query.split("=")]))
        assert isinstance(asked, Asked)
        assert "1 to 1 of 1 that fit the filter" in pages.fleet(Pages().view(), asked, Links(base=BASE))


def test_the_page_of_a_rejected_upload_has_each_reason_once_with_its_cure_and_nothing_to_redeploy() -> None:
    text = " ".join(Reader(Pages().certificate("reisebuero-ost/new.pfx")).text.split())
    assert "and not for buchung.reisebuero-ost.example" in text
    assert "Correct HostHeader, or order a certificate for these names." in text
    assert "openssl x509 -in cert.pem -noout -ext subjectAltName" in text
    assert "Correct the key." in text
    assert "Redeploy" not in text


def test_many_reasons_of_one_code_need_one_cure() -> None:
    platform = tenants()
    rejected = next(each for each in platform.uploads if each.violations)
    twice = replace(rejected, violations=(*rejected.violations, *rejected.violations))
    page = Pages(of=replace(platform, uploads=[twice])).certificate(rejected.name)
    assert page.count("Correct <code>HostHeader</code>") == 1
    assert page.count('id="means-host_not_covered"') == 1


@pytest.mark.parametrize(
    ("issuer", "says_so"), [("CN=An authority", True), ("CN=www.example", False)], ids=["its own", "itself"]
)
def test_an_issuer_that_is_not_sent_is_named_unless_it_is_the_certificate_itself(issuer: str, *, says_so: bool) -> None:
    upload = live("a.pfx", ["www.example"], days_left=50, seconds=1)
    alone = replace(upload, subject="CN=www.example", chain=("CN=www.example",), issuer=issuer)
    page = Pages(of=replace(tenants(), uploads=[alone])).certificate("a.pfx")
    assert ("which is not sent" in page) is says_so


def test_a_reader_who_may_not_act_is_offered_no_button() -> None:
    assert "Redeploy</button>" in Pages().certificate("alpenrad/shop.pfx")
    assert "Redeploy</button>" not in Pages(can_act=False).certificate("alpenrad/shop.pfx")


def test_assets_are_files_of_the_package_and_no_others() -> None:
    for name, kind in (
        ("dashboard.css", "text/css"),
        ("dashboard.js", "text/javascript"),
        ("favicon.svg", "image/svg"),
    ):
        found = pages.asset(name)
        assert found is not None
        assert found.content_type.startswith(kind)
        assert found.content
        assert re.fullmatch(r'"[0-9a-f]{32}"', found.etag)
    for name in ("", "..", "../pages.py", "/etc/passwd", "templates/base.html", "nothing.css"):
        assert pages.asset(name) is None


def test_pages_refer_to_nothing_outside_and_have_no_inline_style() -> None:
    made = Pages()
    for page in (made.fleet(), made.certificate("optik-sander/www.pfx"), made.history(), made.problem()):
        assert not re.search(r"https?://|style=|<style|javascript:", page)
