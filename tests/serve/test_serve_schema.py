"""The description holds: schemathesis asks a running server what it allows, and what it does not."""

import re
from dataclasses import fields

import hypothesis
import pytest
from serving import Counting, address, noise, running, wav

import tiny
from lapis.search.index import Index
from lapis.serve.answers import Found

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi import checks  # noqa: E402

HOLDS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
    checks.missing_required_header,
    checks.unsupported_method,
    checks.allow_header_conformance,
]
"""All but one: that what the description allows is answered. No schema can say what a sound is."""
TELLS = re.compile(r"/tmp|/root|/home|\.py\b|Traceback|line \d+|<module>")
ADDRESSES = ("embeddings", "search", "locate", "classify", "caption", "models")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """With an index and a calibration, so that answers have all their fields."""
    folder = tmp_path_factory.mktemp("schema")
    (folder / "sounds").mkdir()
    for number in range(2):
        (folder / "sounds" / f"{number}.wav").write_bytes(wav(noise(1.0, seed=number)))
    embedder = Counting(tiny.model(0))
    embedder.calibration = tiny.calibration(embedder.model)
    index = Index.create_or_open(
        folder / "index", embedder_identity=embedder.identity, width=embedder.width, window_seconds=0.5
    )
    index.update(folder / "sounds", embedder=embedder)
    with running(embedder, index=folder / "index", root=folder / "sounds", requests_a_minute=10**6) as (at, _):
        yield at


def _ask(server, *, examples, phases):
    schema = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
    sound = address(wav(noise(0.2)))
    answered = set()

    def one(case):
        # Half of those who would send words for a sound send one.
        if isinstance(case.body, dict) and isinstance(case.body.get("audio"), str) and len(case.body["audio"]) % 2:
            case.body["audio"] = sound
        answer = case.call()
        case.validate_response(answer, checks=HOLDS)
        assert not TELLS.search(answer.text.replace(str(case.body), "")), answer.text
        assert not TELLS.search(str(dict(answer.headers)))
        if answer.status_code == 200:
            answered.add(case.path)

    settings = hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=True,
        phases=phases,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    for operation in schema.get_all_operations():
        strategy = operation.ok().as_strategy()
        if operation.ok().body:
            strategy |= operation.ok().as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
        settings(hypothesis.given(case=strategy)(one))()
    return answered


def test_what_is_asked_at_random_is_answered_as_described(server):
    _ask(server, examples=2, phases=[hypothesis.Phase.generate])


@pytest.mark.slow
def test_what_is_asked_at_random_is_answered_as_described_at_length(server):
    answered = _ask(server, examples=300, phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink])
    assert {"/v1/embeddings", "/v1/models"} <= answered


def test_the_description_knows_every_answer_and_every_refusal(server):
    told = schemathesis.openapi.from_url(f"{server.address}/openapi.json").raw_schema
    for name in ADDRESSES:
        for operation in told["paths"][f"/v1/{name}"].values():
            for status, answer in operation["responses"].items():
                schema = answer["content"]["application/json"]["schema"]["$ref"]
                assert schema.endswith("/Refused") == (int(status) >= 400)
    assert told["components"]["schemas"]["Refused"]["properties"]["error"]["$ref"].endswith("/Mistake")
    assert "HTTPValidationError" not in told["components"]["schemas"] and "security" not in told


def test_no_field_of_an_answer_is_left_out_of_its_description():
    from lapis.search.index import Hit

    assert {of.name for of in fields(Hit)} - {"path"} | {"id", "name"} == set(Found.model_fields)
