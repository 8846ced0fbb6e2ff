"""docs/observability against the code: every metric, span, attribute and field that a rule, query or board names."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from instance_agent import metrics
from shared.telemetry import names
from shared.telemetry.log_lines import FIELDS
from shared.telemetry.names import Stage
from tests.fakes.target import FakeTarget
from tests.rigs.agents import agent
from tests.rigs.deployment import ROOT
from tests.rigs.pages import section, text_of
from tests.rigs.scenes import Scene

FOLDER = ROOT / "docs" / "observability"
PAGE = Path("docs/observability/README.md")
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))
TESTS = yaml.safe_load((FOLDER / "alerts.test.yml").read_text("utf-8"))
BOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text("utf-8"))
WORKBOOK = json.loads((FOLDER / "workbook.json").read_text("utf-8"))
QUERIES = {path.stem: path.read_text("utf-8") for path in sorted((FOLDER / "queries").glob("*.kql"))}
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
EXPRESSIONS = {
    **{rule["alert"]: rule["expr"] for rule in ALERTS},
    **{f"{panel['title']} {each['refId']}": each["expr"] for panel in BOARD["panels"] for each in panel["targets"]},
    "job": BOARD["templating"]["list"][1]["query"],
}
_METRIC = re.compile(r"\b(?:certcast_\w+|up)\b(?!\()")


async def exposed() -> set[str]:
    """The names of the samples that an agent exposes which serves a binding and fails at another."""
    scene, target = Scene(), FakeTarget()
    one = agent(scene.storage, target=target)
    await one.once()
    await scene.beat("i0")
    target.refuses = {"b.example.com": "never"}
    await scene.accepted("a.pfx", "a.example.com", "b.example.com")
    await one.reconcile()
    samples = metrics.text_of(one).decode().splitlines()
    return {re.split(r"[{ ]", line)[0] for line in samples if not line.startswith("#")}


async def test_every_metric_that_a_rule_or_the_board_names_is_exposed_by_an_agent() -> None:
    there = {*(await exposed()), "up"}
    for where, expression in EXPRESSIONS.items():
        named = set(_METRIC.findall(expression))
        assert named, where
        assert named <= there, f"{where}: {named - there}"


async def test_the_page_names_every_metric() -> None:
    told = set(re.findall(r"`(certcast_\w+)`", section(PAGE, "## Metrics")))
    assert told == {name for name in await exposed() if not name.endswith("_created")}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus")
def test_the_rules_are_valid_and_pass_their_own_tests() -> None:
    for command in (("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml")):
        done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout


def test_every_rule_has_a_test_in_which_it_fires_and_one_in_which_it_is_quiet() -> None:
    text = (FOLDER / "alerts.test.yml").read_text("utf-8")
    quiet, *others = TESTS["tests"]
    told = {rule["alert"] for rule in ALERTS}
    assert {each["alertname"] for each in quiet["alert_rule_test"]} == told
    assert not any("exp_alerts" in each for each in quiet["alert_rule_test"])
    fired = {each["alertname"] for test in others for each in test.get("alert_rule_test", ()) if "exp_alerts" in each}
    assert told - fired == {name for name in told - fired if f'alertname="{name}"' in text}


def test_every_rule_says_how_grave_it_is_and_what_to_do() -> None:
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_the_board_is_one_that_grafana_imports() -> None:
    """grafana.com/docs, "Dashboard JSON model": the fields of a dashboard and of a panel."""
    assert {"id", "uid", "title", "panels", "templating", "time", "schemaVersion", "version"} <= BOARD.keys()
    assert BOARD["id"] is None
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert taken.isdisjoint(cells), f"{panel['title']} lies over another"
        taken |= cells
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({each["refId"] for each in panel["targets"]}) == len(panel["targets"])


# learn.microsoft.com, "Application Insights telemetry data model", and the columns that Azure Monitor's exporter fills.
COLUMNS = {
    *("timestamp", "itemType", "name", "message", "duration", "success", "severityLevel", "id"),
    *("operation_Id", "operation_ParentId", "cloud_RoleName", "cloud_RoleInstance", "customDimensions"),
}
TABLES = {"requests", "dependencies", "traces"}
OURS = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
STAGES = {stage.value for stage in Stage}
CONSUMED = {Stage.NOTICE, Stage.RECHECK, Stage.ACT, Stage.FOLD}
"""Spans of the kind CONSUMER, which Application Insights has among its requests."""


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_spans_attributes_and_fields_that_there_are(query: str) -> None:
    text = QUERIES[query]
    assert text.startswith("// ")
    assert set(re.findall(r'customDimensions\["([^"]+)"\]', text)) <= OURS
    assert set(re.findall(r'"(certcast\.[a-z_]+)"', text)) <= STAGES | OURS
    assert set(re.findall(r"\bline\.(\w+)", text)) <= set(FIELDS)
    tables = set(re.findall(r"^(?:union )?((?:\w+, )*\w+)$", text, re.MULTILINE))
    assert {table for line in tables for table in line.split(", ")} <= TABLES
    assert text.count("(") == text.count(")")


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_uses_columns_of_the_schema_or_names_that_it_makes_itself(query: str) -> None:
    text = re.sub(r'"[^"]*"|//.*', "", QUERIES[query])
    made = set(re.findall(r"\b(\w+)\s*=(?!=)", text)) | {"line", "arg_max"}
    words = set(re.findall(r"(?<![.\w])([a-zA-Z_]\w*)\b(?!\s*\()", text))
    known = {
        *("where", "extend", "summarize", "project", "order", "by", "desc", "asc", "and", "or", "let", "union", "in"),
        *("startswith", "d", "h", "false"),
    }
    assert words - made - known - COLUMNS - TABLES == set(), words - made - known - COLUMNS - TABLES


def test_spans_are_looked_for_in_the_table_that_their_kind_leads_to() -> None:
    consumed = {stage.value for stage in CONSUMED}
    for text in QUERIES.values():
        if "requests" not in text:
            assert consumed.isdisjoint(re.findall(r'"(certcast\.[a-z_]+)"', text))
    told = "".join(
        path.read_text("utf-8") for room in ("shared", "instance_agent") for path in (ROOT / room).rglob("*.py")
    )
    written = re.findall(r"span\(\s*Stage\.(\w+)[^:]*?kind=Kind\.CONSUMER", told)
    assert {Stage[name] for name in written} == CONSUMED


def queries_of(items: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for item in items:
        if item["type"] == 3:
            yield item["name"], item["content"]["query"]


def test_the_workbook_has_these_queries() -> None:
    """github.com/microsoft/Application-Insights-Workbooks: items of type 1 (text), 3 (query) and 9 (parameters)."""
    assert WORKBOOK["version"] == "Notebook/1.0"
    assert WORKBOOK["$schema"].endswith("/schema/workbook.json")
    assert {item["type"] for item in WORKBOOK["items"]} == {1, 3, 9}
    told = {name: text.replace("{Upload}", "shop.pfx") for name, text in queries_of(WORKBOOK["items"])}
    assert told == QUERIES
    for item in WORKBOOK["items"]:
        if item["type"] == 3:
            content = item["content"]
            assert (content["version"], content["queryType"]) == ("KqlItem/1.0", 0)
            assert content["resourceType"] == "microsoft.insights/components"


def test_the_page_explains_every_span_attribute_and_field() -> None:
    spans = set(re.findall(r"`(certcast\.\w+)`", section(PAGE, "## Traces")))
    assert spans == STAGES | {name for name in OURS if name.startswith("certcast.")}
    assert set(FIELDS) <= set(re.findall(r"`(\w+)`", section(PAGE, "## Log lines")))
    for path in sorted(FOLDER.rglob("*.*")):
        if path.name != "README.md":
            assert path.name in text_of(PAGE), f"the page does not speak of {path.name}"
