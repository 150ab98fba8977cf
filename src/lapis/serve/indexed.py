"""Addresses of indexed files: their sound for a player, and their peaks for a picture. No path comes from a client."""

import hashlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from lapis.audio import AudioError, AudioWarning
from lapis.search.index import Index
from lapis.serve.batching import in_thread
from lapis.serve.catalogue import Catalogue, Recording
from lapis.serve.listening import peaks, stretch
from lapis.serve.playing import Changed, Playable, playable
from lapis.serve.refusal import Refusal
from lapis.serve.service import Service
from lapis.serve.tickets import Tickets
from lapis.shapes import Waveform

SLICE_BYTES = 1 << 21
"""Of one answer to a player, which asks for the next itself: none keeps a place at the server while it plays."""
LEAST_POINTS, POINTS, MOST_POINTS = 16, 800, 2000
PEAKS_KEPT = 1000
SOUND = "/v1/sounds/{number}"
RESPONSES: dict[int | str, dict[str, Any]] = {
    404: {"description": "No such file in the index, or it has changed since, or is none but in a tar or a store"},
    422: {"description": "Not what is expected"},
}
R = TypeVar("R")


class Indexed:
    """The files of a service's index."""

    def __init__(self, service: Service, *, tickets: Tickets | None = None) -> None:
        """`tickets`: what lets a player in where clients need a key."""
        self.service, self.tickets = service, tickets
        self.catalogue = Catalogue()
        # A long file's peaks take seconds, and neither searching nor playing shall wait for them.
        self._players = ThreadPoolExecutor(2, thread_name_prefix="lapis-player")
        self._drawers = ThreadPoolExecutor(1, thread_name_prefix="lapis-peaks")
        self._peaks: OrderedDict[tuple[Recording, float, float, int], list[float]] = OrderedDict()

    def add_to(self, app: FastAPI) -> None:
        """Give an app the addresses."""
        for path, answer in ((SOUND, self.sound), (f"{SOUND}/peaks", self.peaks)):
            app.add_api_route(
                path,
                answer,
                methods=["GET"],
                summary=answer.__doc__,
                response_model=None,
                responses=RESPONSES | ({206: {"description": "The part asked for"}} if path == SOUND else {}),
                openapi_extra={"parameters": _parameters(path)},
            )

    async def sound(self, request: Request) -> Response:
        """An indexed file for a player, whole or the range of bytes it asks for; as WAV where browsers need it."""
        recording = await self.recording(request.path_params["number"])
        content = await self._work(self._players, partial(playable, recording))
        stamp = f"{recording.path}\n{recording.size}\n{recording.mtime_ns}"
        headers = {
            "accept-ranges": "bytes",
            "cache-control": "private, max-age=600",
            "content-type": content.kind,
            "cross-origin-resource-policy": "same-origin",
            "etag": f'"{hashlib.sha256(stamp.encode()).hexdigest()[:24]}"',
            "x-content-type-options": "nosniff",
        }
        wanted = request.headers.get("range", "")
        if request.headers.get("if-range", headers["etag"]) != headers["etag"]:
            wanted = ""
        asked = _range(wanted, content.size)
        if asked is None:
            headers["content-length"] = str(content.size)
            return StreamingResponse(self._whole(content), headers=headers)
        begin, end = asked
        piece = await self._work(self._players, partial(content.read, begin, end))
        headers["content-range"] = f"bytes {begin}-{end - 1}/{content.size}"
        return Response(piece, 206, headers)

    async def peaks(self, request: Request) -> Response:
        """The largest magnitudes of an indexed file, for a picture of its waveform, and the address of its sound."""
        number = request.path_params["number"]
        recording = await self.recording(number)
        points = _number(request, "points", float(POINTS), float(LEAST_POINTS), float(MOST_POINTS))
        around = _number(request, "around_seconds", 0.0, 0.0, float(10**9))
        seconds = min(recording.seconds, self.service.limits.sound_seconds)
        start = min(max(0.0, around - seconds / 2), recording.seconds - seconds)
        key = (recording, start, seconds, int(points))
        if key not in self._peaks:
            work = partial(peaks, recording.path, start_seconds=start, seconds=seconds, points=int(points))
            found = await self._work(self._drawers, partial(_of_unchanged, recording, work))
            self._peaks[key] = [round(float(value), 4) for value in found]
            if len(self._peaks) > PEAKS_KEPT:
                self._peaks.popitem(last=False)
        address = SOUND.format(number=number)
        client = request.scope.get("lapis.client", "")
        if self.tickets is not None and client:
            address += "?" + self.tickets.make(address, client=client)
        told = {"id": number, "start_seconds": start, "end_seconds": start + seconds, "seconds": recording.seconds}
        return JSONResponse({"object": "peaks", **told, "peaks": self._peaks[key], "sound": address})

    async def recording(self, number: str) -> Recording:
        """The file with a number.

        Raises:
            Refusal: the index has none, or the file has changed since.
        """

        def find(index: Index) -> Recording | None:
            return self.catalogue.find(number, index=index)

        found = await self.service.of_index(find)
        if found is None or not found.is_unchanged:
            raise _gone()
        return found

    async def waveform(self, number: str, *, start_seconds: float, seconds: float | None) -> tuple[Waveform, float]:
        """A stretch of a file at the model's rate, and the second at which it begins.

        Raises:
            Refusal: the index has no such file, it cannot be read, or that is longer than a request's sound may be.
        """
        recording = await self.recording(number)
        start, seconds = self._stretch(recording, start_seconds, seconds)
        work = partial(
            stretch,
            recording.path,
            sample_rate=self.service.embedder.sample_rate,
            start_seconds=start,
            seconds=seconds,
            held=self.service.held_seconds,
        )
        return await self._work(self._drawers, partial(_of_unchanged, recording, work)), start

    def close(self) -> None:
        """End the threads."""
        for pool in (self._players, self._drawers):
            pool.shutdown(cancel_futures=True)

    def _stretch(self, recording: Recording, start: float, seconds: float | None) -> tuple[float, float]:
        """A beginning and a length within the file, and within the limit."""
        if start >= recording.seconds:
            raise Refusal(422, f"start_seconds: the sound ends at {recording.seconds:g} s", "field", "start_seconds")
        rest = recording.seconds - start
        wanted, most = rest if seconds is None else min(seconds, rest), self.service.limits.sound_seconds
        if wanted > most + 1e-6:  # a difference of sums
            sentence = f"the sound lasts {recording.seconds:g} s: ask for at most {most:g} s of it, by start_seconds"
            raise Refusal(413, f"{sentence} and seconds", "duration", "seconds")
        return start, min(wanted, most)

    async def _whole(self, content: Playable) -> AsyncIterator[bytes]:
        for begin in range(0, content.size, SLICE_BYTES):
            end = min(begin + SLICE_BYTES, content.size)
            yield await self._work(self._players, partial(content.read, begin, end))

    async def _work(self, pool: ThreadPoolExecutor, work: Callable[[], R]) -> R:
        try:
            return await in_thread(pool, work)
        except Changed:
            raise _gone() from None
        except (AudioError, AudioWarning):  # it tells of folders
            raise Refusal(422, "the sound cannot be read to its end", "sound") from None


