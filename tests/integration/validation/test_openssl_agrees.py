"""With roots of one's own, a chain is good where `openssl verify -purpose sslserver` says so, and nowhere else."""

import datetime as dt
import subprocess
from pathlib import Path

import pytest

from shared.bundle import CertificateBundle
from shared.upload import UploadMetadata
from shared.validation.judge import Judgement, ValidationPolicy, judge_bundle
from shared.validation.trust import Trust
from shared.verdict import VerdictCode
from tests.rigs.chain_family import family
from tests.rigs.chains import Chain, pem
from tests.rigs.programs import needs

pytestmark = needs("openssl")
FAMILY = family()
ABOUT_CHAINS = {
    VerdictCode.UNTRUSTED_CHAIN,
    VerdictCode.INCOMPLETE_CHAIN,
    VerdictCode.MALFORMED_CERTIFICATE,
    VerdictCode.NOT_A_SERVER_CERTIFICATE,
}


def judged(chain: Chain) -> Judgement:
    policy = ValidationPolicy(trust=Trust(roots=chain.roots(), name="roots.pem"))
    return judge_bundle(chain.bundle(), UploadMetadata(), policy=policy, now=dt.datetime.now(dt.UTC))


def openssl(folder: Path, chain: Chain, others: list[bytes]) -> str:
    """Empty where OpenSSL takes it, else its words.

    An intermediate may be trusted itself, as with most programs. Of roots of one name OpenSSL may try a single one, so
    that each is asked about by itself.
    """
    words = [_openssl(folder, chain.leaf.der, others, made.der) for made in chain.trusted]
    return "" if "" in words else "\n".join(words)


def _openssl(folder: Path, leaf: bytes, others: list[bytes], root: bytes) -> str:
    for name, ders in {"leaf": [leaf], "others": others, "root": [root]}.items():
        (folder / name).write_bytes(pem(*ders))
    command = ["openssl", "verify", "-no-CApath", "-no-CAstore", "-partial_chain", "-purpose", "sslserver"]
    untrusted = ["-untrusted", "others"] if others else []
    done = subprocess.run(
        [*command, "-CAfile", "root", *untrusted, "leaf"], cwd=folder, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("name", FAMILY)
def test_our_word_is_openssl_s(name: str, tmp_path: Path) -> None:
    chain = FAMILY[name]
    judgement = judged(chain)
    against = [violation for violation in judgement.violations if violation.code in ABOUT_CHAINS]
    if against:
        # Of several ways up OpenSSL tries one, and may refuse what has a good one: only its refusals are asked for.
        assert openssl(tmp_path, chain, [other.der for other in chain.others]), against
    else:
        assert isinstance(judgement.bundle, CertificateBundle)
        assert openssl(tmp_path, chain, [link.der for link in judgement.bundle.chain]) == ""
