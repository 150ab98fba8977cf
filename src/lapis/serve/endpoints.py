"""The addresses, a function each. Sounds and texts come in through `bodies`, answers are plain values."""

import base64
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic

import numpy as np
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lapis.data.storage import is_url
from lapis.search.classify import Classes
from lapis.search.columns import shown
from lapis.search.filters import Filter
from lapis.search.frame_grid import Listening
from lapis.search.heat import heat
from lapis.search.index import Hit, nothing_matches
from lapis.search.localise import Rule
from lapis.serve.answers import Captioned, Classified, Embedded, Located, Model, Models, Searched
from lapis.serve.bodies import Asked, B, Body, Caption, Classify, Embeddings, Locate, Search, asked
from lapis.serve.indexed import Indexed
from lapis.serve.refusal import Refusal
from lapis.serve.service import Service
from lapis.serve.sounds import content_of
from lapis.shapes import Vectors

HEAT_TEXTS = 16
"""Curves of an hour for hundreds of texts would be a hundred megabytes."""


class Endpoints:
    """What a service answers."""

    def __init__(self, service: Service, *, indexed: Indexed, root: Path | None = None) -> None:
        """`root`: below which names of found files are told; only the last part of a name is, unless given."""
        self.service, self.indexed, self.root = service, indexed, None if root is None else root.resolve()

    def add_to(self, app: FastAPI) -> None:
        """Give an app the addresses."""
        for name, endpoint, answers in (
            ("embeddings", _Endpoint(self.service, Embeddings, self.embeddings), Embedded),
            ("search", _Endpoint(self.service, Search, self.search), Searched),
            ("locate", _Endpoint(self.service, Locate, self.locate), Located),
            ("classify", _Endpoint(self.service, Classify, self.classify), Classified),
            ("caption", _Endpoint(self.service, Caption, self.caption), Captioned),
        ):
            app.add_api_route(
                f"/v1/{name}",
                endpoint,
                methods=["POST"],
                name=name,
                summary=endpoint.answer.__doc__,
                response_model=None,
                responses={200: {"model": answers}},
                openapi_extra={"requestBody": _described(endpoint.kind)},
            )
        models = (("/v1/models", self.models, Models), ("/v1/models/{model:path}", self.model, Model))
        for path, about, answers in models:
            told: dict[int | str, dict[str, Any]] = {200: {"model": answers}}
            app.add_api_route(path, about, methods=["GET"], response_model=None, responses=told)

    async def models(self) -> Response:
        """The one model."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, model: str) -> Response:
        """The model of this name."""
        self.service.check_name(model)
        return JSONResponse(self._model())

    def _model(self) -> dict[str, Any]:
        service = self.service
        can = ["embeddings", "locate", "classify"]
        can += ["search"] * (service.index is not None) + ["caption"] * (service.captioner is not None)
        about = {"identity": service.identity, "width": service.embedder.width, "can": can}
        about |= {"sample_rate": service.embedder.sample_rate, "calibrated": service.calibration is not None}
        limits = service.limits
        about |= {"sound_seconds": limits.sound_seconds, "body_bytes": limits.body_bytes, "results": limits.results}
        about |= {"folders": self.root is not None}
        return {"id": service.name, "object": "model", "created": 0, "owned_by": "lapis", **about}

    async def embeddings(self, of: Asked[Embeddings]) -> dict[str, Any]:
        """Unit vectors of texts and sounds, in the order they came; files of a form come last."""
        fields, service = of.fields, self.service
        if fields.dimensions not in (None, service.embedder.width):
            raise Refusal(422, f"dimensions: this model has {service.embedder.width}", "field", "dimensions")
        given = [fields.input] if isinstance(fields.input, str) else fields.input
        service.check_number(len(given) + len(of.files), name="input")
        is_sound = [fields.modality == "audio" or (fields.modality is None and _is_data(one)) for one in given]
        contents = [content_of(one, name="input") for one, sound in zip(given, is_sound) if sound] + of.files
        texts = [one for one, sound in zip(given, is_sound) if not sound]
        vectors = np.zeros((len(given) + len(of.files), service.embedder.width), np.float32)
        sound_places = np.array([*is_sound, *(True for _ in of.files)])
        if texts:
            vectors[~sound_places] = await service.texts(texts)
        if contents:
            vectors[sound_places] = await service.sounds(await service.decode(contents))
        data = [
            {"object": "embedding", "index": number, "embedding": one}
            for number, one in enumerate(_encoded(vectors, fields.encoding_format))
        ]
        # Tokens are the text tower's own matter; OpenAI's clients want the numbers.
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        return {"object": "list", "data": data, "model": service.name, "usage": usage}

    async def search(self, of: Asked[Search]) -> dict[str, Any]:
        """The stretches of indexed files that are nearest to words, to a sound, or to both, and unlike other words."""
        fields, service = of.fields, self.service
        if fields.limit > service.limits.results:
            raise Refusal(422, f"limit: at most {service.limits.results}", "field", "limit")
        where = self._where(fields)
        by_sound = bool(of.files or fields.audio)
        if not (fields.query.strip() or by_sound):
            raise Refusal(422, "expected a query, a sound, or both", "field", "query")
        waveform = (await service.decode([of.sound()], name="audio"))[0] if by_sound else None
        hits = await service.search(
            text=fields.query.strip(), waveform=waveform, unlike=fields.unlike.strip(), limit=fields.limit, where=where
        )
        data = [self._told(hit) for hit in hits]
        return {"object": "list", "data": data, "nothing_matches": nothing_matches(hits), "model": service.name}

    async def locate(self, of: Asked[Locate]) -> dict[str, Any]:
        """When texts are heard in a sound, and how often."""
        fields = of.fields
        if fields.heat and len(fields.texts) > HEAT_TEXTS:
            raise Refusal(422, f"heat: of at most {HEAT_TEXTS} texts", "field", "heat")
        rule = Rule(
            smooth_seconds=fields.smooth_seconds,
            shortest_seconds=fields.shortest_seconds,
            threshold=fields.threshold,
        )
        start = 0.0
        if not fields.id:
            (waveform,) = await self.service.decode([of.sound()], name="audio")
        elif of.files or fields.audio:
            raise Refusal(422, "expected a sound or an id, one of the two", "field", "id")
        else:
            waveform, start = await self.indexed.waveform(
                fields.id, start_seconds=fields.start_seconds, seconds=fields.seconds
            )
        listening = Listening(hearing=fields.hearing)
        located = await self.service.locate(waveform, texts=fields.texts, listening=listening, rule=rule)
        told = _later(located.to_dict(), start)
        if fields.heat:
            for row, one, scores in zip(told["found"], located.found, located.frames.scores.T):
                row["heat"] = [round(float(value), 3) for value in heat(one, scores=scores)]
        return {"object": "locations", "model": self.service.name, **told}

    async def classify(self, of: Asked[Classify]) -> dict[str, Any]:
        """How well names fit a sound, the best first; with a calibration how probable each is."""
        fields, service = of.fields, self.service
        service.check_number(len(fields.labels), name="labels")
        service.check_filled(fields.template, fields.labels)
        sentences = [fields.template.replace("{}", label) for label in fields.labels]
        texts = await service.texts(sentences, name="labels")
        (waveform,) = await service.decode([of.sound()], name="audio")
        sound = await service.sounds([waveform])
        named = Classes(fields.labels, texts, service.calibration).named(sound[0])
        data = [{name: value for name, value in asdict(of).items() if value is not None} for of in named]
        nothing = service.calibration is not None and not any(of.heard for of in named)
        return {"object": "list", "data": data, "nothing_matches": nothing, "model": service.name}

    async def caption(self, of: Asked[Caption]) -> dict[str, Any]:
        """What is heard, in words, of a model that learned captions."""
        if self.service.captioner is None:
            raise Refusal(404, "this model has learned no captions", "no_captions")
        (waveform,) = await self.service.decode([of.sound()], name="audio")
        said = await self.service.caption(waveform, beam=of.fields.beam)
        return {"object": "caption", "text": said, "model": self.service.name}

    def _where(self, fields: Search) -> Filter | None:
        """The conditions of a search, with a folder that a client may name; None where there are none."""
        below = None
        if fields.below:
            # A folder above the root could be guessed letter by letter.
            parts = [part for part in fields.below.split("/") if part]
            if self.root is None or ".." in parts or not parts:
                raise Refusal(422, "below: expected a folder among the names that this server tells", "field", "below")
            below = str(self.root.joinpath(*parts))
        try:
            where = Filter(
                below=below,
                shortest_seconds=fields.shortest_seconds,
                longest_seconds=fields.longest_seconds,
                tags=tuple(fields.tags),
                since=fields.since,
                until=fields.until,
            )
        except ValueError as error:
            raise Refusal(422, str(error), "field") from None
        return None if where == Filter() else where

    def _told(self, hit: Hit) -> dict[str, Any]:
        """A hit without its place on this machine's disk."""
        below = self.root is not None and hit.path.is_relative_to(self.root)
        name = hit.path.relative_to(self.root).as_posix() if self.root and below else hit.path.name
        if is_url(shown(hit.path)):
            name = name.partition("?")[0]  # behind it an address may be signed
        number = self.indexed.catalogue.told(hit.path)
        return {"id": number, "name": name, **{key: value for key, value in asdict(hit).items() if key != "path"}}


