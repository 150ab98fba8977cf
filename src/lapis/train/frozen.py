"""Frozen towers: what one that learns nothing answers to a clip or a text is computed once and kept.

An answer is found again by a digest of what was asked, every sample of the clip or letter of the text, so that a window
cut elsewhere or sound that was augmented is another question and never gets a wrong answer. A question goes through the
tower alone: its answer does not depend, not even in the last bit, on what it first stood beside in a batch, and a run
that was interrupted and has to compute it again goes on exactly.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from lapis.files import atomic_write
from lapis.model import JointModel
from lapis.ragged import Ragged
from lapis.values import to_values
from lapis.weights import digest


class Answers:
    """Tensors by their keys, in at most so many bytes of memory and, where there is a folder, in files that stay.

    Where memory is full, a newcomer takes the place of one, chosen at random, that nobody has asked for again: what
    comes only once (windows cut at random) makes room for what comes every epoch. The files know no bound.
    """

    def __init__(self, *, memory_bytes: int, folder: Path | None) -> None:
        self._folder, self._most, self._free = folder, memory_bytes, memory_bytes
        self._kept: dict[str, Tensor] = {}
        self._again: set[str] = set()
        self._keys: list[str] = []
        # Which one goes decides only what is computed twice.
        self._random = random.Random(0)

    def get(self, key: str) -> Tensor | None:
        """What was kept under this key, on the host.

        Raises:
            ValueError: its file is damaged.
        """
        if key in self._kept:
            self._again.add(key)
            return self._kept[key]
        path = self._path(key)
        if path is None or not path.exists():
            return None
        try:
            answer = load(path.read_bytes())["answer"]
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{path} is damaged ({error}): remove it, it will be made again") from error
        self._remember(key, answer)
        return answer

    def put(self, key: str, answer: Tensor) -> None:
        """Keep an answer, if there is room or a folder."""
        self._remember(key, answer)
        if path := self._path(key):
            with atomic_write(path) as file:
                file.write(save({"answer": answer.contiguous()}))

    def _remember(self, key: str, answer: Tensor) -> None:
        if answer.nbytes > self._most:
            return
        while answer.nbytes > self._free and self._keys:
            place = self._random.randrange(len(self._keys))
            self._keys[place], self._keys[-1] = self._keys[-1], self._keys[place]
            if (other := self._keys.pop()) not in self._again:
                self._free += self._kept.pop(other).nbytes
        if answer.nbytes <= self._free:
            self._free -= answer.nbytes
            self._kept[key] = answer
            self._keys.append(key)

    def _path(self, key: str) -> Path | None:
        return self._folder / key[:2] / f"{key}.safetensors" if self._folder else None


class FrozenTower:
    """One tower's own forward, asked only what is not known yet."""

    def __init__(self, tower: nn.Module, answers: Answers) -> None:
        self.tower, self._own, self._answers = tower, tower.forward, answers
        self.asked = self.known = self.ever_asked = 0

    def tokens(self, waveforms: Ragged) -> Ragged:
        """In place of an audio tower's forward: tokens of shape (rows, width)."""
        if torch.is_inference_mode_enabled():  # validation, whose tensors no gradient may pass
            return self._own(waveforms)
        clips = waveforms.split()
        return Ragged.pack(
            [self._answer(_bytes(clip), lambda c=clip: self._own(Ragged.pack([c])).rows) for clip in clips]
        )

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """In place of a text tower's forward: vectors of shape (texts, width)."""
        if torch.is_inference_mode_enabled():
            return self._own(texts)
        return torch.cat([self._answer(text.encode(), lambda t=text: self._own([t])) for text in texts])

    def _answer(self, question: bytes, compute: Callable[[], Tensor]) -> Tensor:
        place = next(self.tower.parameters()).device
        precision = torch.get_autocast_dtype(place.type) if torch.is_autocast_enabled(place.type) else torch.float32
        key = hashlib.blake2b(question, digest_size=16, salt=str(precision).encode()[-16:]).hexdigest()
        self.asked += 1
        self.ever_asked += 1
        if (known := self._answers.get(key)) is not None:
            self.known += 1
            return known.to(place, non_blocking=True)
        with torch.no_grad():
            answer = compute()
        self._answers.put(key, answer.cpu())
        return answer


