"""The commands that reasons name make of each file a PFX that is accepted."""

import re
from pathlib import Path

import pytest

from shared.bundle import CertificateBundle
from tests.corpus import ciphers, guises, stores
from tests.corpus.row import Row
from tests.corpus.stores import PASSWORD
from tests.corpus.trying import judged
from tests.corpus.workshop import HOST, Workshop
from tests.rigs.opened import load_pfx
from tests.rigs.programs import needs

pytestmark = needs("openssl", "keytool")

# What a person types where the command asks for a password.
TYPED = (
    ("openssl pkcs12 -legacy", "openssl pkcs12 -legacy -passin pass:secret"),
    ("openssl pkcs12 -export", "openssl pkcs12 -export -passin pass:secret -passout pass:secret"),
    ("openssl pkey", "openssl pkey -passin pass:secret"),
    ("keytool -importkeystore", f"keytool -importkeystore -srcstorepass {PASSWORD} -deststorepass secret -noprompt"),
)
COMMAND = re.compile(r"`((?:openssl|keytool|iconv|printf|base64) [^`]*)`")
WITHOUT_A_PAIR = {
    *("DER: root", "DER: key (PKCS#1)", "PEM: key alone (PKCS#1)", "PVK"),  # of other keys and certificates
    *("PEM in JSON", "DER in base64", "base64 cut short", "openssl enc"),  # a step is done by hand, or nothing is whole
}


def of_use(row: Row) -> bool:
    return row.verdicts == ("unreadable_bundle",) and row.openssl is not None and row.name not in WITHOUT_A_PAIR


CIPHERS = [row for row in ciphers.ROWS if of_use(row) and not row.name.startswith("key alone")]
GUISES = [row for row in guises.ROWS if of_use(row) and not row.name.startswith("broken")]
STORES = [row for row in stores.ROWS if of_use(row)]


def commands_for(row: Row, workshop: Workshop) -> list[str]:
    content = row.make(workshop)
    [violation] = judged(row, workshop, content).violations
    workshop.file(content, "FILE")
    return COMMAND.findall(violation.detail)


def made_by(commands: list[str], workshop: Workshop) -> CertificateBundle | None:
    for command in commands:
        typed = command
        for plain, with_password in TYPED:
            typed = typed.replace(plain, with_password)
        workshop.run("bash", "-c", f"set -eo pipefail; {typed}")
    made = load_pfx((workshop.folder / "cert.pfx").read_bytes(), [b"secret"])
    return made if isinstance(made, CertificateBundle) else None


def not_cured(rows: list[Row], folder: Path) -> list[str]:
    workshop = Workshop(folder)
    found = []
    for row in rows:
        (folder / "cert.pfx").unlink(missing_ok=True)
        commands = commands_for(row, workshop)
        made = made_by(commands, workshop) if commands else None
        if commands and (made is None or made.dns_names != (HOST,)):
            found.append(f"{row.name}: {commands}")
    return found


@pytest.mark.parametrize("rows", [CIPHERS, GUISES, STORES], ids=["ciphers", "guises", "stores"])
def test_the_commands_that_reasons_name_make_a_pfx_of_the_file(rows: list[Row], tmp_path: Path) -> None:
    assert not not_cured(rows, tmp_path)


def test_whatever_holds_a_key_or_a_certificate_has_a_command(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    rows = [*CIPHERS, *(row for row in GUISES if row.name.startswith(("PEM", "DER")))]
    assert not [row.name for row in rows if not commands_for(row, workshop)]


@pytest.mark.parametrize(
    "name", ["on one line", "in lines", "in lines with CR LF", "a byte-order mark", "UTF-16, as PowerShell writes it"]
)
def test_the_command_of_the_warning_decodes_the_text(name: str, tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    [row] = [row for row in guises.ROWS if row.name == f"base64: {name}"]
    [warning] = judged(row, workshop, content := row.make(workshop)).warnings
    workshop.file(content, "FILE")
    for command in COMMAND.findall(warning.detail):
        workshop.run("bash", "-c", command)
    assert (tmp_path / "cert.pfx").read_bytes() == workshop.good
