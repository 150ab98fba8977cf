"""The checkpoint doctor: is this model well? It looks at the weights, and at the answers to a few built-in probes.

Models break in ways that no loader notices: weights under a wrong name, a tower that answers everything alike, a front
end that changed, answers that depend on the batch. `examine` checks all of that, `tripwire` what is cheap enough for
every time a model is loaded. Both take any `Embedder`; weights are looked at where it is a torch module too.
"""

from collections.abc import Callable, Sequence

from torch import nn

from lapis.doctor import answers, half, weights
from lapis.doctor.finding import Finding, Level, ModelWarning
from lapis.doctor.golden import Golden, compare, record
from lapis.doctor.towers import UNREACHED, Tower, precision, towers
from lapis.model import Embedder, JointModel
from lapis.shapes import Vectors

__all__ = ["Finding", "Golden", "Level", "ModelWarning", "examine", "record", "tripwire"]


def examine(
    embedder: Embedder,
    *,
    golden: Golden | None = None,
    full: bool = False,
    progress: Callable[[str], None] | None = None,
) -> tuple[Finding, ...]:
    """Run all checks; some seconds for a small model on a processor.

    Args:
        embedder: the model.
        golden: its answers when it was saved.
        full: try half precision too, with a second copy of the model in memory.
        progress: called with a few words on what comes next.
    """
    tell = progress or (lambda _: None)
    tell("weights")
    findings = _weights(embedder)
    tell("probes")
    sides = towers(embedder)
    found, vectors = _first_answers(embedder, sides, golden=golden)
    findings += found
    if golden is None:
        sentence = "none were saved with this model, so nobody can tell whether it still answers as it did"
        findings.append(Finding("golden answers", "warning", sentence))
    if len(vectors) == len(sides):
        findings.append(answers.agree(answers.agreement(vectors["audio"], vectors["text"])))
    else:
        findings.append(Finding("agreement", "warning", "not checked: it takes answers of both towers"))
    for tower in sides:
        if tower.name in vectors:
            tell(f"{tower.kind} in batches")
            findings += _mixed(embedder, tower)
    if full:
        tell("half precision")
        findings += half.examine(embedder, answers=vectors)
    return tuple(findings)


def tripwire(embedder: Embedder, *, golden: Golden | None = None) -> tuple[Finding, ...]:
    """What is not fine, found in one pass over the weights and with the probes alone: for every time a model is loaded.

    Three things are left to `examine`: whether the towers agree, which a model of speech or of music only may rightly
    lack; whether the text tower can be reached, which a model that only hears has no need of; and texts at all where
    the tower is a frozen model known by its name, which would be fetched and loaded for nothing but this.

    Args:
        embedder: the model.
        golden: its answers when it was saved.
    """
    findings = weights.survey(embedder) if isinstance(embedder, nn.Module) else []
    sides = [tower for tower in towers(embedder) if tower.name == "audio" or not _texts_are_elsewhere(embedder)]
    first, _ = _first_answers(embedder, sides, golden=golden)
    return tuple(found for found in [*findings, *first] if found.level != "fine" and found.check != UNREACHED)


def _texts_are_elsewhere(embedder: Embedder) -> bool:
    """Whether the text tower's weights are not this model's but those of a frozen one, loaded when first asked."""
    if (told := getattr(embedder, "texts_are_elsewhere", None)) is not None:  # no torch module, an export
        return bool(told)
    encoder = embedder.text_encoder if isinstance(embedder, JointModel) else None
    return isinstance(encoder, nn.Module) and not any(True for _ in encoder.parameters())


def _weights(embedder: Embedder) -> list[Finding]:
    if isinstance(embedder, nn.Module):
        return weights.examine(embedder)
    return [Finding("weights", "warning", f"not looked at: {type(embedder).__name__} is no torch module")]


def _first_answers(
    embedder: Embedder, sides: Sequence[Tower], *, golden: Golden | None
) -> tuple[list[Finding], dict[str, Vectors]]:
    """Ask the towers the probes: what was found, and the vectors of those that answered."""
    findings: list[Finding] = []
    vectors: dict[str, Vectors] = {}
    half_precision = precision(embedder).itemsize == 2
    for tower in sides:
        answer = tower.ask(tower.probes)
        if isinstance(answer, Finding):
            findings.append(answer)
            continue
        vectors[tower.name] = answer
        sentence = f"{len(answer)} {tower.kind} get finite unit vectors of width {tower.width}"
        findings.append(Finding(f"{tower.name} answers", "fine", sentence))
        if golden is not None:
            findings.append(compare(golden, answer, tower=tower.name, half_precision=half_precision))
    both = {"audio", "text"} == vectors.keys()
    found = answers.agreement(vectors["audio"], vectors["text"]) if both else None
    findings += [answers.collapse(tower, vectors[tower.name], found) for tower in sides if tower.name in vectors]
    return findings, vectors


def _mixed(embedder: Embedder, tower: Tower) -> list[Finding]:
    """The checks with items of very different lengths, and the speed."""
    kind = precision(embedder)
    first = tower.ask(tower.mixed)
    if isinstance(first, Finding):
        return [_of_mixed(tower, first)]
    second = tower.ask(tower.mixed)
    if isinstance(second, Finding):
        return [_of_mixed(tower, second)]
    return [
        answers.batch(tower, first, kind=kind),
        answers.repeat(tower, first, second, kind=kind),
        answers.speed(tower),
    ]


def _of_mixed(tower: Tower, wrong: Finding) -> Finding:
    return Finding(f"{tower.name} batch", wrong.level, f"of very different lengths: {wrong.sentence}", wrong.figures)
