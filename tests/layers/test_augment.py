import torch

from lapis.layers.augment import SpecAugment
from lapis.ragged import Ragged

SILENCE = -7.0


def _augmented(config, lengths, seed=0):
    torch.manual_seed(seed)
    module = SpecAugment(config, silence=SILENCE)
    return module(Ragged(torch.zeros(sum(lengths), 64), lengths)).split()


def test_evaluation_is_left_alone():
    module = SpecAugment(SpecAugment.Config(), silence=SILENCE).eval()
    frames = Ragged(torch.randn(30, 64), (10, 20))
    assert module(frames) is frames


def test_time_masks_are_stretches_no_wider_than_allowed():
    config = SpecAugment.Config(time_masks=1, band_masks=0)
    widths = set()
    for seed in range(200):
        for length, clip in zip((5, 100, 1000), _augmented(config, (5, 100, 1000), seed), strict=True):
            silent = (clip == SILENCE).all(1)
            assert torch.equal(silent, (clip == SILENCE).any(1))
            places = silent.nonzero().flatten()
            assert len(places) <= min(64, 0.2 * length)
            if len(places):
                assert places[-1] - places[0] + 1 == len(places)
                widths.add(len(places))
    assert {1, 20, 64} <= widths


def test_band_masks_are_the_same_over_a_clip_and_differ_between_clips():
    config = SpecAugment.Config(time_masks=0, band_masks=1, bands=8)
    clips = _augmented(config, (50,) * 20)
    patterns = set()
    for clip in clips:
        silent = clip[0] == SILENCE
        assert torch.equal(clip == SILENCE, silent.expand_as(clip)) and silent.sum() <= 8
        patterns.add(tuple(silent.tolist()))
    assert len(patterns) > 5


def test_every_clip_keeps_most_of_its_sound():
    for clip in _augmented(SpecAugment.Config(), (1, 3, 10, 500)):
        assert (clip == SILENCE).float().mean() < 0.65


def test_numbers_decide_whatever_stands_beside_a_clip():
    module = SpecAugment(SpecAugment.Config(), silence=SILENCE)
    lengths = (50, 200, 7)
    together = module(Ragged(torch.zeros(257, 64), lengths), (4, 900, 31)).split()
    torch.manual_seed(5)
    for number, length, clip in zip((4, 900, 31), lengths, together, strict=True):
        assert torch.equal(module(Ragged(torch.zeros(length, 64), (length,)), (number,)).rows, clip)
    others = module(Ragged(torch.zeros(257, 64), lengths), (5, 901, 32)).split()
    assert not any(torch.equal(one, other) for one, other in zip(together, others, strict=True))


def test_no_mask_is_nothing():
    clip = _augmented(SpecAugment.Config(time_masks=0, band_masks=0), (20,))[0]
    assert not clip.any()
