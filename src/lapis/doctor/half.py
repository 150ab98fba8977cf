"""Whether a model can be used in half precision: a copy of it is asked the probes."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lapis.doctor.finding import Finding
from lapis.doctor.towers import precision, towers
from lapis.model import Embedder
from lapis.shapes import Vectors

LEAST_COSINE = 0.999
COPIED = (Tensor, nn.Module, dict, list, tuple, set)


def examine(embedder: Embedder, *, answers: dict[str, Vectors]) -> list[Finding]:
    """Ask a copy in each type of half precision, and compare with the answers of the model itself, by tower.

    Needs memory for a second model. What is no tensor (a tokeniser, a session of another runtime) is shared.
    """
    if not isinstance(embedder, nn.Module):
        kind = type(embedder).__name__
        return [Finding("half precision", "warning", f"not tried: {kind} is no torch module, so it cannot be cast")]
    kinds = [kind for kind in (torch.bfloat16, torch.float16) if kind != precision(embedder)]
    return [finding for kind in kinds for finding in _in(embedder, kind=kind, answers=answers)]


def _in(embedder: Any, *, kind: torch.dtype, answers: dict[str, Vectors]) -> list[Finding]:
    copied = _copy(embedder).to(kind)
    findings = []
    for tower in towers(copied):
        if tower.name not in answers:
            continue  # its own finding says why it has none
        check = f"{tower.name} {kind}".replace("torch.", "")
        came = tower.ask(tower.probes)
        if isinstance(came, Finding):
            findings.append(Finding(check, "warning", f"cannot be used: {came.sentence}", came.figures))
            continue
        cosine = float((came * answers[tower.name]).sum(1).min())
        figures = {"cosine": cosine, "least": LEAST_COSINE}
        if cosine >= LEAST_COSINE:
            findings.append(Finding(check, "fine", f"the same answers: cosine at least {cosine:.5f}", figures))
        else:
            sentence = f"other answers: cosine down to {cosine:.4f}, expected {LEAST_COSINE} or more"
            findings.append(Finding(check, "warning", sentence, figures))
    return findings


def _copy(module: Any) -> Any:
    shared = {
        id(value): value for part in module.modules() for value in vars(part).values() if not isinstance(value, COPIED)
    }
    return copy.deepcopy(module, shared)
