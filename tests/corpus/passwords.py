"""Passwords of every kind, given rightly, spelled as other programs spell them, and given wrongly."""

from __future__ import annotations

import unicodedata
from functools import partial

from tests.corpus.row import Row
from tests.corpus.workshop import SECRET, Workshop
from tests.rigs.handmade_pfx import encrypted_safe, pfx, plain_safe, shrouded_key_bag

RIGHT = {
    "one letter": "x",
    "spaces inside": "two words",
    "space at both ends": " secret ",
    "quotation marks": '"secret"',
    "punctuation": "p$a%s^s&w\\o/r'd!",
    "letters of Latin-1": "pässwörd",
    "the euro sign": "pass€",
    "Greek": "κωδικός",
    "a snowman": "snow \N{SNOWMAN} man",
    "Chinese": "密码密码",
    "a letter beyond the BMP": "\N{PILE OF POO} and \N{MATHEMATICAL BOLD CAPITAL A}",
    "accents apart from their letters": unicodedata.normalize("NFD", "pässwörd"),
    "a byte-order mark": "\ufeffsecret",
    "200 letters": "long" * 50,
}
SCHEMES: dict[str, tuple[str, ...]] = {"AES": (), "RC2 and 3DES": ("-legacy",), "AES without MAC": ("-nomac",)}
ALL = " or ".join(SCHEMES)
GRUEN = "grün"
OPENSSL_1_0 = "as OpenSSL before 1.1 did"


def _written(password: str | bytes, options: tuple[str, ...], workshop: Workshop) -> bytes:
    return workshop.export(*options, password=password)


def _twice(text: str, page: str = "latin-1") -> str:
    """UTF-8 taken for the characters of a code page."""
    return text.encode().decode(page)


_SPELLINGS: tuple[tuple[str, str | bytes, str, str, tuple[bool, bool]], ...] = (
    # what happened, what was written, what is given, what is said of it, whether OpenSSL opens AES and the old way
    ("UTF-8 taken for Latin-1", _twice(GRUEN), GRUEN, OPENSSL_1_0, (True, True)),
    ("UTF-8 of the euro sign taken for Latin-1", _twice("pass€"), "pass€", OPENSSL_1_0, (True, True)),
    ("UTF-8 of an emoji taken for Latin-1", _twice("\U0001f4a9"), "\U0001f4a9", OPENSSL_1_0, (True, True)),
    ("UTF-8 of the euro sign taken for 1252", _twice("pass€", "cp1252"), "pass€", "code page 1252", (False, False)),
    ("accents apart", unicodedata.normalize("NFD", GRUEN), GRUEN, "decomposed (Unicode's NFD)", (False, False)),
    ("accents given apart", GRUEN, unicodedata.normalize("NFD", GRUEN), "composed (Unicode's NFC)", (False, False)),
    ("given as UTF-8 that was read as 1252", GRUEN, _twice(GRUEN, "cp1252"), "read as UTF-8", (False, False)),
    (
        "the euro sign given as UTF-8 that was read as 1252",
        "pass€",
        _twice("pass€", "cp1252"),
        "read as UTF-8",
        (False, False),
    ),
    ("code page 1252", "pass€".encode("cp1252"), "pass€", "code page 1252", (False, False)),
    ("code page 850", GRUEN.encode("cp850"), GRUEN, "code page 850", (False, False)),
    ("code page 437", "Ω-pass".encode("cp437"), "Ω-pass", "code page 437", (False, False)),
)
_NAMED = (
    # what is around it, what is given, what is said
    ("a byte-order mark before it", "\ufeffsecret", "without a byte-order mark (U+FEFF) before it"),
    ("a byte-order mark before it, read as 1252", "ï»¿secret", "without a byte-order mark (U+FEFF) before it"),
    ("a byte-order mark before and a line end after it", "\ufeffsecret\r\n", "before it and a line end after it"),
    ("a line feed after it", "secret\n", "without a line end after it"),
    ("CR LF after it", "secret\r\n", "without a line end after it"),
    ("a carriage return after it", "secret\r", "without a line end after it"),
    ("a space after it", "secret ", "without a space or an invisible character after it"),
    ("a space before it", " secret", "without a space or an invisible character before it"),
    ("a tab after it", "secret\t", "without a space or an invisible character after it"),
    ("a no-break space after it", "secret\u00a0", "without a space or an invisible character after it"),
    ("a zero-width space after it", "secret\u200b", "without a space or an invisible character after it"),
    ("a null character after it", "secret\0", "without a space or an invisible character after it"),
    ("quotation marks around it", '"secret"', "without a quotation mark before it and a quotation mark after it"),
    ("apostrophes around it", "'secret'", "without a quotation mark before it and a quotation mark after it"),
    ("quotation marks of print around it", "\u201csecret\u201d", "without a quotation mark before it"),
)