class FrozenTowers:
    """The frozen towers of a model, and how often their answers were known."""

    def __init__(self, towers: dict[str, FrozenTower]) -> None:
        self._towers = towers

    def measures(self) -> dict[str, float]:
        """Of each tower the share of the answers that were known, since it was last asked.

        The cached step (`Training.cached_clips`) asks twice; the second time it finds what the first has computed.

        Raises:
            ValueError: nobody has ever asked one of the towers.
        """
        if never := [name for name, tower in self._towers.items() if not tower.ever_asked]:
            raise ValueError(
                f"frozen_features: no objective asks the {never[0]} tower for answers to whole clips; masks make "
                "inputs of their own, which are never the same twice"
            )
        shares = {f"known_{name}": tower.known / max(1, tower.asked) for name, tower in self._towers.items()}
        for tower in self._towers.values():
            tower.asked = tower.known = 0
        return shares


@contextmanager
def frozen_features(
    model: JointModel, *, memory_bytes: int | None, folder: str | None = None
) -> Iterator[FrozenTowers]:
    """Answers of the model's frozen towers are kept while the block runs; None of bytes: they are not.

    Args:
        model: whose weights are those that the block begins with, and are not spread over processes.
        memory_bytes: for each tower, on the host.
        folder: for files, which other runs with the same tower find too; a file a clip, without a bound.

    Raises:
        ValueError: both towers learn, or a frozen one answers otherwise each time.
    """
    if memory_bytes is None:
        yield FrozenTowers({})
        return
    kept: dict[str, FrozenTower] = {}
    for name, tower, question, asked_of in _towers(model):
        if _is_frozen(tower, question, name=name):
            place = Path(folder) / name / _identity(model, tower, asked_of) if folder else None
            kept[name] = FrozenTower(tower, Answers(memory_bytes=memory_bytes, folder=place))
    if not kept:
        raise ValueError("frozen_features: both towers learn, or have nothing to compute; set it to null")
    for name, frozen in kept.items():
        # On the instance: names in the state dict stay.
        frozen.tower.forward = frozen.tokens if name == "audio" else frozen.vectors
    try:
        yield FrozenTowers(kept)
    finally:
        for frozen in kept.values():
            del frozen.tower.forward


def _towers(model: JointModel) -> Iterator[tuple[str, nn.Module, Any, str]]:
    """Name, module, a question to try, and what beside its weights decides the answer."""
    audio, text = model.audio_encoder, model.text_encoder
    assert isinstance(audio, nn.Module)
    noise = 0.1 * torch.randn(4, model.sample_rate, generator=torch.Generator().manual_seed(0))
    yield "audio", audio, Ragged.pack(list(noise)).to(model.device), json.dumps(to_values(model.config.audio))
    # A tower without parameters (Sentence) keeps its vectors itself.
    if isinstance(text, nn.Module) and any(True for _ in text.parameters()):
        yield "text", text, ["a dog barks", "rain"], text.identity


def _is_frozen(tower: nn.Module, question: Any, *, name: str) -> bool:
    """Whether no gradient comes out of a tower; it must answer alike each time then, as it stands in training.

    Raises:
        ValueError: it does not: dropout, augmentation, or a batch norm that is learning its statistics.
    """
    state = {key: tensor.clone() for key, tensor in tower.named_buffers()}
    found = []
    place = next(tower.parameters()).device
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        for seed in (0, 1):
            torch.manual_seed(seed)
            answer = tower(question)
            rows = answer.rows if isinstance(answer, Ragged) else answer
            if rows.requires_grad:
                _put_back(tower, state)
                return False
            found.append(rows)
    moved = [key for key, tensor in tower.named_buffers() if not torch.equal(tensor, state[key])]
    _put_back(tower, state)
    if moved or not torch.equal(*found):
        why = f"{moved[0]} moves" if moved else "it answers the same clips otherwise each time: augmentation or dropout"
        raise ValueError(f"frozen_features: the {name} tower learns nothing, but {why}; turn that off in the recipe")
    return True


def _put_back(tower: nn.Module, state: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for key, tensor in tower.named_buffers():
            tensor.copy_(state[key])


def _identity(model: JointModel, tower: nn.Module, asked_of: str) -> str:
    """Names all that an answer depends on: weights that do not learn, configuration, and where it is computed."""
    frozen = {key: tensor for key, tensor in tower.named_parameters() if not tensor.requires_grad}
    fixed = frozen | dict(tower.named_buffers())
    return digest(fixed, beside=f"{asked_of} {model.device.type} {torch.__version__}")


def _bytes(clip: Tensor) -> bytes:
    return clip.detach().cpu().contiguous().numpy().tobytes()
