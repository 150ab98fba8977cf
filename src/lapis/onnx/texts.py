"""Each text tower of `text_encoders` as a graph: numbers of tokens, or vectors of a frozen model, to unit vectors.

SONAR is written as the audio towers are. Encoders of transformers are exported by torch. The vectors of a frozen
sentence model come from that model, and the graph holds the projection alone.
"""

import ast
import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapis.layers.pooling import AttentionPooling
from lapis.model import JointModel, TextEncoderConfig
from lapis.onnx import blocks
from lapis.onnx.graph import EXACT, OPSET, Edge, Graph, import_onnx
from lapis.onnx.sound import Rows
from lapis.text_encoders.huggingface import HuggingFace, read_tokenizer
from lapis.text_encoders.sentence import Sentence
from lapis.text_encoders.sonar import Sonar

TOKEN_INPUTS = ("tokens", "mask")
SENTENCE_INPUT = "sentences"
SCOPES = "pkg.torch.onnx.name_scopes"
"""Under which torch notes the modules that a node comes from."""


def text_graph(model: JointModel, *, half: bool = False) -> Any:
    """The ONNX model of the text tower and its projection.

    Raises:
        ValueError: the tower has no graph here.
    """
    encoder = model.text_encoder
    if isinstance(encoder, HuggingFace):
        return _exported(model, encoder, half=half)
    graph = Graph("text", kind=np.float16 if half else np.float32)
    if isinstance(encoder, Sonar):
        tokens = graph.input("tokens", np.int64, ("texts", "tokens"))
        mask = graph.input("mask", np.int64, ("texts", "tokens"))
        rows = _sonar(graph, encoder, tokens, mask)
    elif isinstance(encoder, Sentence):
        rows = graph.cast(graph.input(SENTENCE_INPUT, np.float32, ("texts", encoder.width)))
    else:
        raise ValueError(
            f"the text tower {type(encoder).__name__} has no form in ONNX yet; those of HuggingFace, Sonar and "
            f"Sentence have: export the audio tower alone (--audio-only)"
        )
    with graph.exact():
        vectors = blocks.projection(graph, rows, model.text_projection)
    return graph.finished(vectors, name="vectors", axes=("texts", model.width))


def token_numbers(config: TextEncoderConfig) -> Callable[[Sequence[str]], list[list[int]]]:
    """What turns texts into the tokens of a tower, whose files the config has been told (see `located_in`).

    Raises:
        ValueError: the tokenizer's files or its package are missing.
    """
    if isinstance(config, Sonar.Config):
        with torch.device("meta"):
            return config.build().token_numbers
    assert isinstance(config, HuggingFace.Config)
    tokenizer = read_tokenizer(config)
    return lambda texts: tokenizer(list(texts), truncation=True, max_length=config.max_tokens)["input_ids"]


def _sonar(graph: Graph, tower: Sonar, tokens: Edge, mask: Edge) -> Edge:
    config = tower.config
    found = graph("Gather", graph.weight(tower.embedding.weight), tokens, axis=0)
    scaled = graph("Mul", found, graph.constant(np.float32(config.width**0.5)))
    # fairseq counts from 2.
    table = tower.positions(torch.arange(config.max_tokens)[:, None] + 2)
    positions = graph.slice(graph.weight(table, np.float32), 0, graph.size(tokens, 1), axis=0)
    placed = graph.cast(graph("Add", graph.cast(scaled, np.float32), positions))
    real = graph("Cast", mask, to=graph.onnx.TensorProto.BOOL)
    return blocks.mean(graph, Rows(blocks.transformer(graph, Rows(placed, real), tower.transformer), real))


class _Dense(nn.Module):
    """A tower of transformers with its pooling and projection, over texts completed to one length."""

    def __init__(self, encoder: HuggingFace, projection: nn.Module) -> None:
        super().__init__()
        self.encoder, self.pooling, self.projection = encoder.encoder, encoder.pooling, projection
        self.first = encoder.config.pooling == "first"

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        hidden = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        if self.pooling is not None:
            pooled = _attention_pooled(self.pooling, hidden, mask)
        elif self.first:
            pooled = hidden[:, 0]
        else:
            weights = mask[:, :, None].float()
            pooled = ((hidden.float() * weights).sum(1) / weights.sum(1)).to(hidden.dtype)
        return F.normalize(self.projection(pooled).float(), dim=-1)


def _attention_pooled(pooling: AttentionPooling, hidden: Tensor, mask: Tensor) -> Tensor:
    """As `AttentionPooling`, of rows completed to one length."""
    attention = pooling.attention
    query = attention.query(pooling.probe).unflatten(-1, (attention.heads, -1))
    key, value = (layer(hidden).unflatten(-1, (attention.heads, -1)) for layer in (attention.key, attention.value))
    scores = (key * query).sum(-1) * query.shape[-1] ** -0.5
    shares = scores.float().masked_fill(mask[:, :, None] == 0, -1e9).softmax(1).to(value.dtype)
    pooled = attention.out((shares[..., None] * value).sum(1).flatten(1))
    return pooled + pooling.feedforward(pooling.norm(pooled))


def _exported(model: JointModel, encoder: HuggingFace, *, half: bool) -> Any:
    import_onnx()
    try:
        import onnxscript  # noqa: F401  (torch says so less clearly)
    except ImportError as error:
        raise ValueError("export of this text tower needs an extra: pip install 'lapis-audio[onnx]'") from error
    dense = copy.deepcopy(_Dense(encoder, model.text_projection)).eval().requires_grad_(False)
    dense = dense.half() if half else dense
    # Two texts of several tokens: of one, the exporter would take the number for a constant.
    tokens = torch.ones(2, 5, dtype=torch.long)
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with _quiet():
        program = torch.onnx.export(
            dense,
            (tokens, torch.ones_like(tokens)),
            input_names=list(TOKEN_INPUTS),
            output_names=["vectors"],
            dynamic_shapes=(free, free),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return _named(program.model_proto)


def _named(model: Any) -> Any:
    """The graph without what the exporter noted of this machine's files; what follows the encoder is to stay exact."""
    for node in model.graph.node:
        noted = {each.key: each.value for each in node.metadata_props}
        scopes = ast.literal_eval(noted.get(SCOPES, "[]"))
        if any(scope.split(".")[0] in ("pooling", "projection") for scope in scopes):
            node.name = f"{EXACT}_{node.name}"
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:], model.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells of its own progress and of packages that are not there."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def padded(numbers: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of texts, completed with 0 to the longest, and which of them are there."""
    longest = max(map(len, numbers))
    tokens = np.zeros((len(numbers), longest), np.int64)
    mask = np.zeros((len(numbers), longest), np.int64)
    for text, row in enumerate(numbers):
        tokens[text, : len(row)] = row
        mask[text, : len(row)] = 1
    return tokens, mask
