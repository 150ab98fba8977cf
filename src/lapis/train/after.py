"""What a run begins with, where not with random weights: another run's tensors, or towers as they are published."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from lapis import saved, weights
from lapis.audio_encoders import dasheng
from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d, with_columns
from lapis.files import data_path
from lapis.model import JointModel
from lapis.text_encoders import sonar
from lapis.text_encoders.sonar import Sonar


@dataclass(frozen=True)
class After:
    """The folder of a finished run, and the beginnings of the names of the tensors that are taken from it."""

    folder: str
    take: tuple[str, ...]

    def check(self) -> None:
        """See that the folder is there.

        Raises:
            ValueError: it holds no finished run.
        """
        saved.describe(self.folder)

    def into(self, model: JointModel) -> str:
        """Put them into a fresh model; the rest of it stays as it began. Says what was taken and what was not.

        Every tensor of the model with such a name must be there, and of its shape; only M2D's fixed positions are
        stretched or cut to the model's columns, as in the paper.

        Raises:
            ValueError: `folder` holds no finished run, or a tensor is missing or of another shape, or nothing in the
                model has one of the beginnings.
        """
        self.check()
        path = Path(self.folder) / saved.WEIGHTS_NAME
        before, own = weights.read(path), model.state_dict()
        if idle := [start for start in self.take if not any(name.startswith(start) for name in own)]:
            raise ValueError(f"after.take: nothing in the model begins with {idle[0]!r}")
        taken = {n: _fitted(n, tensor, model) for n, tensor in before.items() if n.startswith(self.take)}
        wanted = [name for name in own if name.startswith(self.take)]
        if missing := [name for name in wanted if name not in taken]:
            raise ValueError(f"{path} lacks {len(missing)} tensors to be taken from it, {missing[0]} the first")
        weights.load_strictly(model, own | taken, source=str(path))
        return f"{len(taken)} tensors from {path}; {len(own) - len(taken)} begin anew"


@dataclass(frozen=True)
class Towers:
    """Published weights of a tower each, as files; a path is relative to the data folder. None: random weights."""

    audio: str | None = None
    text: str | None = None

    def check(self) -> None:
        """See that the files are there.

        Raises:
            ValueError: one is not.
        """
        for file, name in ((self.audio, "audio"), (self.text, "text")):
            if file is not None and not data_path(file).is_file():
                addresses = {"audio": dasheng.WEIGHTS_ADDRESS, "text": sonar.WEIGHTS_ADDRESS}
                raise ValueError(
                    f"{data_path(file)}: expected the published weights of the {name} tower, there is no such file: "
                    f"fetch {addresses[name]} and put it there, set after.{name} to its path, or after=null to begin "
                    "with random weights"
                )

    def into(self, model: JointModel) -> str:
        """Put them into the towers of a fresh model, whose projections stay as they began. Says what begins with what.

        Raises:
            ValueError: a file is not there, does not hold such a tower whole, or of no tower like this one weights are
                known.
        """
        self.check()
        told = [
            _begin(model.audio_encoder, self.audio, name="audio"),
            _begin(model.text_encoder, self.text, name="text"),
        ]
        return "\n".join([*told, "projections begin with random weights"])


_PUBLISHED: Mapping[type, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
    Dasheng: dasheng.renamed,
    Sonar: sonar.renamed,
}
"""Of each tower, how its published names become ours."""


def _begin(tower: object, file: str | None, *, name: str) -> str:
    """Put the weights of a file into a tower."""
    if file is None:
        return f"{name} tower: begins with random weights"
    if type(tower) not in _PUBLISHED or not isinstance(tower, nn.Module):
        known = ", ".join(kind.__name__ for kind in _PUBLISHED)
        raise ValueError(f"after.{name}: published weights of {known} can be taken, not of {type(tower).__name__}")
    path = data_path(file)
    taken = _PUBLISHED[type(tower)](weights.read(path))
    weights.load_strictly(tower, taken, source=str(path))
    return f"{name} tower: {len(taken)} tensors from {path}"


def _fitted(name: str, tensor: Tensor, model: JointModel) -> Tensor:
    encoder = model.audio_encoder
    if name != "audio_encoder.positions" or not isinstance(encoder, M2d):
        return tensor
    return with_columns(tensor, bands=encoder.bands, columns=encoder.config.columns)
