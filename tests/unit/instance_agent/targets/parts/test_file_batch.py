"""Batches of files: private from their first byte, whole or not at all, and back as before when something fails."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.parts.access import Access
from instance_agent.targets.parts.file_batch import FileBatch, clear_staging


class TestBatches:
    def test_files_are_written_replaced_and_deleted_and_all_of_it_is_undone(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_text("old")
        (tmp_path / "gone").write_text("gone")
        batch = FileBatch(tmp_path / "staging")
        batch.write(tmp_path / "old", b"new")
        batch.write(tmp_path / "deep" / "er" / "fresh", b"fresh")
        batch.delete(tmp_path / "gone")
        batch.delete(tmp_path / "never")
        batch.commit()
        assert (tmp_path / "old").read_text() == "new"
        assert (tmp_path / "deep" / "er" / "fresh").read_text() == "fresh"
        assert not (tmp_path / "gone").exists()
        batch.undo()
        assert (tmp_path / "old").read_text() == "old"
        assert (tmp_path / "gone").read_text() == "gone"
        assert not (tmp_path / "deep" / "er" / "fresh").exists()
        batch.close()
        assert not list((tmp_path / "staging").iterdir())

    def test_many_files_are_written_like_few_and_one_that_fails_takes_all_back(self, tmp_path: Path) -> None:
        contents = {tmp_path / f"file-{number}": f"content {number}".encode() for number in range(50)}
        batch = FileBatch(tmp_path / "staging")
        for path, content in contents.items():
            batch.write(path, content)
        batch.commit()
        batch.close()
        assert {path: path.read_bytes() for path in contents} == contents
        assert {stat.S_IMODE(path.stat().st_mode) for path in contents} == {0o600}
        (tmp_path / "in the way").mkdir()
        (tmp_path / "in the way" / "x").touch()
        failing = FileBatch(tmp_path / "staging")
        for path in contents:
            failing.write(path, b"new")
        failing.write(tmp_path / "in the way", b"cannot replace a folder")
        with pytest.raises(ServerUnavailableError, match="cannot be written"):
            failing.commit()
        assert {path: path.read_bytes() for path in contents} == contents
        assert not list((tmp_path / "staging").iterdir())

    def test_a_batch_that_fails_half_way_leaves_nothing_of_itself(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_text("old")
        (tmp_path / "in the way").mkdir()
        (tmp_path / "in the way" / "x").touch()
        batch = FileBatch(tmp_path / "staging")
        batch.write(tmp_path / "old", b"new")
        batch.write(tmp_path / "fresh", b"fresh")
        batch.write(tmp_path / "in the way", b"cannot replace a folder")
        with pytest.raises(ServerUnavailableError, match="cannot be written"):
            batch.commit()
        assert (tmp_path / "old").read_text() == "old"
        assert not (tmp_path / "fresh").exists()
        assert not list((tmp_path / "staging").iterdir())

    def test_a_file_is_private_whatever_the_umask_and_whatever_it_replaces(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_text("old")
        (tmp_path / "old").chmod(0o644)
        before = os.umask(0)
        try:
            batch = FileBatch(tmp_path / "staging")
            batch.write(tmp_path / "old", b"new")
            batch.write(tmp_path / "a" / "b" / "new", b"new")
            batch.commit()
            batch.close()
        finally:
            os.umask(before)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
        assert modes == {"old": 0o600, "new": 0o600, "a": 0o700, "b": 0o700, "staging": 0o700}

    def test_a_group_gets_to_read_and_no_one_else(self, tmp_path: Path) -> None:
        group = os.getgroups()[-1] if os.getgroups() else os.getgid()
        batch = FileBatch(tmp_path / "staging")
        batch.write(tmp_path / "folder" / "file", b"x", Access(group=group))
        batch.commit()
        batch.close()
        for path, mode in ((tmp_path / "folder", 0o750), (tmp_path / "folder" / "file", 0o640)):
            assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (mode, group)
        assert stat.S_IMODE((tmp_path / "staging").stat().st_mode) == 0o700


class TestABatchOnTrial:
    """The process ends between writing files and learning whether the server takes them."""

    @staticmethod
    def written(folder: Path) -> FileBatch:
        (folder / "live").mkdir()
        (folder / "live" / "old").write_text("old")
        (folder / "live" / "gone").write_text("gone")
        batch = FileBatch(folder / "staging")
        batch.write(folder / "live" / "old", b"new")
        batch.write(folder / "live" / "fresh", b"fresh")
        batch.delete(folder / "live" / "gone")
        batch.delete(folder / "live" / "never")
        return batch

    @staticmethod
    def live(folder: Path) -> dict[str, str]:
        return {path.name: path.read_text() for path in (folder / "live").iterdir()}

    BEFORE: ClassVar = {"old": "old", "gone": "gone"}
    AFTER: ClassVar = {"old": "new", "fresh": "fresh"}

    def test_is_undone_by_the_next_start(self, tmp_path: Path) -> None:
        self.written(tmp_path).commit(on_trial=True)
        assert self.live(tmp_path) == self.AFTER
        clear_staging(tmp_path / "staging")
        assert self.live(tmp_path) == self.BEFORE
        assert not (tmp_path / "staging").exists()
        clear_staging(tmp_path / "staging")
        assert self.live(tmp_path) == self.BEFORE

    @pytest.mark.parametrize("step", range(9))
    def test_is_undone_wherever_in_the_writing_it_ended(self, tmp_path: Path, step: int) -> None:
        batch = self.written(tmp_path)
        with dying_at(step), contextlib.suppress(Died):
            batch.commit(on_trial=True)
        clear_staging(tmp_path / "staging")
        assert self.live(tmp_path) == self.BEFORE

    @pytest.mark.parametrize("step", range(4))
    def test_is_undone_though_the_undoing_was_killed_too(self, tmp_path: Path, step: int) -> None:
        self.written(tmp_path).commit(on_trial=True)
        with dying_at(step), contextlib.suppress(Died):
            clear_staging(tmp_path / "staging")
        clear_staging(tmp_path / "staging")
        assert self.live(tmp_path) == self.BEFORE

    def test_stays_once_it_is_proved(self, tmp_path: Path) -> None:
        batch = self.written(tmp_path)
        batch.commit(on_trial=True)
        batch.proved()
        clear_staging(tmp_path / "staging")
        assert self.live(tmp_path) == self.AFTER

    def test_can_still_be_undone_after_it_is_proved(self, tmp_path: Path) -> None:
        batch = self.written(tmp_path)
        batch.commit(on_trial=True)
        batch.proved()
        batch.undo()
        batch.close()
        assert self.live(tmp_path) == self.BEFORE

    def test_that_was_never_on_trial_stays(self, tmp_path: Path) -> None:
        self.written(tmp_path).commit()
        clear_staging(tmp_path / "staging")
        assert self.live(tmp_path) == self.AFTER

    def test_whose_journal_was_cut_short_had_changed_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "staging" / "work").mkdir(parents=True)
        (tmp_path / "staging" / "work" / "on-trial.json").write_text('[{"path": "/')
        clear_staging(tmp_path / "staging")
        assert not (tmp_path / "staging").exists()


class Died(BaseException):
    """The process ended here."""


@contextlib.contextmanager
def dying_at(step: int) -> Iterator[None]:
    """Let so many changes of names happen, and none after that."""
    left = step

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Died
            left -= 1
            return call(*args, **kwargs)

        return counting

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", counted(os.link))
        patch.setattr(Path, "replace", counted(Path.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        yield
