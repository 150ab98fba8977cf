"""Leave to hear one sound for a while: a browser's player cannot send a key, and keys have no place in addresses."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from urllib.parse import parse_qs

TICKET_SECONDS = 3600


class Tickets:
    """Signed with a secret of this process: none is good after a restart, or at another server."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._secret = secrets.token_bytes(32)

    def make(self, path: str, *, client: str) -> str:
        """What opens one address to one client for an hour, as a query."""
        until = f"{int(self.clock()) + TICKET_SECONDS}"
        number = client.rpartition(" ")[2]
        return f"ticket={until}-{number}-{self._sign(path, until, number)}"

    def client(self, path: str, query: bytes) -> str | None:
        """Who asks, by the ticket in a query; None where it has none that is good here and now."""
        if not query.startswith(b"ticket="):
            return None
        ticket = parse_qs(query.decode("latin-1")).get("ticket", [""])[0]
        until, _, rest = ticket.partition("-")
        number, _, signature = rest.partition("-")
        right = hmac.compare_digest(signature.encode(), self._sign(path, until, number).encode())
        return f"key {number}" if right and int(until) >= self.clock() else None

    def _sign(self, path: str, until: str, number: str) -> str:
        return hmac.new(self._secret, f"{path}\n{until}\n{number}".encode(), hashlib.sha256).hexdigest()