class _Endpoint(Generic[B]):
    """Reads a body of one kind and answers with what a function makes of it."""

    def __init__(
        self, service: Service, kind: type[B], answer: Callable[[Asked[B]], Awaitable[dict[str, Any]]]
    ) -> None:
        self.service, self.kind, self.answer = service, kind, answer

    async def __call__(self, request: Request) -> Response:
        of = await asked(request, self.kind, limits=self.service.limits)
        if of.fields.model is not None:
            self.service.check_name(of.fields.model)
        return JSONResponse(await self.answer(of))


def _later(told: dict[str, Any], start_seconds: float) -> dict[str, Any]:
    """The times of a stretch as times of the file that it is part of."""
    for row in told["found"] if start_seconds else ():
        for span in (*row["spans"], row["nearest"]):
            span["begin_seconds"] += start_seconds
            span["end_seconds"] += start_seconds
    return {"start_seconds": start_seconds, **told}


def _is_data(given: str) -> bool:
    head, comma, _ = given[:256].partition(",")
    return bool(comma) and head.lower().startswith("data:") and head.lower().endswith(";base64")


def _encoded(vectors: Vectors, encoding_format: str) -> Sequence[list[float] | str]:
    if encoding_format == "float":
        return vectors.tolist()
    return [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]


def _described(kind: type[Body]) -> dict[str, Any]:
    """A body for OpenAPI: as JSON, and as a form with files."""
    schema = kind.model_json_schema()
    needed = schema.get("required", [])
    form = {**schema, "properties": {name: _without_null(of) for name, of in schema["properties"].items()}}
    form["properties"].pop("audio", None)
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    form["properties"]["file"] = {"type": "array", "items": file} if kind is Embeddings else file
    if kind in (Classify, Caption):  # the others do without a sound, or with another field
        schema["required"], form["required"] = [*needed, "audio"], [*needed, "file"]
    content = {"application/json": {"schema": schema}, "multipart/form-data": {"schema": form}}
    return {"required": True, "content": content}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A field of a form, which is left out where JSON may have null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    if len(kinds) == 1:
        return rest | kinds[0]
    return rest | {"anyOf": kinds} if kinds else schema
