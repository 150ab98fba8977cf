"""The addresses, a function each. Sounds and texts come in through `bodies`, answers are plain values."""

import base64
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic

import numpy as np
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lapis.search.frame_grid import Listening
from lapis.search.index import Hit, nothing_matches
from lapis.search.localise import Rule
from lapis.serve.bodies import Asked, B, Body, Caption, Classify, Embeddings, Locate, Search, asked
from lapis.serve.refusal import Refusal
from lapis.serve.service import Service
from lapis.serve.sounds import content_of
from lapis.shapes import Vectors

REFUSALS = {400: "Not to be read", 401: "No key", 413: "Too large or too long", 422: "Not what is expected"}
REFUSALS |= {429: "Too many or too much: come again after Retry-After", 503: "Not now", 504: "Took too long"}


class Endpoints:
    """What a service answers."""

    def __init__(self, service: Service, *, root: Path | None = None) -> None:
        """`root`: below which names of found files are told; only the last part of a name is, unless given."""
        self.service, self.root = service, None if root is None else root.resolve()

    def add_to(self, app: FastAPI) -> None:
        """Give an app the addresses."""
        for name, endpoint in (
            ("embeddings", _Endpoint(self.service, Embeddings, self.embeddings)),
            ("search", _Endpoint(self.service, Search, self.search)),
            ("locate", _Endpoint(self.service, Locate, self.locate)),
            ("classify", _Endpoint(self.service, Classify, self.classify)),
            ("caption", _Endpoint(self.service, Caption, self.caption)),
        ):
            app.add_api_route(
                f"/v1/{name}",
                endpoint,
                methods=["POST"],
                name=name,
                summary=endpoint.answer.__doc__,
                response_model=None,
                responses={status: {"description": text} for status, text in REFUSALS.items()},
                openapi_extra={"requestBody": _described(endpoint.kind)},
            )
        app.add_api_route("/v1/models", self.models, methods=["GET"], name="models", response_model=None)

    async def models(self) -> Response:
        """The one model."""
        service = self.service
        can = ["embeddings", "locate", "classify"]
        can += ["search"] * (service.index is not None) + ["caption"] * (service.captioner is not None)
        about = {"identity": service.identity, "width": service.embedder.width, "can": can}
        about |= {"sample_rate": service.embedder.sample_rate, "calibrated": service.calibration is not None}
        model = {"id": service.name, "object": "model", "created": 0, "owned_by": "lapis", **about}
        return JSONResponse({"object": "list", "data": [model]})

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
        """The stretches of indexed files that are nearest to words, or to a sound."""
        fields, service = of.fields, self.service
        if fields.limit > service.limits.results:
            raise Refusal(422, f"limit: at most {service.limits.results}", "field", "limit")
        by_sound = bool(of.files or fields.audio)
        if bool(fields.query.strip()) == by_sound:
            raise Refusal(422, "expected a query or a sound, one of the two", "field", "query")
        if by_sound:
            (waveform,) = await service.decode([of.sound()], name="audio")
            hits = await service.search_like(waveform, limit=fields.limit)
        else:
            hits = await service.search_text(fields.query, limit=fields.limit)
        data = [self._told(hit) for hit in hits]
        return {"object": "list", "data": data, "nothing_matches": nothing_matches(hits), "model": service.name}

    async def locate(self, of: Asked[Locate]) -> dict[str, Any]:
        """When texts are heard in a sound, and how often."""
        fields = of.fields
        rule = Rule(
            smooth_seconds=fields.smooth_seconds,
            shortest_seconds=fields.shortest_seconds,
            threshold=fields.threshold,
        )
        (waveform,) = await self.service.decode([of.sound()], name="audio")
        listening = Listening(hearing=fields.hearing)
        found = await self.service.locate(waveform, texts=fields.texts, listening=listening, rule=rule)
        return {"object": "locations", "model": self.service.name, **found.to_dict()}

    async def classify(self, of: Asked[Classify]) -> dict[str, Any]:
        """How well names fit a sound, the best first; with a calibration how probable each is."""
        fields, service = of.fields, self.service
        service.check_number(len(fields.labels), name="labels")
        sentences = [fields.template.replace("{}", label) for label in fields.labels]
        texts = await service.texts(sentences, name="labels")
        (waveform,) = await service.decode([of.sound()], name="audio")
        sound = await service.sounds([waveform])
        scores = (texts.astype(np.float64) @ sound[0].astype(np.float64)).tolist()
        rows = [{"label": label, "score": score} for label, score in zip(fields.labels, scores)]
        calibration = service.calibration
        if calibration is not None:
            meaning = calibration.meaning(texts, clips=sound)
            for number, row in enumerate(rows):
                row["probability"] = float(meaning.probability[number, 0])
                row["percentile"] = float(meaning.percentile[number, 0])
                row["heard"] = bool(meaning.heard[number, 0])
        nothing = calibration is not None and not any(row["heard"] for row in rows)
        data = sorted(rows, key=lambda row: -float(row["score"]))
        return {"object": "list", "data": data, "nothing_matches": nothing, "model": service.name}

    async def caption(self, of: Asked[Caption]) -> dict[str, Any]:
        """What is heard, in words, of a model that learned captions."""
        if self.service.captioner is None:
            raise Refusal(404, "this model has learned no captions", "no_captions")
        (waveform,) = await self.service.decode([of.sound()], name="audio")
        said = await self.service.caption(waveform, beam=of.fields.beam)
        return {"object": "caption", "text": said, "model": self.service.name}

    def _told(self, hit: Hit) -> dict[str, Any]:
        """A hit without its place on this machine's disk."""
        below = self.root is not None and hit.path.is_relative_to(self.root)
        name = hit.path.relative_to(self.root).as_posix() if self.root and below else hit.path.name
        number = hashlib.sha256(str(hit.path).encode()).hexdigest()[:16]
        return {"id": number, "name": name, **{key: value for key, value in asdict(hit).items() if key != "path"}}


class _Endpoint(Generic[B]):
    """Reads a body of one kind and answers with what a function makes of it."""

    def __init__(
        self, service: Service, kind: type[B], answer: Callable[[Asked[B]], Awaitable[dict[str, Any]]]
    ) -> None:
        self.service, self.kind, self.answer = service, kind, answer

    async def __call__(self, request: Request) -> Response:
        of = await asked(request, self.kind, most_inputs=self.service.limits.inputs)
        if of.fields.model not in (None, self.service.name):
            sentence = f"model: this server has {self.service.name!r} alone"
            raise Refusal(404, sentence, "model_not_found", "model")
        return JSONResponse(await self.answer(of))


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
    form = {**schema, "properties": dict(schema["properties"])}
    form["properties"].pop("audio", None)
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    form["properties"]["file"] = {"type": "array", "items": file} if kind is Embeddings else file
    content = {"application/json": {"schema": schema}, "multipart/form-data": {"schema": form}}
    return {"required": True, "content": content}
