"""Subscribes the deployed app to the uploads: Event Grid's topic and subscription, by infra/event-subscription.bicep.

A hook of azure.yaml, after the code is deployed: Event Grid refuses a function that is not there. The same command
again changes nothing. What a new deployment is refused for a while (a role that is not in force yet, functions that are
not listed yet) is asked for again; anything else ends it at once, in the Azure CLI's own words.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parents[1] / "event-subscription.bicep"
PARAMETERS = {
    "storageAccountName": "CERTCAST_STORAGE_ACCOUNT",
    "hostStorageAccountName": "CERTCAST_HOST_STORAGE_ACCOUNT",
    "functionAppName": "CERTCAST_FUNCTION_APP",
    "systemTopicName": "CERTCAST_SYSTEM_TOPIC",
    "location": "AZURE_LOCATION",
    "alerts": "CERTCAST_ALERTS",
    "actionGroupId": "CERTCAST_ACTION_GROUP",
}
"""The template's parameters, and the outputs of main.bicep that azd puts into the environment."""
WAITS_S = (15, 30, *[60] * 29)
"""Half an hour in all: Azure's role assignments may take that long."""
_PASSES = re.compile(
    r"Destination endpoint not found|endpoint validation|Url validation|PrincipalNotFound"
    r"|does not exist in the directory|Authorization(Failed|PermissionMismatch|Failure)|Forbidden|dead.?letter"
    r"|does not have (authorization|permission)|TooManyRequests|Conflict|InternalServerError|ServiceUnavailable"
    r"|GatewayTimeout|timed out",
    re.IGNORECASE,
)
"""What is refused now and granted later. Dead letters are written by an identity whose role was given a moment ago."""


class SubscribingError(Exception):
    """There is no subscription; the text says why and what to do."""


def command(environment: dict[str, str]) -> list[str]:
    """The Azure CLI's command line, from what azd says of the deployment.

    Raises:
        SubscribingError: azd does not say enough, or there is no Azure CLI.
    """
    wanted = {"AZURE_RESOURCE_GROUP", *PARAMETERS.values()} - {"CERTCAST_ACTION_GROUP"}
    if missing := sorted(name for name in wanted if not environment.get(name)):
        raise SubscribingError(f"{', '.join(missing)} is not set: run `azd provision` first, and this by azd")
    az = shutil.which("az", path=environment.get("PATH"))
    if az is None:
        raise SubscribingError("the Azure CLI is not installed: learn.microsoft.com/cli/azure/install-azure-cli")
    line = [az, "deployment", "group", "create", "--resource-group", environment["AZURE_RESOURCE_GROUP"]]
    line += ["--name", f"certcast-uploads-{environment.get('AZURE_ENV_NAME', 'default')}"[:64]]
    line += ["--template-file", str(TEMPLATE)]
    if subscription := environment.get("AZURE_SUBSCRIPTION_ID"):
        line += ["--subscription", subscription]
    given = {name: environment.get(source, "") for name, source in PARAMETERS.items()}
    given["alerts"] = given["alerts"].lower()
    return [*line, "--parameters", *(f"{name}={value}" for name, value in given.items())]


def subscribe(line: list[str], waits_s: tuple[float, ...]) -> None:
    """Run the command until it is done, or is refused for good.

    Args:
        line: The command.
        waits_s: How long to wait after each refusal that passes.

    Raises:
        SubscribingError: It was refused for good, or for longer than all waits.
    """
    for wait_s in (*waits_s, None):
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode == 0:
            return
        said = done.stdout.strip() or f"no word, exit code {done.returncode}"
        if "az login" in said:
            raise SubscribingError(f"the Azure CLI is not signed in, which azd does not do for it: {said}")
        if not _PASSES.search(said):
            raise SubscribingError(f"Azure refused: {said}")
        if wait_s is None:
            raise SubscribingError(f"Azure still refuses after half an hour: {said}")
        print(f"subscribe: refused for now, again in {wait_s:g} s: {said}", flush=True)
        time.sleep(wait_s)


def main() -> int:
    """Subscribe; answers the exit code."""
    try:
        subscribe(command(dict(os.environ)), WAITS_S)
    except SubscribingError as error:
        print(
            f"subscribe: {error}\nsubscribe: until it is done, the sweep finds uploads within a minute. When that is"
            " put right: `azd hooks run postdeploy`",
            file=sys.stderr,
        )
        return 1
    print("subscribe: the app is told of uploads and deletions. `azd env get-values` has what the agents need")
    return 0


if __name__ == "__main__":
    sys.exit(main())
