"""PEM files of ours: their names, their tags, and reading them back."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instance_agent.targets.base import ApplyError, Install, Remove
from instance_agent.targets.parts.file_batch import FileBatch
from instance_agent.targets.parts.pem_file import TAG, file_name, host_of, name_refusal, tagged_pem
from instance_agent.targets.parts.pem_folder import PemFolder
from shared.hostnames import DEFAULT_HOST, normalise_host
from tests.rigs.certificates import self_signed
from tests.rigs.targets import bind, fresh, root, unfit

LABELS = st.text(alphabet="abc0-", min_size=1, max_size=6)
HOSTS = st.builds(
    lambda labels, wild: ("*." if wild else "") + ".".join(labels), st.lists(LABELS, min_size=1), st.booleans()
)


def stored(folder: Path, change: Install, content: bytes | None = None) -> PemFolder:
    pems = PemFolder(folder)
    path = pems.path(*change.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tagged_pem(change) if content is None else content)
    return pems


class TestNames:
    @given(HOSTS | st.text(max_size=30))
    def test_a_file_name_is_one_component_and_tells_its_host(self, host: str) -> None:
        try:
            name = file_name(host)
        except ValueError:
            return
        assert host == DEFAULT_HOST or normalise_host(host) == host
        assert "/" not in name
        assert "\0" not in name
        assert name not in {"", ".", ".."}
        assert host_of(name) == host

    def test_the_defaults_file_is_called_as_no_hosts_is(self) -> None:
        assert (file_name(DEFAULT_HOST), host_of("_default_")) == ("_default_", DEFAULT_HOST)

    @pytest.mark.parametrize("host", ["../x", "/etc/passwd", "A.example", "x..y", "", "_.example.com", "a\n.example"])
    def test_what_is_no_normalised_host_has_no_file(self, host: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            file_name(host)

    def test_a_host_too_long_for_a_file_and_a_port_that_is_none_are_refused(self) -> None:
        long = ".".join(["x" * 61] * 4) + ".com"
        change = fresh("a.example.com", 443)
        refused = [
            Install(host=host, port=port, bundle_id="", bundle=change.bundle)
            for host, port in ((long, 443), ("a.example.com", 0), ("a.example.com", 65536), ("A.example", 443))
        ]
        assert all(name_refusal(*each.key) for each in refused)
        assert name_refusal(*change.key) is None


class TestReadingBack:
    def test_a_file_tells_what_was_installed(self, tmp_path: Path) -> None:
        issued = root().intermediate().issue("*.example.com")
        change = replace(bind(issued, "*.example.com", 8443), site='a "site"\nof mine')
        (binding,) = stored(tmp_path, change).read().values()
        assert change.is_done_by(binding)
        assert binding.site == change.site

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda pem: pem.partition(b"\n")[2],
            lambda pem: pem.replace(b"# certcast", b"# Certcast"),
            lambda pem: pem.replace(b'"port": 443', b'"port": 444'),
            lambda pem: pem.replace(b'"host": "a', b'"host": "b'),
            lambda pem: pem.replace(b'"host": "a.example.com"', b'"host": 7'),
            lambda pem: pem.replace(b'"host"', b'"name"'),
            lambda pem: b"# certcast []\n" + pem.partition(b"\n")[2],
            lambda pem: pem[: pem.index(b"-----BEGIN CERTIFICATE")],
            lambda pem: pem[:0],
        ],
    )
    def test_a_file_that_is_not_whole_or_not_ours_tells_nothing(self, tmp_path: Path, spoil: object) -> None:
        assert callable(spoil)
        change = fresh("a.example.com", 443)
        assert stored(tmp_path, change, spoil(tagged_pem(change))).read() == {}

    def test_a_replaced_file_is_read_again_and_an_unchanged_one_is_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, new = (fresh("a.example.com", 443) for _ in range(2))
        pems = stored(tmp_path, old)
        assert old.is_done_by(pems.read()[old.key])
        staged = tmp_path / "staged"
        staged.write_bytes(tagged_pem(new))
        staged.replace(pems.path(*new.key))
        assert new.is_done_by(pems.read()[new.key])
        monkeypatch.setattr(PemFolder, "_parse", None)
        assert new.is_done_by(pems.read()[new.key])

    def test_changes_that_were_announced_are_known_without_looking_at_the_other_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        changes = {host: fresh(host, 443) for host in ("a.example.com", "b.example.com", "c.example")}
        pems = PemFolder(tmp_path)
        for change in list(changes.values())[:2]:
            stored(tmp_path, change)
        assert len(pems.read()) == 2
        with pems.changing([("b.example.com", 443), ("c.example", 443)]):
            stored(tmp_path, changes["c.example"])
            pems.path("b.example.com", 443).unlink()
        monkeypatch.setattr(os, "scandir", None)
        assert set(pems.read()) == {("a.example.com", 443), ("c.example", 443)}

    def test_what_changed_besides_what_was_announced_is_noticed(self, tmp_path: Path) -> None:
        changes = {host: fresh(host, 443) for host in ("a.example.com", "b.example.com", "c.example")}
        pems = stored(tmp_path, changes["a.example.com"])
        assert len(pems.read()) == 1
        os.utime(tmp_path / "443", ns=(0, 0))  # as if some time passed
        stored(tmp_path, changes["b.example.com"])
        with pems.changing([("c.example", 443)]):
            stored(tmp_path, changes["c.example"])
        assert len(pems.read()) == 3

    def test_some_hosts_are_read_as_they_are_now_without_listing_the_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hosts = ("kept.example.com", "gone.example.com", "edited.example.com", "another.example.com")
        changes = {host: fresh(host, 443) for host in hosts}
        for change in changes.values():
            pems = stored(tmp_path, change)
        (tmp_path / "8443").touch()
        keys = [(host, 443) for host in (*hosts[:3], "never.example.com", f"{'x.' * 125}de")]
        assert set(pems.read()) == {(host, 443) for host in hosts}
        monkeypatch.setattr(os, "scandir", None)
        monkeypatch.setattr(os, "listdir", None)
        assert set(pems.read(keys)) == {(host, 443) for host in hosts[:3]}
        pems.path("gone.example.com", 443).unlink()
        pems.path("edited.example.com", 443).write_text("edited")
        assert set(pems.read([*keys, ("kept.example.com", 8443)])) == {("kept.example.com", 443)}

    def test_a_file_edited_in_its_place_is_noticed_after_a_while(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change = fresh("a.example.com", 443)
        pems = stored(tmp_path, change)
        assert len(pems.read()) == 1
        pems.path(*change.key).write_text("edited")
        monkeypatch.setattr("instance_agent.targets.parts.pem_folder._LOOK_AGAIN_S", 0.0)
        assert pems.read() == {}

    def test_what_lies_elsewhere_in_the_folder_is_not_looked_at(self, tmp_path: Path) -> None:
        change = fresh("a.example.com", 443)
        pems = stored(tmp_path, change)
        for place in ("a.example.com.pem", "0443/a.example.com.pem", "443/a.example.com.pem.bak", "x/y.pem"):
            (tmp_path / place).parent.mkdir(exist_ok=True)
            (tmp_path / place).write_bytes(tagged_pem(change))
        assert set(pems.read()) == {change.key}
        assert PemFolder(tmp_path / "nowhere").read() == {}

    def test_what_cannot_be_served_is_named_before_it_is_written(self) -> None:
        with pytest.raises(ApplyError, match="does not belong") as caught:
            tagged_pem(unfit("a.example.com", 443))
        assert caught.value.culprit == ("a.example.com", 443)
        with pytest.raises(ApplyError, match="key too small"):
            tagged_pem(bind(self_signed("a.example.com", key="rsa1024"), "a.example.com", 443))


class TestChangedByHand:
    """Somebody else put another certificate where one of ours was."""

    @pytest.mark.parametrize("told", ["the old tag", "no tag", "another host's tag"])
    def test_another_certificate_is_reported_as_itself_and_done_for_no_bundle(self, tmp_path: Path, told: str) -> None:
        mine, other = fresh("a.example.com", 443), fresh("a.example.com", 443)
        pems = stored(tmp_path, mine)
        assert mine.is_done_by(pems.read()[mine.key])
        tag = {
            "the old tag": tagged_pem(mine).partition(b"\n")[0] + b"\n",
            "no tag": b"",
            "another host's tag": tagged_pem(fresh("b.example.com", 443)).partition(b"\n")[0] + b"\n",
        }[told]
        pems.path(*mine.key).write_bytes(tag + other.bundle.to_pem())
        pems.forget()
        for found in (pems.read()[mine.key], pems.read([mine.key])[mine.key]):
            assert found.fingerprint_sha256 == other.bundle.fingerprint_sha256
            assert not mine.is_done_by(found)
            assert not other.is_done_by(found)

    def test_the_same_leaf_with_another_chain_is_noticed(self, tmp_path: Path) -> None:
        mine = bind(root().intermediate().issue("a.example.com"), "a.example.com", 443)
        whole = tagged_pem(mine)
        pems = stored(tmp_path, mine, whole[: whole.rindex(b"-----BEGIN CERTIFICATE")])
        (found,) = pems.read().values()
        assert found.fingerprint_sha256 == mine.bundle.fingerprint_sha256
        assert not mine.is_done_by(found)

    def test_a_tag_from_before_digests_were_told_is_believed_if_the_leaf_is_the_bundles(self, tmp_path: Path) -> None:
        mine, other = fresh("a.example.com", 443), fresh("a.example.com", 443)
        tag = f'{TAG}{{"host": "a.example.com", "port": 443, "bundle": "{mine.bundle_id}", "site": null}}\n'.encode()
        (found,) = stored(tmp_path, mine, tag + mine.bundle.to_pem()).read().values()
        assert mine.is_done_by(found)
        (found,) = stored(tmp_path, mine, tag + other.bundle.to_pem()).read().values()
        assert not mine.is_done_by(found)

    def test_what_took_the_place_of_ours_is_replaced_and_deleted_and_a_strangers_is_not(self, tmp_path: Path) -> None:
        mine = fresh("a.example.com", 443)
        pems = stored(tmp_path / "live", mine)
        path = pems.path(*mine.key)
        for changes, left in (([mine], tagged_pem(mine)), ([Remove(host=mine.host, port=443)], None)):
            assert pems.owns(mine.key)
            path.write_bytes(b"by hand")
            batch = FileBatch(tmp_path / "staging")
            pems.enter(changes, batch)
            batch.commit()
            batch.close()
            assert (path.read_bytes() if path.exists() else None) == left
        assert pems.at(mine.key) is None
        path.write_bytes(mine.bundle.to_pem())
        assert not pems.owns(mine.key)
        with pytest.raises(ApplyError, match="not made by certcast"):
            pems.enter([mine], FileBatch(tmp_path / "staging"))

    def test_what_was_just_written_is_ours_though_it_was_not_read_since(self, tmp_path: Path) -> None:
        mine, other = fresh("a.example.com", 443), fresh("a.example.com", 443)
        pems = PemFolder(tmp_path / "live")
        batch = FileBatch(tmp_path / "staging")
        pems.enter([mine], batch)
        batch.commit()
        batch.close()
        pems.path(*mine.key).write_bytes(other.bundle.to_pem())
        (found,) = pems.read([mine.key]).values()
        assert found.fingerprint_sha256 == other.bundle.fingerprint_sha256
