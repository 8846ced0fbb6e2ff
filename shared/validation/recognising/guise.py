"""A file that is no PFX, in words: what it is and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

EXPORT_AGAIN = "Export it again, and upload the whole file as it is."
UPLOAD_AS_IT_IS = (
    "Upload the original again as it is: as binary where FTP is used, as `*.pfx binary` in .gitattributes where git is."
)


def export(certificate: str = "cert.pem", key: str = "key.pem") -> str:
    """The command that makes a PFX of a certificate and its key, which are in two files."""
    return f"openssl pkcs12 -export -in {certificate} -inkey {key} -out cert.pfx"


NEITHER = f"Neither a certificate nor its private key is in it; make a PFX of those: `{export()}`."
NO_KEY = "Its private key is not in it; make a PFX of both: `{}`."
NO_CERTIFICATE = "Its certificate is not in it; make a PFX of both: `{}`."
REQUESTED = "An authority makes a certificate of the request; make a PFX of that and its key: `{}`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Guise:
    """What a file is.

    Attributes:
        what: A clause.
        cure: Sentences; in commands FILE is the file.
    """

    what: str
    cure: str = EXPORT_AGAIN

    def inside(self, what: str, step: str) -> Guise:
        """The same inside something else.

        Args:
            what: What it is inside of, as a clause.
            step: What makes a file named `decoded` of it, as a sentence.
        """
        named = self.what.removeprefix("it is ")
        wrapped = f"{what}, and inside{':' if named == self.what else ' is'} {named}"
        if "FILE" not in self.cure:
            return Guise(what=wrapped, cure=self.cure)
        return Guise(what=wrapped, cure=f"{step} Then: {self.cure.replace('FILE', 'decoded')}")
