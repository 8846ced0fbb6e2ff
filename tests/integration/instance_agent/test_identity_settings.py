"""An agent without a managed identity comes with the application and certificate that its settings name."""

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.rigs.certificates import authority
from tests.rigs.command_line import clean_environment

_ASKED = """
from instance_agent.command import main
main(["selftest"])
from azure.identity import EnvironmentCredential
print(type(EnvironmentCredential()._credential).__name__)
"""


def credential(settings: Path, **environment: str) -> str:
    """What azure-identity takes from the environment once the agent has read its settings."""
    ran = subprocess.run(
        [sys.executable, "-c", _ASKED],
        env=clean_environment() | {"CERTCAST_CONFIG": str(settings)} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ran.stdout.strip()


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    issued = authority().issue("agent.test", key="rsa")
    path = tmp_path / "identity.pem"
    key = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key + issued.certificate.public_bytes(Encoding.PEM))
    return path


def settings(folder: Path, *lines: str) -> Path:
    path = folder / "agent.toml"
    path.write_text("\n".join(("CERTCAST_TARGET = 'embedded'", *lines)), encoding="utf-8")
    return path


def test_a_certificate_that_the_settings_file_names_is_used(tmp_path: Path, pem: Path) -> None:
    file = settings(
        tmp_path, "AZURE_TENANT_ID = 'tenant'", "AZURE_CLIENT_ID = 'client'", f"AZURE_CLIENT_CERTIFICATE_PATH = '{pem}'"
    )
    assert credential(file) == "CertificateCredential"


def test_a_certificate_that_the_environment_names_is_used(tmp_path: Path, pem: Path) -> None:
    named = {"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_CLIENT_CERTIFICATE_PATH": str(pem)}
    assert credential(settings(tmp_path), **named) == "CertificateCredential"


def test_without_any_the_identity_is_the_platform_s(tmp_path: Path) -> None:
    assert credential(settings(tmp_path)) == "NoneType"


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_that_is_no_good_ends_the_agent_with_a_sentence(tmp_path: Path, content: str | None) -> None:
    pem = tmp_path / "identity.pem"
    if content is not None:
        pem.write_text(content)
    file = settings(
        tmp_path,
        "AZURE_TENANT_ID = 'tenant'",
        "AZURE_CLIENT_ID = 'client'",
        f"AZURE_CLIENT_CERTIFICATE_PATH = '{pem}'",
        "CERTCAST_INSTANCE = 'web-1'",
        "CERTCAST_STORAGE__accountName = 'certcaststate'",
        "CERTCAST_KEY_ENCRYPTION_KEY = 'https://certcast-keys.vault.azure.net/keys/certcast'",
    )
    ran = subprocess.run(
        [sys.executable, "-m", "instance_agent", "once"],
        env=clean_environment() | {"CERTCAST_CONFIG": str(file)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    [said] = ran.stderr.splitlines()
    assert said.startswith("instance_agent: the application that AZURE_CLIENT_ID names cannot be used (")
    assert "AZURE_CLIENT_CERTIFICATE_PATH must be a PEM or PFX file" in said
    assert ran.returncode == 2