def _two(workshop: Workshop) -> bytes:
    """The key under another password than the certificates, without a MAC."""
    key, certificates = shrouded_key_bag(workshop.issued.key, "other"), workshop.bare[1:]
    return pfx(plain_safe(key), encrypted_safe(SECRET, *certificates))


UNREADABLE = ("unreadable_bundle",)

ROWS = (
    *(
        Row(
            name=f"{what}, {scheme}",
            make=partial(_written, password, options),
            password=password,
            openssl=True,
            group=f"given as it was, in {ALL}: " + ", ".join(RIGHT),
        )
        for scheme, options in SCHEMES.items()
        for what, password in RIGHT.items()
    ),
    *(
        Row(
            name=f"empty, given as {given}, {scheme}",
            make=partial(_written, "", options),
            password=password,
            group="empty, given as empty or as none",
        )
        for scheme, options in SCHEMES.items()
        for given, password in (("empty", ""), ("none", None))
    ),
    *(
        Row(
            name=f"{what}, {scheme}",
            make=partial(_written, written, options),
            password=given,
            warnings=("password_spelling",),
            says=(said,),
            openssl=opens,
            library=False,
            group=what,
        )
        for what, written, given, said, words in _SPELLINGS
        for (scheme, options), opens in zip(list(SCHEMES.items())[:2], words, strict=True)
    ),
    Row(
        name="code page 1252 where Latin-1 is the same, AES",
        make=partial(_written, GRUEN.encode("cp1252"), ()),
        password=GRUEN,
        warnings=("password_spelling",),
        says=("code page 1252",),
        openssl=False,
        library=False,
    ),
    Row(
        name="code page 1252 where Latin-1 is the same, RC2 and 3DES",
        make=partial(_written, GRUEN.encode("cp1252"), SCHEMES["RC2 and 3DES"]),
        password=GRUEN,
    ),
    *(
        Row(
            name=f"given with {what}, {scheme}",
            make=partial(_written, SECRET, options),
            password=given,
            verdicts=UNREADABLE,
            says=(said, "Give it so"),
            openssl=None,
            group="given with " + ", with ".join(what for what, _, _ in _NAMED),
        )
        for what, given, said in _NAMED
        for scheme, options in SCHEMES.items()
        # HMAC, and so PBKDF2, fills up with null characters by itself: nothing is wrong there.
        if not (given.endswith("\0") and "-nomac" in options)
    ),
    *(
        Row(
            name=f"written with a carriage return after it, {scheme}",
            make=partial(_written, b"secret\r", options),
            verdicts=UNREADABLE,
            says=("with a carriage return after it. Export the file again",),
            openssl=False,
            group="written with a carriage return after it",
        )
        for scheme, options in SCHEMES.items()
    ),
    *(
        Row(
            name=f"given though the file has none, {scheme}",
            make=partial(_written, "", options),
            verdicts=UNREADABLE,
            says=("but it does without any password. Leave CertificatePassword out",),
            openssl=False,
            group="given though the file has none",
        )
        for scheme, options in SCHEMES.items()
    ),
    *(
        Row(
            name=f"{what}, {scheme}",
            make=partial(_written, SECRET, options),
            password=given,
            verdicts=UNREADABLE,
            says=(said,),
            openssl=False,
            group=what,
        )
        for what, given, said in (
            ("a wrong one", "mistaken", "almost certainly the password is wrong"),
            ("in capitals", "SECRET", "almost certainly the password is wrong"),
            ("none given", None, "almost certainly it has a password"),
            (
                "a wrong one with a mark before it",
                "\ufeffmistaken",
                "The password given has a byte-order mark (U+FEFF) before it",
            ),
            ("a wrong one with a space after it", "mistaken ", "The password given has a space"),
        )
        for scheme, options in SCHEMES.items()
    ),
    Row(
        name="another for the key than for the certificates, without MAC",
        make=_two,
        verdicts=UNREADABLE,
        says=("almost certainly the password is wrong",),
        openssl=None,
    ),
)
