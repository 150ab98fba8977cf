"""Masked modelling duo (arXiv 2210.14648): from the patches it sees, one network predicts what another one, a slow
average of itself, makes of the patches it does not see.

The target network is fed the hidden patches only, so that its answer cannot hold what the online network was shown.
It serves both kinds of towers: M2D's, which add positions and lead with a class token, and SLAP's, of any duration,
whose positions are rotations. There the visible patches turn by their true places, a local layer sees as far in time
as with all patches there, and the predictor turns its rows too (`visible.through`).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn

from lapis import distributed
from lapis.audio_encoders.m2d import xavier
from lapis.data.batching import Batch
from lapis.layers.masking import Masking, Parts
from lapis.layers.patches import Chunks
from lapis.layers.transformer import Transformer
from lapis.model import JointModel, Logits
from lapis.objectives.learner import Encoded, Objective, ObjectiveConfig
from lapis.objectives.visible import Divisible, divisible_of, parts_of, through, through_plain
from lapis.ragged import Ragged


def regression(
    predicted: Float[Tensor, "tokens width"], target: Float[Tensor, "tokens width"]
) -> Float32[Tensor, "tokens"]:
    """How far each prediction is from its target, from 0 to 4: 2 - 2 cos (arXiv 2210.14648, equation 3).

    The target is standardised over its width first (arXiv 2210.14648, equation 2). Float32 under autocast too.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        predicted, target = predicted.float(), target.float()
        centred = target - target.mean(-1, keepdim=True)
        variance = centred.square().sum(-1, keepdim=True) / (target.shape[-1] - 1)
        standard = centred / (variance + 1e-6).sqrt()
        return 2 - 2 * (F.normalize(predicted, dim=-1) * F.normalize(standard, dim=-1)).sum(-1)


class Duo(Objective):
    """The term `masked`, and those of the objective that hears the visible patches."""

    @dataclass(frozen=True)
    class Config:
        """ViT-Base's predictor, and the masks and the average of M2D and M2D-CLAP, which suit M2D's tower and SLAP's.

        Args:
            masking: what the online network does not see.
            width: of the predictor; `depth` and `heads` likewise.
            decay: of the target at the first step, rising linearly to `last_decay` at step `steps`, that of the run.
            visible: an objective whose clips are the tokens of visible patches, without the class token: the contrast
                of M2D-CLAP's first stage (arXiv 2406.02032, section 2). It costs no second pass.
            seed: decides the masks, together with the number of each draw.
        """

        masking: Masking = Masking(ratio=0.7)
        width: int = 512
        depth: int = 8
        heads: int = 16
        decay: float = 0.99995
        last_decay: float = 0.99999
        steps: int = 370_800
        visible: ObjectiveConfig | None = None
        seed: int = 0

        def __post_init__(self) -> None:
            if not 0 <= self.decay <= self.last_decay <= 1 or self.steps < 1:
                raise ValueError(f"expected 0 <= decay <= last_decay <= 1 and steps above zero, got {self}")

        def build(self, model: JointModel) -> "Duo":
            """The predictor and the target, with fresh parameters.

            Raises:
                ValueError: the audio tower's patches cannot be left out, or all would be hidden from a tower without
                    a class token, or the predictor's heads cannot turn.
            """
            return Duo(self, divisible_of(model), self.visible.build(model) if self.visible else None)

    positions: Tensor | None

    def __init__(self, config: Config, encoder: Divisible, visible: Objective | None) -> None:
        super().__init__()
        self.config, self.visible = config, visible
        width, of_encoder = config.width, encoder.transformer.config.width
        self.enter = nn.Linear(of_encoder, width)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        table = encoder.placing(width)
        if table is None:
            _check_turning(config, encoder)
        # The class token stands first, at a position of zeros.
        self.register_buffer("positions", None if table is None else torch.cat([torch.zeros(1, width), table]))
        self.predictor = Transformer.Config(
            width=width, depth=config.depth, heads=config.heads, hidden=4 * width
        ).build()
        self.leave = nn.Linear(width, of_encoder)
        # A start of its own, not a copy of the online network's: their difference is what there is to learn at first.
        self.target = encoder.transformer.config.build()
        for part in (self.enter, self.predictor, self.leave, self.target):
            part.apply(xavier)
        self.target.requires_grad_(False)

    def forward(self, model: JointModel, batch: Batch, encoded: Encoded) -> dict[str, Float[Tensor, ""]]:
        """The term `masked`, the mean over the hidden patches of all processes, and those of `visible`."""
        encoder, config = divisible_of(model), self.config
        chunks = encoder.embedded(batch.waveforms)
        parts = parts_of(chunks, batch.draws, masking=config.masking, bands=encoder.bands, seed=config.seed)
        # z_v = f(x_v), equation 1
        online = through(encoder, encoder.transformer, items=chunks.items, some=parts.shown)
        predicted = self._predicted(encoder, online, items=chunks.items, parts=parts)
        losses = regression(predicted, self._targets(encoder, chunks.items, parts))
        counts = distributed.gather(torch.tensor([len(losses)], device=losses.device))
        # Gathered with its gradient: a process with few hidden patches must not weigh as much as one with many.
        terms = {"masked": distributed.gather(losses.sum()[None]).sum() / counts.sum().clamp(min=1)}
        if self.visible is not None:
            terms |= self.visible(model, batch, Encoded(model, batch, tokens=chunks.joined(online)))
        return terms

    def _predicted(
        self, encoder: Divisible, online: Ragged, *, items: Ragged, parts: Parts
    ) -> Float[Tensor, "hidden width"]:
        """What the predictor puts in place of mask tokens, given visible tokens and all positions."""
        visible = self.enter(online.rows)
        hidden = self.mask_token.to(visible.dtype).expand(len(items.rows), -1)
        rows = Ragged(hidden.index_copy(0, parts.visible, visible), items.lengths)
        if self.positions is not None:
            rows = Ragged(rows.rows + self.positions[rows.index_in_item].to(visible.dtype), rows.lengths)
        angles = encoder.angles(items, head_width=self.config.width // self.config.heads)
        return self.leave(self.predictor(rows, angles=angles).rows[parts.hidden])

    @torch.no_grad()
    def _targets(self, encoder: Divisible, items: Ragged, parts: Parts) -> Float[Tensor, "hidden width"]:
        """What the target network makes of the hidden patches, which the online network has embedded and placed."""
        return through(encoder, self.target, items=items, some=parts.asked).without_first(parts.leading).rows

    def decay(self, step: int) -> float:
        """Of the target's average after step `step`, counted from 0."""
        config = self.config
        return config.decay + (config.last_decay - config.decay) * min(1.0, step / config.steps)

    @torch.no_grad()
    def after_step(self, model: JointModel, *, step: int) -> None:
        """target = decay * target + (1 - decay) * online (arXiv 2210.14648, equation 4)."""
        online = [parameter.detach() for parameter in divisible_of(model).transformer.parameters()]
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]  (public in all but its name)
            list(self.target.parameters()), online, 1 - self.decay(step)
        )
        if self.visible is not None:
            self.visible.after_step(model, step=step)

    def logits(self) -> Logits | None:
        """Those of `visible`."""
        return self.visible.logits() if self.visible is not None else None


