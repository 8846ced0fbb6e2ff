"""What docs/deploy.md says of `azd up` against infra/main.bicep, and the long way beside it: both set the same."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.docs.test_local_cloud import OUTPUTS
from tests.rigs.deployment import ROOT
from tests.rigs.pages import DEPLOY, rows, section, shell_lines, text_of

MAIN = Path("infra/main.bicep")
AZD = section(DEPLOY, "## With azd")
PARAMETERS = json.loads((ROOT / "infra" / "main.parameters.json").read_text("utf-8"))["parameters"]
BY_NAME = {re.fullmatch(r"\$\{(\w+)\}", each["value"])[1]: name for name, each in PARAMETERS.items()}  # type: ignore[index]
"""Parameters by the variable of azd's environment that they are taken from."""


@cache
def defaults() -> Mapping[str, str]:
    """The parameters' default values, as far as they stand on one line."""
    return dict(re.findall(r"^param (\w+) \w+ = (.+)$", text_of(MAIN), re.MULTILINE))


class TestTheEnvironment:
    def test_has_each_output_that_the_page_asks_for(self) -> None:
        asked = set(re.findall(r"azd env get-value (\w+)", AZD))
        assert asked <= set(re.findall(r"^output (\w+) ", text_of(MAIN), re.MULTILINE))
        assert asked == OUTPUTS.keys()

    def test_is_what_each_parameter_that_the_page_names_is_taken_from(self) -> None:
        table = {name for cells in rows(AZD) if len(cells) == 2 for name in re.findall(r"`(CERTCAST_\w+)`", cells[1])}
        assert len(table) > 5
        assert table | set(re.findall(r"azd env set (\w+)", AZD)) <= BY_NAME.keys()

    def test_unset_is_what_the_page_says(self) -> None:
        assert re.search(r"`Standard_ZRS`, in three zones, unless set;", AZD)
        assert defaults()[BY_NAME["CERTCAST_STATE_SKU"]] == "'Standard_ZRS'"
        for name in ("CERTCAST_PRIVATE_NETWORK", "CERTCAST_OUTGOING_EVENTS"):
            assert defaults()[BY_NAME[name]] == "false"
        assert defaults()[BY_NAME["CERTCAST_AGENT_QUEUE_ROLE"]] == "true"


def bicep_settings() -> Mapping[str, str]:
    """The application settings with their values; `X` stands for what a deployment alone knows."""
    found: dict[str, str] = {}
    for variable in ("hosts", "ours"):
        [block] = re.findall(rf"^var {variable} = {{\n(.*?)^}}$", text_of(MAIN), re.DOTALL | re.MULTILINE)
        for name, value in re.findall(r"^  (\w+): (.+)$", block, re.MULTILINE):
            text = defaults().get(value, value)
            found[name] = re.sub(r"\$\{[^}]+\}", "X", text.strip("'")) if text.startswith("'") else "X"
    return found


def long_ways_settings() -> Mapping[str, str]:
    [line] = [line for line in shell_lines(DEPLOY) if "AzureWebJobsStorage__accountName=" in line]
    found = re.findall(r'\b([A-Za-z_]+)=("[^"]+"|\S+)', line.partition("--settings")[2])
    return {name: re.sub(r"\$\w+|core\.windows\.net", "X", value.strip('"')) for name, value in found}


def test_both_ways_set_the_same() -> None:
    # `az functionapp create` sets it, from the resource that it makes.
    assert bicep_settings() == {**long_ways_settings(), "APPLICATIONINSIGHTS_CONNECTION_STRING": "X"}


def test_every_resource_provider_is_registered_before() -> None:
    used = {
        provider
        for path in (ROOT / "infra").glob("**/*.bicep")
        for provider in re.findall(r"'(Microsoft\.\w+)/[\w/]+@\d", path.read_text("utf-8"))
        if path.parent.name not in {"agent", "scale-set"}
    }
    begin = section(DEPLOY, "## 1. Before you begin")
    [loop] = re.findall(r"for namespace in (.+?); do", begin, re.DOTALL)
    besides = set(re.findall(r"`(Microsoft\.\w+)`", begin))
    assert used - {"Microsoft.Authorization", "Microsoft.Resources"} <= {*loop.replace("\\", "").split()} | besides


def test_the_role_that_is_deleted_is_the_one_that_was_made() -> None:
    [made] = re.findall(r"^    customRoleName: '([\w ]+)\$", text_of(MAIN), re.MULTILINE)
    assert f"starts_with(roleName, '{made.strip()}')" in AZD
