"""The caption decoder: the packed transformer, causal, over a memory; all tokens at once or one more token at a time.

Training takes whole captions (`forward`). Generation keeps keys and values of the tokens so far and of the memory, so
that a step costs one token; a test holds the two equal.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lapis.layers.attention import attend
from lapis.layers.positions import Rotary, rotate
from lapis.layers.transformer import Block, RMSNorm, SwiGLU, Transformer
from lapis.ragged import Ragged


@dataclass(frozen=True)
class State:
    """What a step needs of the steps before, a layer an entry.

    `keys` and `values` are of shape (texts, heads, tokens, head_width), all texts equally long; `memory` holds the keys
    and values of each clip, and `texts` says how many texts belong to it: they stand side by side.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    memory: tuple[tuple[Ragged, Ragged], ...]
    texts: tuple[int, ...]

    def keep(self, parents: list[int], *, clips: list[int], texts: list[int]) -> "State":
        """Texts that go on from these, and the clips that still have some, with their new number of texts."""
        rows = torch.tensor(parents, device=self.keys[0].device)
        return State(
            tuple(layer[rows] for layer in self.keys),
            tuple(layer[rows] for layer in self.values),
            tuple((keys.take(clips), values.take(clips)) for keys, values in self.memory),
            tuple(texts),
        )


class Decoder(nn.Module):
    """Tokens to rows whose products with the table are the logits of the next token."""

    def __init__(self, vocabulary: int, *, width: int, depth: int, heads: int, hidden: int, memory_width: int) -> None:
        super().__init__()
        # One table for what is read and what is said (arXiv 1608.05859).
        self.table = nn.Embedding(vocabulary, width)
        nn.init.trunc_normal_(self.table.weight, std=0.02)
        self.rotary = Rotary(head_width=width // heads, axes=1)
        self.transformer = Transformer.Config(
            width=width,
            depth=depth,
            heads=heads,
            hidden=hidden,
            norm=RMSNorm,
            feedforward=SwiGLU,
            bias=False,
            causal=True,
            memory_width=memory_width,
        ).build()

    def forward(self, tokens: Ragged, *, memory: Ragged) -> Ragged:
        """Rows of token numbers in; each row of the answer has seen its token and those before, and all its memory."""
        angles = self.rotary(tokens.index_in_item[:, None])
        memory = memory.map(lambda rows: rows.to(self.table.weight.dtype))
        return self.transformer(tokens.map(self.table), angles=angles, memory=memory)

    def begin(self, memory: Ragged) -> State:
        """The state before the first token, one text a clip."""
        memory = memory.map(lambda rows: rows.to(self.table.weight.dtype))
        of_memory, nothing = [], []
        for block in self._blocks():
            assert block.cross is not None
            heads = block.cross.heads
            keys = memory.map(block.cross.key).map(lambda rows, heads=heads: rows.unflatten(-1, (heads, -1)))
            values = memory.map(block.cross.value).map(lambda rows, heads=heads: rows.unflatten(-1, (heads, -1)))
            of_memory.append((keys, values))
            nothing.append(keys.rows.new_empty(len(memory), heads, 0, values.rows.shape[-1]))
        return State(tuple(nothing), tuple(nothing), tuple(of_memory), (1,) * len(memory))

    def step(self, tokens: Int[Tensor, "texts"], state: State) -> tuple[Float[Tensor, "texts vocabulary"], State]:
        """One more token of every text: the logits of the next, and the state with this one in it."""
        rows = self.table(tokens)
        place = torch.full((len(tokens), 1), state.keys[0].shape[2], device=tokens.device)
        angles = self.rotary(place)
        all_keys, all_values = [], []
        for layer, block in enumerate(self._blocks()):
            attention, cross = block.attention, block.cross
            assert cross is not None
            normed = block.attention_norm(rows)
            query, key, value = (
                part(normed).unflatten(-1, (attention.heads, -1))
                for part in (attention.query, attention.key, attention.value)
            )
            keys = torch.cat([state.keys[layer], rotate(key, angles)[:, :, None]], dim=2)
            values = torch.cat([state.values[layer], value[:, :, None]], dim=2)
            attended = F.scaled_dot_product_attention(rotate(query, angles)[:, :, None], keys, values)
            rows = rows + attention.out(attended.flatten(1))
            asked = cross.query(block.cross_norm(rows)).unflatten(-1, (cross.heads, -1))
            heard = attend(Ragged(asked, state.texts), *state.memory[layer]).rows
            rows = rows + cross.out(heard.flatten(1))
            rows = rows + block.feedforward(block.feedforward_norm(rows))
            all_keys.append(keys)
            all_values.append(values)
        logits = self.transformer.norm(rows) @ self.table.weight.T
        return logits, State(tuple(all_keys), tuple(all_values), state.memory, state.texts)

    def _blocks(self) -> list[Block]:
        return [block for block in self.transformer.blocks if isinstance(block, Block)]
