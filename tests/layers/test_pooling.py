"""Pooling by attention: items do not see each other; the semantic block's short form is the whole block's answer."""

import pytest
import torch

from lapis.layers.pooling import AttentionPooling, SemanticPooling, semantic_plain
from lapis.ragged import Ragged


def _rows(lengths, width=16):
    return Ragged(torch.randn(sum(lengths), width, requires_grad=True), lengths)


@pytest.mark.parametrize("pooling", [AttentionPooling(16, heads=2, hidden=24), SemanticPooling(16)])
def test_an_item_gets_with_others_what_it_gets_alone(pooling):
    torch.manual_seed(0)
    rows = _rows((3, 1, 40))
    together = pooling(rows)
    assert together.shape == (3, 16)
    for item, vector in zip(rows.split(), together, strict=True):
        assert (pooling(Ragged.pack([item]))[0] - vector).abs().max() <= 1e-5


def test_the_semantic_block_is_the_whole_block_in_values_and_gradients():
    torch.manual_seed(1)
    pooling = SemanticPooling(16)
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    rows = _rows((5, 1, 33))

    def gradients(form):
        pooling.zero_grad()
        rows.rows.grad = None
        answer = form(rows)
        (answer * torch.linspace(-1, 1, 16)).sum().backward()
        return [answer, rows.rows.grad.clone(), *(parameter.grad.clone() for parameter in pooling.parameters())]

    for short, plain in zip(gradients(pooling), gradients(lambda r: semantic_plain(pooling, r)), strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(short, plain, atol=2e-5, rtol=1e-4)
