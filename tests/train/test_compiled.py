"""Compiled parts give the same steps, are compiled once for all lengths, and leave nothing behind."""

import subprocess
import sys
from dataclasses import asdict, dataclass
from json import dumps, loads

import pytest
import torch
from torch import nn

from lapis.layers.transformer import Block, Gelu, LayerNorm, Transformer
from lapis.ragged import Ragged
from lapis.train.compiled import compiled_blocks
from lapis.train.loop import Training
from lapis.train.recompute import recomputed_blocks

LENGTHS = ((5, 9, 5), (12,), (1, 2, 3, 4), (30, 7), (8, 8, 8), (17, 3))


@dataclass(frozen=True)
class Found:
    """Losses of a few steps over batches of other lengths, and how often something was compiled."""

    losses: list[float]
    graphs: int


def steps(*, compiled: bool, recomputed: bool) -> Found:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Transformer.Config(width=16, depth=3, heads=2, hidden=24, norm=LayerNorm, feedforward=Gelu).build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    with compiled_blocks(model, enabled=compiled), recomputed_blocks(model, enabled=recomputed):
        for number, lengths in enumerate(LENGTHS):
            rows = torch.randn(sum(lengths), 16, generator=torch.Generator().manual_seed(number))
            loss = (model(Ragged(rows, lengths)).rows - rows.roll(1, 1)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return Found(losses, torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _apart(*, recomputed: bool) -> Found:
    """Of a process of its own: tests check annotations at run time, which the compiler cannot see through."""
    command = [sys.executable, __file__, dumps({"compiled": True, "recomputed": recomputed})]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert found.returncode == 0, found.stderr
    return Found(**loads(found.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("recomputed", [False, True])
def test_steps_are_the_same_and_compiled_once_for_all_lengths(recomputed):
    plain, compiled = steps(compiled=False, recomputed=recomputed), _apart(recomputed=recomputed)
    assert plain.graphs == 0 and 0 < compiled.graphs <= 4  # a norm and a feed-forward; more than a row, and one row
    assert compiled.losses == pytest.approx(plain.losses, abs=1e-5)
    assert compiled.losses[-1] < compiled.losses[0]


def test_nothing_is_left_behind():
    model = Transformer.Config(width=16, depth=3, heads=2, hidden=24).build()
    blocks = [part for part in model.modules() if isinstance(part, Block)]
    names = list(model.state_dict())
    with compiled_blocks(model, enabled=True):
        assert all("fed" in vars(block) and "forward" in vars(block.attention_norm) for block in blocks)
        assert list(model.state_dict()) == names
    assert not any("fed" in vars(block) or "forward" in vars(block.attention_norm) for block in blocks)
    with compiled_blocks(nn.ModuleList([model]), enabled=False):
        assert not any("fed" in vars(block) for block in blocks)


def test_it_does_not_go_with_spread_weights():
    with pytest.raises(ValueError, match="compile and sharded do not go together"):
        Training(steps=1, compile=True, sharded=True)


if __name__ == "__main__":
    print(dumps(asdict(steps(**loads(sys.argv[1])))))
