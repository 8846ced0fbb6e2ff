"""What people upload in place of a PFX, and what broke one on its way."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.corpus.row import Row
from tests.corpus.workshop import HOST, Workshop
from tests.rigs.certificates import new_key
from tests.rigs.handmade_pfx import ENVELOPED_DATA, SIGNED_DATA, explicit, integer, oid, pfx, sequence

UNREADABLE = ("unreadable_bundle",)
BOM = b"\xef\xbb\xbf"
EXPORT = "openssl pkcs12 -export -in FILE -out cert.pfx"
WITH_KEY = "openssl pkcs12 -export -in FILE -inkey key.pem -out cert.pfx"
WITH_CERTIFICATE = "openssl pkcs12 -export -in cert.pem -inkey FILE -out cert.pfx"
FROM_P7 = "openssl pkcs7 -in FILE -print_certs | openssl pkcs12 -export -inkey key.pem -out cert.pfx"
FROM_DER_KEY = (
    "openssl pkey -inform DER -in FILE -out key.pem && openssl pkcs12 -export -in cert.pem -inkey key.pem -out cert.pfx"
)

Make = Callable[[Workshop], bytes]


def _pem(*names: str) -> Make:
    return lambda workshop: b"".join((workshop.folder / f"{name}.pem").read_bytes() for name in names)


def _key(encoding: str, form: str, password: bytes | None = None) -> Make:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()

    def make(workshop: Workshop) -> bytes:
        return workshop.issued.key.private_bytes(
            getattr(serialization.Encoding, encoding), getattr(serialization.PrivateFormat, form), encryption
        )

    return make


def _with_attributes(workshop: Workshop) -> bytes:
    exported = workshop.file(workshop.export("-name", "shop"))
    return workshop.run("openssl", "pkcs12", "-in", exported, "-nodes", "-passin", "file:secret.txt")


def _encrypted_pem(workshop: Workshop) -> bytes:
    return _key("PEM", "PKCS8", b"secret")(workshop) + _pem("cert", "chain")(workshop)


def _traditionally_encrypted(workshop: Workshop) -> bytes:
    return _key("PEM", "TraditionalOpenSSL", b"secret")(workshop) + _pem("cert", "chain")(workshop)


def _request(encoding: serialization.Encoding, workshop: Workshop) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
    key = workshop.issued.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return builder.sign(key, hashes.SHA256()).public_bytes(encoding)


def _revocation_list(encoding: serialization.Encoding, workshop: Workshop) -> bytes:
    issuer = workshop.intermediate
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    start = issuer.certificate.not_valid_before_utc
    builder = builder.last_update(start).next_update(issuer.certificate.not_valid_after_utc)
    assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(encoding)


def _pkcs7(form: str, workshop: Workshop) -> bytes:
    command = ("openssl", "crl2pkcs7", "-nocrl", "-certfile", "cert.pem", "-certfile", "chain.pem", "-outform", form)
    return workshop.run(*command)


def _public(encoding: serialization.Encoding, workshop: Workshop) -> bytes:
    return workshop.issued.key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


def _rsa(encoding: str, form: str) -> bytes:
    key = new_key("rsa")
    return key.private_bytes(
        getattr(serialization.Encoding, encoding),
        getattr(serialization.PrivateFormat, form),
        serialization.NoEncryption(),
    )


def _pvk(workshop: Workshop) -> bytes:
    source = workshop.file(_rsa("PEM", "PKCS8"))
    return workshop.run("openssl", "rsa", "-in", source, "-outform", "PVK", "-pvk-none")


def _ssh(_: Workshop) -> bytes:
    return new_key("ed25519").private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def _der_certificate(workshop: Workshop) -> bytes:
    return workshop.issued.certificate.public_bytes(serialization.Encoding.DER)


def _zip(workshop: Workshop) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("shop.pfx", workshop.good)
    return out.getvalue()


def _tar(workshop: Workshop) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("shop.pfx")
        info.size = len(workshop.good)
        archive.addfile(info, io.BytesIO(workshop.good))
    return out.getvalue()


def _is(name: str, make: Make | bytes, *says: str) -> Row:
    """A row for something that is no PFX."""
    made = (lambda _: make) if isinstance(make, bytes) else make
    return Row(name=name, make=made, verdicts=UNREADABLE, says=says, openssl=False)


_PEM_FILES = (
    _is("PEM: key, certificate, intermediate", _pem("all"), "PEM text with 2 certificates and a private key", EXPORT),
    _is("PEM: certificates before the key", _pem("cert", "chain", "key"), "2 certificates and a private key", EXPORT),
    _is("PEM with bag attributes", _with_attributes, "2 certificates and a private key", EXPORT),
    _is("PEM with a byte-order mark", lambda w: BOM + _pem("all")(w), "2 certificates and a private key", EXPORT),
    _is("PEM with CR LF", lambda w: _pem("all")(w).replace(b"\n", b"\r\n"), "2 certificates and a private key", EXPORT),
    _is(
        "PEM after comments in Latin-1",
        lambda w: b"# f\xfcr\n" + _pem("all")(w),
        "2 certificates and a private key",
        EXPORT,
    ),
    _is(
        "PEM in UTF-16", lambda w: _pem("all")(w).decode().encode("utf-16"), "it is text in UTF-16", "iconv -f UTF-16 "
    ),
    _is(
        "PEM in UTF-16 (big-endian)",
        lambda w: b"\xfe\xff" + _pem("all")(w).decode().encode("utf-16-be"),
        "iconv -f UTF-16 ",
    ),
    _is("PEM in UTF-16 without a mark", lambda w: _pem("all")(w).decode().encode("utf-16-le"), "iconv -f UTF-16LE "),
    _is("PEM on one line, with \\n", lambda w: _pem("all")(w).replace(b"\n", b"\\n"), "written as \\n", "printf '%b"),
    _is(
        "PEM in base64",
        lambda w: base64.encodebytes(_pem("all")(w)),
        "base64 text, and inside is PEM text",
        "base64 -d -i FILE > decoded",
    ),
    _is(
        "PEM in JSON",
        lambda w: json.dumps({"value": _pem("all")(w).decode()}).encode(),
        "JSON text, and inside is PEM text",
    ),
    _is("PEM: certificate alone", _pem("cert"), "PEM text with a certificate.", "private key is not in it", WITH_KEY),
    _is("PEM: certificate and intermediate", _pem("cert", "chain"), "PEM text with 2 certificates.", WITH_KEY),
    _is(
        "PEM: key alone (PKCS#8)",
        _pem("key"),
        "PEM text with a private key.",
        "certificate is not in it",
        WITH_CERTIFICATE,
    ),
    _is("PEM: key alone (SEC 1)", _key("PEM", "TraditionalOpenSSL"), "PEM text with a private key.", WITH_CERTIFICATE),
    _is("PEM: key alone (PKCS#1)", lambda _: _rsa("PEM", "TraditionalOpenSSL"), "PEM text with a private key."),
    _is(
        "PEM: encrypted key alone",
        _key("PEM", "PKCS8", b"secret"),
        "PEM text with an encrypted private key.",
        WITH_CERTIFICATE,
    ),
    _is("PEM: encrypted key and certificates", _encrypted_pem, "2 certificates and an encrypted private key", EXPORT),
    _is(
        "PEM: key encrypted the old way",
        _traditionally_encrypted,
        "2 certificates and an encrypted private key",
        EXPORT,
    ),
    _is(
        "PEM: request alone", partial(_request, serialization.Encoding.PEM), "a signing request.", "An authority makes"
    ),
    _is(
        "PEM: request and key",
        lambda w: _request(serialization.Encoding.PEM, w) + _pem("key")(w),
        "a private key and a signing",
        WITH_CERTIFICATE,
    ),
    _is("PEM: PKCS#7", partial(_pkcs7, "PEM"), "certificates as PKCS#7.", FROM_P7),
    _is(
        "PEM: revocation list",
        partial(_revocation_list, serialization.Encoding.PEM),
        "a revocation list.",
        "Neither a certificate",
    ),
    _is("PEM: public key", partial(_public, serialization.Encoding.PEM), "a public key.", "Neither a certificate"),
    _is("PEM: key of OpenSSH", _ssh, "a private key of OpenSSH.", "Neither a certificate"),
    _is(
        "PEM: a message of OpenPGP",
        b"-----BEGIN PGP MESSAGE-----\n\nabcd\n-----END PGP MESSAGE-----\n",
        "a part of OpenPGP.",
    ),
    _is("PEM cut short", lambda w: _pem("all")(w)[:-40], "PEM text that is cut short"),
)
_DER_FILES = (
    _is("DER: certificate", _der_certificate, "it is a certificate in DER", WITH_KEY),
    _is(
        "DER: root", lambda w: w.root.certificate.public_bytes(serialization.Encoding.DER), "it is a certificate in DER"
    ),
    _is("DER: key (PKCS#8)", _key("DER", "PKCS8"), "a private key in DER (PKCS#8)", FROM_DER_KEY),
    _is("DER: key (SEC 1)", _key("DER", "TraditionalOpenSSL"), "a private key in DER (SEC 1)", FROM_DER_KEY),
    _is("DER: key (PKCS#1)", lambda _: _rsa("DER", "TraditionalOpenSSL"), "a private key in DER (PKCS#1)"),
    _is(
        "DER: encrypted key", _key("DER", "PKCS8", b"secret"), "a private key in DER (PKCS#8, encrypted)", FROM_DER_KEY
    ),
    _is("DER: request", partial(_request, serialization.Encoding.DER), "it is a signing request in DER"),
    _is(
        "DER: revocation list", partial(_revocation_list, serialization.Encoding.DER), "it is a revocation list in DER"
    ),
    _is("DER: public key", partial(_public, serialization.Encoding.DER), "it is a public key in DER"),
    _is(
        "DER: PKCS#7",
        partial(_pkcs7, "DER"),
        "a PKCS#7 message in DER (p7b)",
        FROM_P7.replace("pkcs7 -in", "pkcs7 -inform DER -in"),
    ),
    _is("DER: enveloped message", sequence(oid(ENVELOPED_DATA), explicit(sequence())), "that holds no certificates"),
    _is(
        "DER in base64",
        lambda w: base64.encodebytes(_der_certificate(w)),
        "base64 text, and inside is a certificate in DER",
    ),
    _is(
        "PFX signed with a key",
        sequence(integer(3), sequence(oid(SIGNED_DATA), explicit(sequence()))),
        "signed with a private key",
    ),
    _is(
        "PFX encrypted for a key",
        pfx(sequence(oid(ENVELOPED_DATA), explicit(sequence()))),
        "encrypted for a public key",
    ),
)
_OTHER_FILES = (
    _is("empty", b"", "it is empty"),
    _is("zeros", bytes(2048), "all of its 2048 octets are zero"),
    _is("one octet again and again", b"\xff" * 512, "all of its 512 octets are the same"),
    _is("white space", b" \r\n\t\r\n", "empty but for white space"),
    _is("HTML", b"<!DOCTYPE html><html><title>Sign in</title></html>", "a web page (HTML)"),
    _is("HTML after a mark and lines", BOM + b"\r\n\r\n<html lang=en></html>", "a web page (HTML)"),
    _is("HTML in UTF-16", "<!doctype html><title>x</title>".encode("utf-16"), "a web page (HTML)"),
    _is("XML", b"<?xml version='1.0'?><Error><Code>AuthenticationFailed</Code></Error>", "it is XML text"),
    _is("JSON", b'{"error": {"code": "SecretNotFound"}}', "it is JSON text"),
    _is("JSON whose value is null", b'{"value": null}', "it is JSON text"),
    _is("JSON nested deeply", b'{"a":' * 50_000, "it is JSON text"),
    _is("ZIP", _zip, "a ZIP archive", "Unpack it"),
    _is("gzip", lambda w: gzip.compress(w.good), "compressed by gzip", "Unpack it"),
    _is("tar", _tar, "a tar archive", "Unpack it"),
    _is("7z", b"7z\xbc\xaf\x27\x1c" + bytes(40), "a 7z archive"),
    _is("PDF", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
    _is("PNG", b"\x89PNG\r\n\x1a\n" + bytes(20), "an image (PNG)"),
    _is("OLE", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(20), "Windows (OLE)"),
    _is("shortcut of Windows", b"\x4c\0\0\0\x01\x14\x02\0" + b"\1" * 20, "a shortcut of Windows"),
    _is("AppleDouble", b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "what macOS keeps beside a file"),
    _is("PVK", _pvk, "a private key of Microsoft's (PVK)", "openssl rsa -inform PVK"),
    _is("key of PuTTY", b"PuTTY-User-Key-File-3: ssh-ed25519\r\nEncryption: none\r\n", "a private key of PuTTY"),
    _is("public key for SSH", b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@host\n", "a public key for SSH"),
    _is("pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    _is("git-crypt", b"\0GITCRYPT\0" + b"\1" * 20, "encrypted by git-crypt"),
    _is("Ansible Vault", b"$ANSIBLE_VAULT;1.1;AES256\n3132\n", "encrypted by Ansible Vault"),
    _is("openssl enc", b"Salted__" + b"\1" * 24, "encrypted by `openssl enc`"),
    _is("BKS", b"\0\0\0\x02\0\0\0\x14" + b"\1" * 40, "a keystore of Bouncy Castle"),
    _is(
        "reference to a secret",
        b"@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/s)",
        "belongs in CertificatePassword",
    ),
    _is("hexadecimal text", lambda w: w.good.hex().encode(), "it is hexadecimal text"),
    _is("hexadecimal text with 0x", lambda w: b"0x" + w.good.hex().encode(), "it is hexadecimal text"),
    _is("prose", b"Please find the certificate attached.\n", "it is text, and neither PEM nor base64"),
    _is("noise", bytes(range(1, 255)), "that can be read"),
)


def _base64(workshop: Workshop) -> bytes:
    return base64.b64encode(workshop.good)


def _text(name: str, change: Callable[[bytes], bytes], *, openssl: bool = False) -> Row:
    return Row(
        name=f"base64: {name}",
        make=lambda workshop: change(_base64(workshop)),
        warnings=("base64_text",),
        says=("base64 -d -i FILE > cert.pfx",),
        openssl=openssl,
        library=False,
        group="",
    )


def _armoured(label: str) -> Callable[[bytes], bytes]:
    def change(text: bytes) -> bytes:
        lines = base64.encodebytes(base64.b64decode(text))
        return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label.encode(), lines, label.encode())

    return change


_SECRET_SHOWN = {"attributes": {"enabled": True}, "contentType": "application/x-pkcs12", "id": "https://v/secrets/s/1"}
_BASE64_FILES = (
    _text("on one line", lambda text: text),
    _text("in lines", lambda text: base64.encodebytes(base64.b64decode(text))),
    _text("in lines with CR LF", lambda text: base64.encodebytes(base64.b64decode(text)).replace(b"\n", b"\r\n")),
    _text("a newline first", lambda text: b"\n" + text),
    _text("space around", lambda text: b"  \t" + text + b" \r\n\r\n"),
    _text("a byte-order mark", lambda text: BOM + text),
    _text("UTF-16, as PowerShell writes it", lambda text: text.decode().encode("utf-16")),
    _text("UTF-16 without a mark", lambda text: text.decode().encode("utf-16-le")),
    _text("quotation marks", lambda text: b'"' + text + b'"\n'),
    _text("apostrophes", lambda text: b"'" + text + b"'"),
    _text("bytes of Python", lambda text: b"b'" + text + b"'\n"),
    _text("quotation marks and a mark", lambda text: BOM + b'"' + text + b'"\r\n'),
    _text("a comma at the end", lambda text: b'"' + text + b'",'),
    _text("\\r\\n written out", lambda text: b"\\r\\n".join(text[at : at + 64] for at in range(0, len(text), 64))),
    _text(
        "JSON of az keyvault secret show",
        lambda text: json.dumps(_SECRET_SHOWN | {"value": text.decode()}, indent=2).encode(),
    ),
    _text(
        "JSON with line ends in it",
        lambda text: json.dumps({"value": base64.encodebytes(base64.b64decode(text)).decode()}).encode(),
    ),
    _text("a data: URL", lambda text: b"data:application/x-pkcs12;base64," + text),
    _text("the alphabet for URLs", lambda text: text.translate(bytes.maketrans(b"+/", b"-_"))),
    _text(
        "the alphabet for URLs without padding", lambda text: text.translate(bytes.maketrans(b"+/", b"-_")).rstrip(b"=")
    ),
    _text("percent-encoded", lambda text: text.replace(b"+", b"%2B").replace(b"/", b"%2F").replace(b"=", b"%3D")),
    _text("without padding", lambda text: text.rstrip(b"=")),
    _text("lines of PEM for PKCS12", _armoured("PKCS12")),
    _text("lines of PEM for a certificate, as certutil -encode writes", _armoured("CERTIFICATE")),
    _text("base64 of base64", base64.b64encode),
    _text("an end of file of DOS", lambda text: text + b"\r\n\x1a"),
    _is("base64 cut short", lambda w: _base64(w)[:600], "base64 text, and inside is a PFX that is cut short"),
    _is("base64 and something else", lambda w: _base64(w) + b"\nThis is our certificate.", "neither PEM nor base64"),
    _is(
        "base64 of a PFX twice over", lambda w: _base64(w) + b"\n\n" + _base64(w)[:-4] + b"!", "neither PEM nor base64"
    ),
    _is(
        "base64 four times over",
        lambda w: base64.b64encode(base64.b64encode(base64.b64encode(_base64(w)))),
        "base64 text",
    ),
)


def _with_line_feeds(workshop: Workshop) -> bytes:
    """The good PFX, made again until it has line feeds and carriage returns."""
    content = workshop.good
    while content.count(b"\n") < 2 or b"\r" not in content.replace(b"\r\n", b""):
        content = workshop.export()
    return content


def _broken(name: str, change: Callable[[bytes], bytes], *says: str, password: str = "secret") -> Row:
    return Row(
        name=f"broken: {name}",
        make=lambda workshop: change(_with_line_feeds(workshop)),
        password=password,
        verdicts=UNREADABLE,
        says=says,
        openssl=False,
    )


def _latin(encoding: str) -> Callable[[bytes], bytes]:
    return lambda content: content.decode("latin-1").encode(encoding)


def _windows(content: bytes) -> str:
    """As Windows reads octets, which has a character for each."""
    return "".join(bytes([octet]).decode("cp1252", "ignore") or chr(octet) for octet in content)


AS_TEXT = "almost certainly handled as text: "
_BROKEN_FILES = (
    _is("base64 of zeros", base64.encodebytes(bytes(900)), "base64 text, and inside: all of its 900 octets are zero"),
    _broken(
        "line feeds became CR LF",
        lambda content: content.replace(b"\n", b"\r\n"),
        AS_TEXT + "its line feeds became CR LF",
    ),
    _broken("carriage returns became CR LF", lambda content: content.replace(b"\r", b"\r\n"), AS_TEXT),
    _broken("Latin-1 became UTF-8", _latin("utf-8"), AS_TEXT + "Latin-1 became UTF-8"),
    _broken("Latin-1 became UTF-8 with a mark", _latin("utf-8-sig"), AS_TEXT + "Latin-1 became UTF-8"),
    _broken("code page 1252 became UTF-8", lambda content: _windows(content).encode(), AS_TEXT),
    _broken("Latin-1 became UTF-16", _latin("utf-16"), AS_TEXT + "Latin-1 became UTF-16"),
    _broken(
        "code page 437 became UTF-16",
        lambda content: content.decode("cp437").encode("utf-16"),
        AS_TEXT + "code page 437",
    ),
    _broken(
        "UTF-8 with replacements", lambda content: content.decode("utf-8", "replace").encode(), "replaced (by EF BF BD)"
    ),
    _broken(
        "ASCII with question marks",
        lambda content: content.decode("ascii", "replace").encode("ascii", "replace"),
        "all octets above 127",
    ),
    _broken("seven bits", lambda content: bytes(octet & 0x7F for octet in content), "all octets above 127"),
    _broken("a byte-order mark before it", lambda content: BOM + content, "a byte-order mark was put before it"),
    _broken(
        "headers before it",
        lambda content: b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n" + content,
        "behind 30 octets of something else",
    ),
    _broken("a newline before it", lambda content: b"\n" + content, "behind an octet of something else"),
    *(
        _broken(f"cut to {size} octets", lambda content, size=size: content[:size], "a PFX that is cut short: ")  # type: ignore[misc]
        for size in (30, 200, 600, 1024)
    ),
    _broken("its last octet is missing", lambda content: content[:-1], "cut short: 1 of the "),
    _broken(
        "an octet in the MAC",
        lambda content: content[:-30] + bytes([content[-30] ^ 1]) + content[-29:],
        "almost certainly the password is wrong",
    ),
    _broken(
        "an octet in the middle",
        lambda content: content[:700] + bytes([content[700] ^ 1]) + content[701:],
        "almost certainly the password is wrong",
    ),
    *(
        Row(name=f"followed by {what}", make=lambda workshop, end=end: workshop.good + end)  # type: ignore[misc]
        for what, end in {"CR LF": b"\r\n", "zeros": bytes(512), "another": b"0\x82"}.items()
    ),
)

ROWS = (*_PEM_FILES, *_DER_FILES, *_OTHER_FILES, *_BASE64_FILES, *_BROKEN_FILES)