def _check_turning(config: Duo.Config, encoder: Divisible) -> None:
    """Refuse, before a run begins, what a tower with rotations and without a class token cannot do."""
    if config.masking.num_visible(encoder.bands) == 0:
        raise ValueError(f"masking.ratio: {config.masking.ratio} hides all, and this tower has no class token to see")
    if config.width % (4 * config.heads):
        raise ValueError(
            f"width: expected heads of a multiple of 4, which columns and bands share, got {config.width} for "
            f"{config.heads} heads"
        )


def masked_plain(duo: Duo, encoder: Divisible, chunks: Chunks, parts: Parts) -> Float[Tensor, ""]:
    """The term `masked` on one process, one chunk and one hidden patch at a time, written as the papers tell it."""
    stays = torch.zeros(len(chunks.items.rows), dtype=torch.bool, device=parts.visible.device)
    stays[parts.visible] = True
    losses, leading = [], chunks.leading
    for rows, kept in zip(chunks.items.split(), stays.split(chunks.items.lengths), strict=True):
        online = through_plain(encoder, encoder.transformer, rows=rows, there=kept)
        with torch.no_grad():
            asked = ~kept
            asked[:leading] = True
            answers = through_plain(encoder, duo.target, rows=rows, there=asked)[leading:]
        shown = iter(online)
        of_all = torch.stack([duo.enter(next(shown)) if seen else duo.mask_token for seen in kept])
        placed = of_all if duo.positions is None else of_all + duo.positions[: len(rows)]
        everywhere = torch.ones_like(kept)
        predicted = duo.leave(through_plain(encoder, duo.predictor, rows=placed, there=everywhere))
        for prediction, answer in zip(predicted[~kept], answers, strict=True):
            standard = (answer - answer.mean()) / (answer.var(correction=1) + 1e-6).sqrt()
            losses.append((prediction / prediction.norm() - standard / standard.norm()).square().sum())
    return torch.stack(losses).mean()
