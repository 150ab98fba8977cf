"""Masks: how many patches they leave, which, and that a generator decides them alone."""

import pytest
import torch

from lapis.layers.masking import Masking, Parts


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _mask(masking, *, columns=38, bands=5, seed=0):
    return masking.visible(columns * bands, bands=bands, generator=_generator(seed))


@pytest.mark.parametrize("shape", ["random", "structured"])
@pytest.mark.parametrize(
    ("ratio", "columns", "visible"), [(0.7, 38, 57), (0.3, 62, 217), (0.5, 62, 155), (0.0, 62, 310), (0.7, 1, 1)]
)
def test_the_published_numbers_of_patches_stay(shape, ratio, columns, visible):
    mask = _mask(Masking(ratio, shape), columns=columns)
    assert mask.dtype == torch.bool and mask.sum() == visible


def test_all_may_be_hidden_but_one_patch_stays_otherwise():
    assert Masking(1.0).visible(10, bands=5, generator=_generator()).sum() == 0
    assert Masking(0.99).visible(1, bands=1, generator=_generator()).sum() == 1


def test_a_generator_decides_alone():
    torch.manual_seed(1)
    first = _mask(Masking(0.7), seed=3)
    state = torch.get_rng_state()
    assert torch.equal(_mask(Masking(0.7), seed=3), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(_mask(Masking(0.7), seed=4), first)


def test_random_patches_are_hidden_everywhere_alike():
    share = torch.stack([_mask(Masking(0.7), seed=seed) for seed in range(400)]).float().mean(0)
    assert (share - 0.3).abs().max() < 0.12


def test_a_structured_mask_hides_whole_bands_and_columns():
    """At 0.3 of 5 x 62: one band and eight columns, 94 patches, of which one is shown."""
    for seed in range(20):
        grid = _mask(Masking(0.3, "structured"), columns=62, seed=seed).unflatten(0, (62, 5))
        assert (~grid).sum() == 93
        assert sorted((~grid).sum(0).tolist())[-1] >= 61
        assert ((~grid).sum(1) >= 4).sum() >= 8


def test_an_inverted_mask_keeps_what_was_to_be_hidden():
    for seed in range(20):
        grid = _mask(Masking(0.3, "structured", inverted=True), columns=62, seed=seed).unflatten(0, (62, 5))
        assert grid.sum() == 217
        assert grid.all(0).sum() >= 1 and grid.all(1).sum() >= 8


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("bands", [1, 2, 5])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_small_grids_get_their_number_too(columns, bands, ratio):
    masking = Masking(ratio, "structured")
    mask = _mask(masking, columns=columns, bands=bands)
    assert mask.sum() == masking.num_visible(columns * bands)


def test_parts_are_the_rows_of_each_item_in_two():
    masks = [torch.tensor([True, False, False, True]), torch.tensor([False, False]), torch.tensor([True, True, True])]
    parts = Parts.of(masks, device=torch.device("cpu"))
    assert [item.tolist() for item in parts.shown.split()] == [[0, 3], [], [6, 7, 8]]
    assert [item.tolist() for item in parts.asked.split()] == [[1, 2], [4, 5], []]


def test_what_leads_an_item_is_in_both_parts():
    masks = [torch.tensor([True, False, True]), torch.tensor([True, True])]
    parts = Parts.of(masks, device=torch.device("cpu"), leading=1)
    assert [item.tolist() for item in parts.shown.split()] == [[0, 2], [3, 4]]
    assert [item.tolist() for item in parts.asked.split()] == [[0, 1], [3]]


def test_impossible_masks():
    with pytest.raises(ValueError, match="ratio: expected a share from 0 to 1"):
        Masking(1.5)
    with pytest.raises(ValueError, match="inverted: only a structured mask can be"):
        Masking(0.5, inverted=True)
