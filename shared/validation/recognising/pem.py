"""PEM text (RFC 7468): what is in it, and the command that makes a PFX of that."""

from __future__ import annotations

import re
from collections import Counter

from shared.validation.recognising.guise import NEITHER, NO_CERTIFICATE, NO_KEY, REQUESTED, Guise, export

_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9][A-Z0-9 ]{0,40})-----")
_END = re.compile(r"-----END ([A-Z0-9][A-Z0-9 ]{0,40})-----")
_ENCRYPTED = "Proc-Type: 4,ENCRYPTED"
_NAMES = {
    "CERTIFICATE": ("a certificate", "{} certificates"),
    "KEY": ("a private key", "{} private keys"),
    "ENCRYPTED KEY": ("an encrypted private key", "{} encrypted private keys"),
    "REQUEST": ("a signing request", "{} signing requests"),
    "PKCS7": ("certificates as PKCS#7", "{} PKCS#7 messages"),
    "CRL": ("a revocation list", "{} revocation lists"),
    "PUBLIC KEY": ("a public key", "{} public keys"),
    "SSH KEY": ("a private key of OpenSSH", "{} private keys of OpenSSH"),
    "PGP": ("a part of OpenPGP", "{} parts of OpenPGP"),
    "PARAMETERS": ("parameters", "{} sets of parameters"),
    "OTHER": ("a block of another kind", "{} blocks of other kinds"),
}
_KINDS = {
    "CERTIFICATE": "CERTIFICATE",
    "X509 CERTIFICATE": "CERTIFICATE",
    "TRUSTED CERTIFICATE": "CERTIFICATE",
    "PRIVATE KEY": "KEY",
    "RSA PRIVATE KEY": "KEY",
    "EC PRIVATE KEY": "KEY",
    "DSA PRIVATE KEY": "KEY",
    "ENCRYPTED PRIVATE KEY": "ENCRYPTED KEY",
    "CERTIFICATE REQUEST": "REQUEST",
    "NEW CERTIFICATE REQUEST": "REQUEST",
    "PKCS7": "PKCS7",
    "CMS": "PKCS7",
    "X509 CRL": "CRL",
    "PUBLIC KEY": "PUBLIC KEY",
    "RSA PUBLIC KEY": "PUBLIC KEY",
    "OPENSSH PRIVATE KEY": "SSH KEY",
    "EC PARAMETERS": "PARAMETERS",
    "DH PARAMETERS": "PARAMETERS",
    "PKCS12": "OTHER",
}


def pem_of(text: str) -> Guise | None:
    """What is in a PEM text; None where it is none."""
    labels = _BEGIN.findall(text)
    if not labels:
        return None
    if len(_END.findall(text)) != len(labels):
        return Guise(
            what="it is PEM text that is cut short: a line that begins a part has none that ends it",
            cure=f"Make a PFX of the whole: `{export()}`.",
        )
    found = Counter(_kind(label) for label in labels)
    if _ENCRYPTED in text and found["KEY"]:
        found["ENCRYPTED KEY"] += found.pop("KEY")
    inside = [
        one if found[kind] == 1 else many.format(found[kind]) for kind, (one, many) in _NAMES.items() if found[kind]
    ]
    listed = " and ".join((", ".join(inside[:-1]), inside[-1])) if len(inside) > 1 else inside[0]
    guise = Guise(what=f"it is PEM text with {listed}", cure=_cure(found))
    if "\\n" in text and "\n" not in text:
        step = """Make lines of it: `printf '%b\\n' "$(cat FILE)" > decoded`."""
        return guise.inside("it is one line of text, its line ends written as \\n", step)
    return guise


def _kind(label: str) -> str:
    return "PGP" if label.startswith("PGP ") else _KINDS.get(label, "OTHER")


def _cure(found: Counter[str]) -> str:
    key = "FILE" if found["KEY"] or found["ENCRYPTED KEY"] else "key.pem"
    has_key = key == "FILE"
    if found["CERTIFICATE"] and has_key:
        return "Make a PFX of it: `openssl pkcs12 -export -in FILE -out cert.pfx`."
    if found["CERTIFICATE"]:
        return NO_KEY.format(export(certificate="FILE"))
    if found["PKCS7"]:
        command = f"openssl pkcs7 -in FILE -print_certs | openssl pkcs12 -export -inkey {key} -out cert.pfx"
        return f"Make a PFX of it: `{command}`." if has_key else NO_KEY.format(command)
    if found["REQUEST"]:
        return REQUESTED.format(export(key=key))
    return NO_CERTIFICATE.format(export(key=key)) if has_key else NEITHER
