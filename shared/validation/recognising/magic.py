"""Files of other formats, by how they begin."""

from __future__ import annotations

from shared.validation.recognising.guise import NO_CERTIFICATE, Guise, export

_INSTEAD = "Upload the PFX itself."
_UNPACK = "Unpack it, and upload the PFX in it."
_KEYTOOL = (
    "Make a PFX of it: `keytool -importkeystore -srckeystore FILE -srcstoretype {} -destkeystore cert.pfx "
    "-deststoretype PKCS12`."
)
_BOUNCY = "Export it as PKCS#12 with Bouncy Castle's provider."
_PVK = f"openssl rsa -inform PVK -in FILE -out key.pem && {export()}"

_BINARY = (
    (b"\xfe\xed\xfe\xed", "a Java keystore (JKS)", _KEYTOOL.format("JKS")),
    (b"\xce\xce\xce\xce", "a Java keystore (JCEKS)", _KEYTOOL.format("JCEKS")),
    (
        b"\0\0\0\x01\0\0\0\x14",
        "a keystore of Bouncy Castle (BKS)",
        "Export it as PKCS#12 with Bouncy Castle's provider.",
    ),
    (
        b"\0\0\0\x02\0\0\0\x14",
        "a keystore of Bouncy Castle (BKS)",
        "Export it as PKCS#12 with Bouncy Castle's provider.",
    ),
    (b"\x1e\xf1\xb5\xb0", "a private key of Microsoft's (PVK)", NO_CERTIFICATE.format(_PVK)),
    (b"PK\x03\x04", "a ZIP archive", _UNPACK),
    (b"PK\x05\x06", "an empty ZIP archive", _INSTEAD),
    (b"\x1f\x8b", "compressed by gzip", _UNPACK),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"%PDF-", "a PDF document", _INSTEAD),
    (b"\x89PNG\r\n", "an image (PNG)", _INSTEAD),
    (b"\xff\xd8\xff", "an image (JPEG)", _INSTEAD),
    (b"GIF8", "an image (GIF)", _INSTEAD),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document or an installer of Windows (OLE)", _INSTEAD),
    (b"MZ", "a program of Windows", _INSTEAD),
    (b"\x7fELF", "a program of Linux", _INSTEAD),
    (b"\x4c\0\0\0\x01\x14\x02\0", "a shortcut of Windows", "Upload the PFX that it leads to."),
    (
        b"\0\x05\x16\x07",
        "what macOS keeps beside a file (AppleDouble)",
        "Upload the file whose name has no `._` before.",
    ),
    (b"SQLite format 3\0", "a database (SQLite)", _INSTEAD),
    (b"bplist00", "a property list of macOS", _INSTEAD),
    (b"Salted__", "encrypted by `openssl enc`", "Decrypt it, and upload the PFX."),
    (b"\0GITCRYPT\0", "encrypted by git-crypt", "Unlock the repository with `git-crypt unlock`, and upload the PFX."),
)
_TEXT = (
    ("<!doctype html", "a web page (HTML)", "A page for signing in, or of an error, was saved in its place: {}"),
    ("<html", "a web page (HTML)", "A page for signing in, or of an error, was saved in its place: {}"),
    ("<?xml", "XML text", _INSTEAD),
    ("<", "XML or HTML text", _INSTEAD),
    ("{", "JSON text", _INSTEAD),
    ("[", "JSON text", _INSTEAD),
    ("putty-user-key-file-", "a private key of PuTTY, which is for SSH", _INSTEAD),
    ("ssh-", "a public key for SSH", _INSTEAD),
    ("ecdsa-sha2-", "a public key for SSH", _INSTEAD),
    ("---- begin ssh2 public key", "a public key for SSH", _INSTEAD),
    ("age-encryption.org/", "encrypted by age", "Decrypt it, and upload the PFX."),
    ("$ansible_vault;", "encrypted by Ansible Vault", "Decrypt it with `ansible-vault decrypt`, and upload the PFX."),
    (
        "version https://git-lfs.github.com/spec/",
        "a pointer of Git LFS",
        "Run `git lfs pull`, and upload the file.",
    ),
    ("http/1.", "a web server's answer with its headers", _INSTEAD),
    ("mime-version:", "an e-mail message", "Save what is attached to it, and upload that."),
    ("@microsoft.keyvault(", "a reference to a Key Vault secret, which belongs in CertificatePassword", _INSTEAD),
)
_TAR = b"ustar"
_TAR_AT = 257
_HEX = "3082"


def binary_of(content: bytes) -> Guise | None:
    """The format of a binary file, if it is known."""
    for start, name, cure in _BINARY:
        if content.startswith(start):
            return Guise(what=f"it is {name}", cure=cure)
    if content[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return Guise(what="it is a tar archive", cure=_UNPACK)
    return None


def text_format_of(text: str) -> Guise | None:
    """The format of a text, if it is known and no encoding of something else."""
    start = text[:100].lower()
    for begins, name, cure in _TEXT:
        if start.startswith(begins):
            return Guise(what=f"it is {name}", cure=cure.format(_INSTEAD[0].lower() + _INSTEAD[1:]))
    if "".join(start.split()).removeprefix("0x").removeprefix("\\x").startswith(_HEX):
        return Guise(what="it is hexadecimal text", cure="Upload the octets that it stands for.")
    return Guise(what="it is empty but for white space", cure="Upload it again.") if not text else None
