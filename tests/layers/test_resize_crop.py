"""The random resize crop keeps a spectrogram's shape, moves what is in it, and hangs on the clip's number alone."""

import torch

from lapis.layers.augment import SpecAugment
from lapis.layers.resize_crop import ResizedAugment, resized
from lapis.ragged import Ragged

NOTHING = SpecAugment.Config(time_masks=0, band_masks=0)


def _line(frames: int, mels: int, *, band: int) -> torch.Tensor:
    clip = torch.zeros(frames, mels)
    clip[:, band] = 1
    return clip


def test_the_whole_clip_cut_out_is_itself():
    clip = torch.rand(20, 8)
    # Height 1 of it (0.6 + 0.9 * 4/9), width 1 of it, from the begin of the clip, 5 frames into the canvas of 30.
    same = resized(clip, chances=(4 / 9 + 1e-6, 4 / 9 + 1e-6, 0.0, 5.5 / 11))
    torch.testing.assert_close(same, clip)


def test_half_of_the_bands_are_stretched_over_all():
    clip = _line(30, 10, band=2)
    stretched = resized(clip, chances=(0.0, 4 / 9 + 1e-6, 0.0, 0.5))  # the six lowest bands
    assert stretched.shape == clip.shape and int(stretched.mean(0).argmax()) in (3, 4)


def test_what_lies_beside_the_clip_is_nothing():
    wide = resized(torch.ones(30, 10), chances=(0.999, 0.999, 0.0, 0.0))  # nearly the whole canvas
    assert wide[0].abs().max() < 0.1 and wide[15].min() > 0.9 and wide[-1].abs().max() < 0.1


def test_a_clip_is_cut_by_its_number_and_only_while_training():
    layer = ResizedAugment(NOTHING, silence=0.0)
    one, two = torch.rand(33, 8), torch.rand(21, 8)
    both = layer(Ragged.pack([one, two]), [7, 8])
    assert both.lengths == (33, 21)
    torch.testing.assert_close(layer(Ragged.pack([two]), [8]).rows, both.split()[1])
    assert not torch.equal(both.split()[0], one) and not torch.equal(
        layer(Ragged.pack([one]), [9]).rows, both.split()[0]
    )
    torch.manual_seed(3)
    drawn = layer(Ragged.pack([one]))
    torch.manual_seed(3)
    torch.testing.assert_close(layer(Ragged.pack([one])).rows, drawn.rows)
    assert layer.eval()(Ragged.pack([one])).rows is not None and torch.equal(layer(Ragged.pack([one])).rows, one)
