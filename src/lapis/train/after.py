"""One stage of training after another: which tensors of the stage before a run begins with."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lapis import saved, weights
from lapis.audio_encoders.m2d import M2d, with_columns
from lapis.model import JointModel


@dataclass(frozen=True)
class After:
    """The folder of a finished run, and the beginnings of the names of the tensors that are taken from it."""

    folder: str
    take: tuple[str, ...]

    def into(self, model: JointModel) -> str:
        """Put them into a fresh model; the rest of it stays as it began. Says what was taken and what was not.

        Every tensor of the model with such a name must be there, and of its shape; only M2D's fixed positions are
        stretched or cut to the model's columns, as in the paper.

        Raises:
            ValueError: `folder` holds no finished run, or a tensor is missing or of another shape, or nothing in the
                model has one of the beginnings.
        """
        saved.describe(self.folder)
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


def _fitted(name: str, tensor: Tensor, model: JointModel) -> Tensor:
    encoder = model.audio_encoder
    if name != "audio_encoder.positions" or not isinstance(encoder, M2d):
        return tensor
    return with_columns(tensor, bands=encoder.bands, columns=encoder.config.columns)
