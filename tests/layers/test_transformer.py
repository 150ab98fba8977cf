import pytest
import torch

from lapis.layers.pooling import AttentionPooling
from lapis.layers.transformer import Gelu, LayerNorm, RMSNorm, SwiGLU, Transformer
from lapis.ragged import Ragged

LENGTHS = (3, 40, 1, 17, 40)

CONFIGURATIONS = {
    "dasheng and m2d": Transformer.Config(width=16, depth=2, heads=2, hidden=32),
    "slap": Transformer.Config(
        width=16, depth=3, heads=2, hidden=32, norm=RMSNorm, feedforward=SwiGLU, bias=False, windows=(4, 4, None)
    ),
    "caption decoder": Transformer.Config(
        width=16,
        depth=2,
        heads=2,
        hidden=32,
        norm=RMSNorm,
        feedforward=SwiGLU,
        bias=False,
        causal=True,
        memory_width=24,
    ),
    "normed heads": Transformer.Config(width=16, depth=1, heads=4, hidden=32, norm_heads=True, norm=LayerNorm),
}


def _inputs(config):
    torch.manual_seed(0)
    rows = Ragged(torch.randn(sum(LENGTHS), config.width, requires_grad=True), LENGTHS)
    if config.memory_width is None:
        return rows, None
    lengths = tuple(length + 2 for length in LENGTHS)
    return rows, Ragged(torch.randn(sum(lengths), config.memory_width), lengths)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_packed_equals_one_by_one_in_values_and_gradients(name):
    config = CONFIGURATIONS[name]
    module = config.build()
    rows, memory = _inputs(config)
    together = module(rows, memory=memory).rows
    # Outputs are normalised: only a sum that weighs them differently has a gradient.
    weights = torch.randn_like(together)
    (together * weights).sum().backward()
    packed = {key: parameter.grad.clone() for key, parameter in module.named_parameters()}
    module.zero_grad()
    memories = memory.split() if memory else [None] * len(rows)
    alone = torch.cat(
        [
            module(Ragged.pack([item]), memory=None if other is None else Ragged.pack([other])).rows
            for item, other in zip(rows.split(), memories, strict=True)
        ]
    )
    (alone * weights).sum().backward()
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    for key, parameter in module.named_parameters():
        scale = parameter.grad.abs().max().clamp(min=1e-3)  # a key's bias has no gradient at all
        assert (parameter.grad - packed[key]).abs().max() / scale <= 1e-4, key


def test_causal_rows_do_not_see_what_follows():
    config = Transformer.Config(width=16, depth=2, heads=2, hidden=32, causal=True)
    module, rows = config.build(), torch.randn(9, 16)
    changed = rows.clone()
    changed[5:] += 1
    before, after = module(Ragged.pack([rows])).rows, module(Ragged.pack([changed])).rows
    assert torch.equal(before[:5], after[:5]) and not torch.equal(before[5:], after[5:])


def test_no_biases_where_none_are_wanted():
    names = [name for name, _ in CONFIGURATIONS["slap"].build().named_parameters()]
    assert names and not [name for name in names if name.endswith("bias")]


def test_windows_follow_the_pattern():
    module = Transformer.Config(width=8, depth=6, heads=2, hidden=8, windows=(4, 4, None)).build()
    assert [block.window for block in module.blocks] == [4, 4, None, 4, 4, None]


def test_a_memory_that_is_missing_is_named():
    with pytest.raises(ValueError, match="attends to a memory"):
        CONFIGURATIONS["caption decoder"].build()(Ragged(torch.randn(3, 16), (3,)))


def test_feedforward_formulas():
    rows = torch.randn(5, 8)
    gelu, swiglu = Gelu(8, 16, bias=True), SwiGLU(8, 16, bias=False)
    up = rows @ gelu.up.weight.T + gelu.up.bias
    erf = up * 0.5 * (1 + torch.erf(up / 2**0.5))
    torch.testing.assert_close(gelu(rows), erf @ gelu.down.weight.T + gelu.down.bias)
    gate = rows @ swiglu.gate.weight.T
    torch.testing.assert_close(
        swiglu(rows), (gate * gate.sigmoid() * (rows @ swiglu.up.weight.T)) @ swiglu.down.weight.T
    )


def test_pooling_of_an_item_is_its_own():
    pooling = AttentionPooling(16, heads=2, hidden=32)
    rows = Ragged(torch.randn(sum(LENGTHS), 16), LENGTHS)
    together = pooling(rows)
    for item, pooled in zip(rows.split(), together, strict=True):
        torch.testing.assert_close(pooling(Ragged.pack([item]))[0], pooled)
    shuffled = rows.split()[1][torch.randperm(40)]
    torch.testing.assert_close(pooling(Ragged.pack([shuffled]))[0], together[1])