def _gone() -> Refusal:
    sentence = "the index has no such sound, or it has changed since, or lies where no file is: in a tar or a store"
    return Refusal(404, sentence, "no_sound")


def _of_unchanged(recording: Recording, work: Callable[[], R]) -> R:
    found = work()
    if not recording.is_unchanged:
        raise Changed
    return found


def _range(header: str, size: int) -> tuple[int, int] | None:
    """From one byte up to another, no more than one answer has; None for the whole, as where a range is not understood.

    Raises:
        Refusal: there is no such byte.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.replace(" ", ""))
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        begin, end = max(0, size - int(match[2])), size
    else:
        begin, end = int(match[1]), size if match[2] == "" else min(int(match[2]) + 1, size)
    if begin >= size or end <= begin:
        headers = {"content-range": f"bytes */{size}"}
        raise Refusal(416, f"the sound has {size} bytes", "range", headers=headers)
    return begin, min(end, begin + SLICE_BYTES)


def _number(request: Request, name: str, default: float, least: float, most: float) -> float:
    """A number of the address's query.

    Raises:
        Refusal: it is none, or out of its range.
    """
    given = request.query_params.get(name)
    try:
        value = default if given is None else float(given)
    except ValueError:
        value = float("nan")
    if not least <= value <= most or (name == "points" and value != int(value)):
        raise Refusal(422, f"{name}: expected a number from {least:g} to {most:g}", "field", name)
    return value


def _parameters(path: str) -> list[dict[str, Any]]:
    number = {"name": "number", "in": "path", "required": True, "schema": {"type": "string"}}
    number["description"] = "The `id` of a hit."
    if path == SOUND:
        return [number]
    points = {"type": "integer", "minimum": LEAST_POINTS, "maximum": MOST_POINTS, "default": POINTS}
    around = {"type": "number", "minimum": 0, "maximum": 10**9, "default": 0}
    around["description"] = "In the middle of the stretch that is drawn, where a file is longer than a request may be."
    given: dict[str, dict[str, Any]] = {"points": points, "around_seconds": around}
    return [number, *({"name": name, "in": "query", "schema": schema} for name, schema in given.items())]
