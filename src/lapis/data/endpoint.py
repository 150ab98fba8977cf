"""A language model behind an OpenAI-compatible address: one prompt, one answer, with the standard library alone.

What goes by itself (too many requests, an error of the server, an answer that is cut or no JSON) is asked again with
growing waits. A request that the server calls wrong is that text's fault; a wrong key or address ends the work.
"""

import http.client
import json
import math
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lapis.data.http_storage import PASSING_STATUS
from lapis.data.storage import PassingError, Patience, StorageError

REFUSED_STATUS = frozenset({400, 413, 422})
MOST_BYTES = 16 << 20


class RefusedError(ValueError):
    """The server will not answer this request, however often it is asked."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key goes to the address that was named, and nowhere else."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:  # noqa: PLR0917  (urllib's)
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


@dataclass(frozen=True)
class Said:
    """What the model said, and whether it came to an end by itself."""

    text: str
    finished: bool


@dataclass(frozen=True)
class Endpoint:
    """Where a model is, and how it is asked.

    Args:
        address: up to the version: `http://127.0.0.1:8000/v1`.
        model: the server's name for it.
        key_variable: environment variable with the key; where it is not set, none is sent.
        temperature: 0 for the likeliest words.
        max_tokens: of an answer.
        seed: sent along; some servers heed it.
        patience: with a server that fails.
    """

    address: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    max_tokens: int = 512
    seed: int = 0
    patience: Patience = Patience(timeout_seconds=120.0)

    def __post_init__(self) -> None:
        if urlsplit(self.address).scheme not in ("http", "https"):
            raise ValueError(f"endpoint: expected an address such as http://127.0.0.1:8000/v1, got {self.address!r}")
        if not 0 <= self.temperature < math.inf or self.max_tokens < 1:
            raise ValueError(f"endpoint: expected a temperature of at least 0 and tokens to say, got {self}")

    def ask(self, prompt: str, *, stopped: Callable[[], bool] = lambda: False) -> Said:
        """The answer to a prompt, as the one message of a conversation; once `stopped`, it is not asked for again.

        Raises:
            RefusedError: the server will not answer this.
            ValueError: it knows no such model or key.
            StorageError: it never answered.
        """

        def once() -> Said:
            if stopped():
                raise StorageError(f"{self.address}: stopped before there was an answer")
            return self._once(prompt)

        return self.patience.call(once, name=self.address)

    def _key(self) -> str:
        key = os.environ.get(self.key_variable, "").strip()
        if not all("!" <= sign <= "~" for sign in key):
            # Without the key in it: what is wrong here is printed.
            raise ValueError(f"${self.key_variable}: expected a key of ASCII letters and signs on one line")
        return key

    def _once(self, prompt: str) -> Said:
        values = {"model": self.model, "messages": [{"role": "user", "content": prompt}], "seed": self.seed}
        values |= {"temperature": self.temperature, "max_tokens": self.max_tokens}
        headers = {"Content-Type": "application/json", "User-Agent": "lapis"}
        if key := self._key():
            headers["Authorization"] = f"Bearer {key}"
        address = f"{self.address.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, json.dumps(values).encode(), headers, method="POST")
        try:
            with _OPENER.open(request, timeout=self.patience.timeout_seconds) as response:
                return _said(response.read(MOST_BYTES))
        except urllib.error.HTTPError as error:
            raise _failure(error, address=address) from error
        except http.client.IncompleteRead as error:
            raise PassingError(f"the answer was cut after {len(error.partial):,} bytes") from error
        except (OSError, http.client.HTTPException) as error:
            raise PassingError(f"{type(error).__name__}: {error}") from error


def _failure(error: urllib.error.HTTPError, *, address: str) -> Exception:
    """What an answer other than 200 means."""
    with error:
        try:
            told = " ".join(error.read(1000).decode("utf-8", "replace").split())[:300]
        except (OSError, http.client.HTTPException):
            told = ""  # The status says enough where the explanation breaks off.
    message = f"the server answered {error.code} {error.reason}{': ' if told else ''}{told}"
    if error.code in PASSING_STATUS:
        asked = error.headers.get("Retry-After", "")
        return PassingError(message, wait_seconds=float(asked) if asked.isdecimal() else 0.0)
    return RefusedError(message) if error.code in REFUSED_STATUS else ValueError(f"{address}: {message}")


def _said(content: bytes) -> Said:
    """The first choice of an answer."""
    try:
        choice = json.loads(content)["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise PassingError(f"expected an answer with choices as JSON, got {content[:80]!r}") from error
    if not isinstance(text, str):
        raise PassingError(f"expected a text, got {text!r}")
    return Said(text, finished=_finished(choice))


def _finished(choice: Mapping[str, Any]) -> bool:
    return choice.get("finish_reason") in (None, "stop", "eos", "end_turn")
