"""`/livez`, `/readyz` and `/metrics` of one agent."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from instance_agent.targets.parts.small_http import Request, Response
from instance_agent.targets.parts.small_server import SmallServer
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from instance_agent.agent import Agent


class HealthServer:
    """Answers load balancers and Prometheus.

    Args:
        agent: Whose health it is.
        address: Address to listen on.
        port: 0 takes any free port.
    """

    def __init__(self, agent: Agent, *, address: str, port: int) -> None:
        self._agent = agent
        self._address = address
        self._port = port
        self._server = SmallServer(self._respond)

    def start(self) -> int:
        """Listen, and return the port.

        Raises:
            ConfigurationError: The port is taken or the address is not this machine's.
        """
        try:
            return self._server.listen(self._address, self._port)
        except OSError as error:
            raise ConfigurationError(
                f"the agent's health port {self._address}:{self._port} cannot be listened on ({error.strerror}): set "
                "CERTCAST_HEALTH_PORT to a free one, or 0 for any"
            ) from None

    async def stop(self) -> None:
        """Stop listening."""
        await self._server.close()

    def _respond(self, request: Request) -> Response:
        match request.path:
            case "/livez":
                return Response(body=b"ok\n")
            case "/readyz":
                return self._readiness()
            case "/metrics":
                from instance_agent import metrics  # noqa: PLC0415 - takes 3 MB that many agents never need

                return Response(body=metrics.text_of(self._agent), kind=metrics.KIND)
        return Response(status=HTTPStatus.NOT_FOUND)

    def _readiness(self) -> Response:
        unusable = self._agent.actor.usability.trouble
        also = f"{trouble}\n" if (trouble := self._agent.registration.trouble) else ""
        also += f"the web server cannot be used now: {unusable}\n" if unusable else ""
        if self._agent.ready:
            return Response(body=f"ready\n{also}".encode())
        also += f"{lost}\n" if (lost := self._agent.lost_rows.trouble) else ""
        body = f"not every desired binding has been applied yet\n{also}".encode()
        return Response(status=HTTPStatus.SERVICE_UNAVAILABLE, body=body)
