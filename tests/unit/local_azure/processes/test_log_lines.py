import logging
from pathlib import Path

from local_azure.processes.log_lines import LogFiles, captured


def test_each_part_has_a_file_for_its_owner_alone_and_its_lines_are_handed_over(tmp_path: Path) -> None:
    (tmp_path / "earlier.log").write_text("of an earlier run")
    seen: list[tuple[str, str]] = []
    with LogFiles(tmp_path, lambda name, line: seen.append((name, line))) as take:
        take("one", "größe")
        take("two", "2")
        take("one", "again")
    assert seen == [("one", "größe"), ("two", "2"), ("one", "again")]
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {
        "one.log": "größe\nagain\n",
        "two.log": "2\n",
    }
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_what_a_logger_says_is_lines_of_a_part_until_the_block_ends() -> None:
    seen: list[tuple[str, str]] = []
    log = logging.getLogger("certcast.test")
    with captured("certcast.test", "part", lambda name, line: seen.append((name, line))):
        log.info("%d events", 3)
        log.debug("too much")
    log.warning("too late")
    assert seen == [("part", "INFO 3 events")]
    assert (log.level, log.handlers) == (logging.NOTSET, [])
