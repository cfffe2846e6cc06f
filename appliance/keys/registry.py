"""The applications registered at this node (paper 3.3, registration phase): port, SA type, public address, owner.

A port belongs to the client socket that registered it, for as long as that socket lives. Registrations do not cross
between users: whose they are is told by the socket's peer credentials, never by a message.

The network hears of an application that has a name, or a port below the ephemeral ones: who only asks has neither, and
each change costs key on every link.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from appliance.keys.errors import Refused
from appliance.network.errors import LocalProtocolError
from appliance.routing.registrations import check_name

PublicAddress = IPv4Address | IPv6Address
FIRST_EPHEMERAL_PORT = 49152


@dataclass(frozen=True, slots=True)
class Application:
    port: int
    satype: int
    address: PublicAddress  # where the application is reached over the public network
    client: int
    name: str = ""

    @property
    def announced(self) -> bool:
        return bool(self.name) or self.port < FIRST_EPHEMERAL_PORT


class Registry:
    def __init__(self) -> None:
        self._by_port: dict[int, Application] = {}

    def register(self, application: Application) -> bool:
        """True when it is new, False when the same client says the same again. Raises Refused (EADDRINUSE, EINVAL)."""
        if not 1 <= application.port <= 65535:
            raise Refused(errno.EINVAL, f"an application port is 1..65535, not {application.port}")
        try:
            check_name(application.name)
        except LocalProtocolError as error:
            raise Refused(errno.EINVAL, str(error)) from None
        known = self._by_port.get(application.port)
        if known == application:
            return False
        if known is not None:
            raise Refused(errno.EADDRINUSE, f"port {application.port} is registered already")
        self._by_port[application.port] = application
        return True

    def at(self, port: int) -> Application | None:
        return self._by_port.get(port)

    def of(self, client: int, port: int) -> Application:
        """The client's application at `port`. Raises Refused: ENOENT, or EACCES when it is another client's."""
        application = self._by_port.get(port)
        if application is None:
            raise Refused(errno.ENOENT, f"no application is registered at port {port}")
        if application.client != client:
            raise Refused(errno.EACCES, f"the application at port {port} is another client's")
        return application

    def forget_client(self, client: int) -> list[Application]:
        gone = [application for application in self._by_port.values() if application.client == client]
        for application in gone:
            del self._by_port[application.port]
        return gone

    def all(self) -> list[Application]:
        return [self._by_port[port] for port in sorted(self._by_port)]
