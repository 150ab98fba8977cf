import pytest
import torch

from lapis.layers.positions import Learned, Rotary, SinCos, rotate


def test_rotated_products_see_only_distances():
    rotary = Rotary(head_width=16, axes=2)
    query, key = torch.randn(1, 3, 16), torch.randn(1, 3, 16)

    def product(query_at, key_at):
        turned = rotate(query, rotary(torch.tensor([query_at]))), rotate(key, rotary(torch.tensor([key_at])))
        return (turned[0] * turned[1]).sum(-1)

    torch.testing.assert_close(product((5, 1), (2, 3)), product((105, 0), (102, 2)), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(product((5, 1), (2, 3)), product((5, 1), (3, 3)), atol=1e-3)
    assert not torch.allclose(product((5, 1), (2, 3)), product((5, 1), (2, 2)), atol=1e-3)


def test_rotation_keeps_lengths_and_zero_turns_nothing():
    rotary, rows = Rotary(head_width=8, axes=1), torch.randn(4, 2, 8)
    angles = rotary(torch.arange(4)[:, None])
    torch.testing.assert_close(rotate(rows, angles).norm(dim=-1), rows.norm(dim=-1))
    torch.testing.assert_close(rotate(rows, angles)[0], rows[0])


def test_angles_are_the_same_in_a_model_of_half_precision():
    positions = torch.tensor([[700, 3], [1, 0]])
    for module in (Rotary(head_width=16, axes=2), SinCos(axes=2, width=16)):
        exact = module(positions)
        assert exact.dtype == torch.float32 and torch.equal(module.bfloat16()(positions), exact)


def test_tables_add_up_over_axes():
    learned = Learned(sizes=(5, 3), width=4)
    positions = torch.tensor([[4, 2], [0, 1]])
    expected = torch.stack([learned.tables[0][4] + learned.tables[1][2], learned.tables[0][0] + learned.tables[1][1]])
    torch.testing.assert_close(learned(positions), expected)
    with pytest.raises(ValueError, match="position 5 on axis 0 is outside its 5"):
        learned(torch.tensor([[5, 0]]))


def test_sin_cos_is_the_formula():
    rows = SinCos(axes=1, width=4)(torch.tensor([[0], [3]]))
    torch.testing.assert_close(rows[0], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    expected = torch.tensor([3.0, 0.03]).sin(), torch.tensor([3.0, 0.03]).cos()
    torch.testing.assert_close(rows[1], torch.cat(expected))


@pytest.mark.parametrize("make", [lambda: Rotary(head_width=6, axes=2), lambda: SinCos(axes=2, width=6)])
def test_a_width_that_cannot_be_shared_is_refused(make):
    with pytest.raises(ValueError, match="multiple of 4"):
        make()


def test_wrong_number_of_axes_is_refused():
    with pytest.raises(ValueError, match="expected positions on 2 axes, got 1"):
        Rotary(head_width=8, axes=2)(torch.zeros(3, 1, dtype=torch.long))
