"""How a model that translates is run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

PROMPT = (
    "Translate the following text from {source} to {target}. Answer with the translation alone.\n\n"
    "{source}: {text}\n{target}:"
)


@dataclass(frozen=True)
class Options:
    """How a model is run.

    Args:
        beams: 1 is greedy.
        device: cpu, cuda, mps.
        precision: of the weights; half a precision is for a GPU.
        revision: of a model of the hub.
        prompt: for a model that talks, with {source}, {target} and {text}.
        codes: what a FLORES-200 code is called elsewhere: {"deu_Latn": "de"}.
    """

    beams: int = 1
    device: str = "cpu"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    revision: str | None = None
    prompt: str = PROMPT
    codes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise ValueError(f"beams: expected at least one, got {self.beams}")
