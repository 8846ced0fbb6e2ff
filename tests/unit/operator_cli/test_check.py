import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from operator_cli.__main__ import main
from tests.rigs.certificates import Issued, authority

Check: TypeAlias = Callable[..., tuple[int, dict[str, Any], str]]

KEYS = {
    *("accepted", "violations", "hosts", "port", "subject"),
    *("not_before", "not_after", "fingerprint_sha256", "thumbprint_sha1"),
}
CA = authority()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CERTCAST_STORAGE", "CERTCAST_STORAGE__accountName", "CERTCAST_TRUST", "CERTCAST_PORTS"):
        monkeypatch.delenv(name, raising=False)
    give(monkeypatch, b"")


def give(monkeypatch: pytest.MonkeyPatch, stdin: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))


@pytest.fixture
def issued() -> Issued:
    return CA.issue("www.example.com", "shop.example.com")


def written(folder: Path, issued: Issued, password: str | None = None) -> Path:
    path = folder / "shop.pfx"
    path.write_bytes(issued.pfx(password))
    return path


@pytest.fixture
def pfx(tmp_path: Path, issued: Issued) -> Path:
    return written(tmp_path, issued)


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    def checking(*arguments: object) -> tuple[int, dict[str, Any], str]:
        code = main(["check", *map(str, arguments), "--json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out), printed.err

    return checking


def codes(document: dict[str, Any]) -> list[str]:
    return [violation["code"] for violation in document["violations"]]


def test_a_sound_file_is_accepted_and_described(check: Check, pfx: Path, issued: Issued) -> None:
    code, document, _ = check(pfx)
    assert code == 0
    assert document.keys() >= KEYS
    assert document["accepted"] is True
    assert document["violations"] == []
    assert document["hosts"] == ["www.example.com", "shop.example.com"]
    assert document["port"] == 443
    assert document["subject"] == "CN=www.example.com"
    assert document["fingerprint_sha256"] == issued.fingerprint
    assert document["thumbprint_sha1"] == issued.thumbprint
    for key, moment in (
        ("not_before", issued.certificate.not_valid_before_utc),
        ("not_after", issued.certificate.not_valid_after_utc),
    ):
        assert document[key].endswith("Z")
        assert datetime.fromisoformat(document[key]) == moment


def test_every_reason_is_told_at_once(check: Check, tmp_path: Path) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    path = written(tmp_path, CA.issue("www.example.com", not_after=yesterday))
    code, document, _ = check(path, "--host", "other.example.org", "--subject", "CN=else", "--port", "8443")
    assert code == 1
    assert document["accepted"] is False
    assert codes(document) == ["expired", "host_not_covered", "subject_mismatch"]
    assert document["hosts"] == ["other.example.org"]
    assert document["port"] == 8443


def test_the_ports_that_may_be_asked_for_are_checked_where_they_are_known(
    check: Check, pfx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, said = check(pfx, "--port", "8443")
    assert code == 0
    assert "whether uploads may ask for port 8443 was not checked" in said
    monkeypatch.setenv("CERTCAST_PORTS", "443,9000-9010")
    code, document, said = check(pfx, "--port", "8443")
    assert (code, codes(document)) == (1, ["invalid_port"])
    assert "not checked: CERTCAST_PORTS" not in said
    assert check(pfx, "--port", "9001")[0] == 0


def test_what_cannot_be_read_is_null(check: Check, tmp_path: Path) -> None:
    path = tmp_path / "text.pfx"
    path.write_text("no certificate")
    code, document, _ = check(path)
    assert code == 1
    assert codes(document) == ["unreadable_bundle"]
    assert {document[key] for key in KEYS if key not in {"accepted", "violations", "hosts", "port"}} == {None}


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"", b"\nanother line\n"])
def test_the_password_is_the_first_line_of_stdin_without_its_end(
    check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, issued: Issued, ending: bytes
) -> None:
    password = " p\N{LATIN SMALL LETTER A WITH DIAERESIS}ss word\t "
    path = written(tmp_path, issued, password)
    give(monkeypatch, password.encode() + ending)
    assert check(path, "--password-stdin")[0] == 0


def test_a_wrong_password_is_a_rejection_and_is_shown_nowhere(
    check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, issued: Issued
) -> None:
    path = written(tmp_path, issued, "right")
    give(monkeypatch, b"hunter2-is-wrong\n")
    code, document, err = check(path, "--password-stdin")
    assert code == 1
    assert codes(document) == ["unreadable_bundle"]
    assert "hunter2" not in json.dumps(document) + err


def test_without_a_terminal_the_way_to_give_a_password_is_told(check: Check, tmp_path: Path, issued: Issued) -> None:
    path = written(tmp_path, issued, "secret")
    code, _, err = check(path)
    assert code == 1
    assert "--password-stdin" in err


def test_a_chain_is_checked_against_the_roots_of_a_file(check: Check, tmp_path: Path, pfx: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(CA.root_pem)
    code, document, err = check(pfx, "--trust", roots)
    assert (code, document["trust"]) == (0, str(roots))
    assert "not checked" not in err
    roots.write_bytes(authority("another CA").root_pem)
    code, document, _ = check(pfx, "--trust", roots)
    assert code == 1
    assert codes(document) == ["incomplete_chain"]


@pytest.mark.parametrize(
    ("settings", "trust"),
    [
        ({}, "off"),
        ({"CERTCAST_STORAGE": "UseDevelopmentStorage=true"}, "off"),
        ({"CERTCAST_STORAGE": "AccountName=shops;AccountKey=a2V5"}, "public"),
        ({"CERTCAST_STORAGE__accountName": "shops"}, "public"),
        ({"CERTCAST_STORAGE": "nonsense"}, "public"),
        ({"CERTCAST_STORAGE__accountName": "shops", "CERTCAST_TRUST": "off"}, "off"),
        ({"CERTCAST_TRUST": "public"}, "public"),
    ],
)
def test_public_roots_are_asked_for_unless_the_emulator_is_meant(
    check: Check,
    monkeypatch: pytest.MonkeyPatch,
    pfx: Path,
    settings: dict[str, str],
    trust: str,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    _, document, err = check(pfx)
    assert document["trust"] == trust
    assert ("not checked" in err) is (trust == "off")


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["missing.pfx"], "no such file"),
        (["."], "this is a folder"),
        (["shop.pfx", "--trust", "nowhere.pem"], "--trust names the file nowhere.pem"),
        (["shop.pfx", "--port", "0"], "--port"),
        (["shop.pfx", "--password-stdin"], "stdin is empty"),
        ([], "FILE"),
        (["shop.pfx", "--hots", "a"], "--hots"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_mistake_is_told_in_one_line_with_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    pfx: Path,
    *,
    arguments: list[str],
    cure: str,
    as_json: bool,
) -> None:
    monkeypatch.chdir(pfx.parent)
    assert main(["check", *arguments, *(["--json"] if as_json else [])]) == 2
    printed = capsys.readouterr()
    assert len(printed.err.strip().splitlines()) == 1
    assert cure in printed.err
    if as_json:
        assert cure in json.loads(printed.out)["error"]
    else:
        assert printed.out == ""


def test_people_get_each_reason_with_its_code(capsys: pytest.CaptureFixture[str], pfx: Path) -> None:
    assert main(["check", str(pfx), "--host", "other.example.org", "--subject", "CN=else"]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("rejected: other.example.org:443\n")
    for part in ("host_not_covered", "subject_mismatch", "correct HostHeader"):
        assert part in printed


def test_a_certificate_for_later_is_accepted_and_said_to_be(
    capsys: pytest.CaptureFixture[str], check: Check, tmp_path: Path
) -> None:
    path = written(tmp_path, CA.issue("www.example.com", not_before=datetime.now(UTC) + timedelta(days=3)))
    assert main(["check", str(path)]) == 0
    assert "once it is valid" in capsys.readouterr().out
    code, document, _ = check(path)
    assert (code, document["scheduled"], codes(document)) == (0, True, ["not_yet_valid"])


def test_people_see_warnings_apart_from_reasons_and_the_chain_with_the_leaf_first(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    issued = CA.intermediate().issue("www.example.com")
    pfx = written(tmp_path, issued)
    assert main(["check", str(pfx), "--metadata", "HostHeaders=www.example.com", "--metadata", "PortNumber=443"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  warning: The metadata key HostHeaders is not known. Did you mean HostHeader?" in lines
    [first] = [number for number, line in enumerate(lines) if line.startswith("  chain ")]
    subjects = [line.removeprefix("  chain").strip() for line in lines[first : first + 2]]
    assert subjects == [each.subject.rfc4514_string() for each in (issued.certificate, *issued.chain)]


def test_metadata_is_judged_as_it_would_be_on_the_blob(check: Check, pfx: Path) -> None:
    code, document, _ = check(pfx, "--metadata", "hostheader=shop.example.com", "--metadata", "PortNumber=0")
    assert (code, document["hosts"], codes(document)) == (1, ["shop.example.com"], ["invalid_port"])
    code, document, _ = check(pfx, "--metadata", "hostheader=shop.example.com", "--host", "www.example.com")
    assert (code, document["hosts"], document["warnings"]) == (0, ["www.example.com"], [])


def test_a_password_under_another_key_is_the_first_reason(
    check: Check, tmp_path: Path, issued: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, b"")
    code, document, _ = check(written(tmp_path, issued, "secret"), "--metadata", "Password=")
    assert (code, codes(document)) == (1, ["invalid_metadata", "unreadable_bundle"])
    assert document["violations"][0]["detail"].startswith("No CertificatePassword is set, but a key Password is")
    [warning] = document["warnings"]
    assert (warning["code"], "Did you mean CertificatePassword?" in warning["detail"]) == ("unknown_metadata", True)


@pytest.mark.parametrize("entry", ["CertificatePassword=hunter2", "pfx_pwd=hunter2", "nothing", "=x"])
def test_metadata_takes_no_password_and_needs_a_key(check: Check, pfx: Path, entry: str) -> None:
    code, document, err = check(pfx, "--metadata", entry)
    assert code == 2
    assert "--metadata" in document["error"]
    assert "hunter2" not in document["error"] + err
