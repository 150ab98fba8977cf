import pytest
import torch

from lapis.layers.patches import Patches, unpatch
from lapis.ragged import Ragged


def _patches(**changes):
    sizes = {"frames": 4, "mels": 2, "num_mels": 6, "width": 5, "bias": False, "silence": -9.0} | changes
    return Patches(**sizes)


def test_cutting_and_joining_are_inverse_and_the_rest_is_silence():
    patches = _patches()
    clips = [torch.randn(length, 6) for length in (1, 4, 5, 12)]
    cut = patches.cut(Ragged.pack(clips))
    assert cut.lengths == tuple(patches.num_patches(len(clip)) for clip in clips) == (3, 3, 6, 9)
    for clip, rows in zip(clips, cut.split(), strict=True):
        joined = unpatch(rows, frames=4, mels=2, num_mels=6)
        assert torch.equal(joined[: len(clip)], clip)
        assert (joined[len(clip) :] == -9.0).all()


def test_all_bands_of_a_column_stand_together():
    patches = _patches()
    frames = torch.arange(8)[:, None] * 100.0 + torch.arange(6)[None, :]
    cut = patches.cut(Ragged.pack([frames]))
    assert cut.rows[1].tolist() == [2, 3, 102, 103, 202, 203, 302, 303]
    assert cut.rows[3].tolist() == [400, 401, 500, 501, 600, 601, 700, 701]
    assert patches.positions(cut).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_positions_begin_anew_with_each_clip():
    patches = _patches()
    cut = patches.cut(Ragged.pack([torch.randn(5, 6), torch.randn(2, 6)]))
    assert patches.positions(cut)[6:].tolist() == [[0, 0], [0, 1], [0, 2]]


def test_bands_must_fit():
    with pytest.raises(ValueError, match="6 mel bands cannot be cut into patches of 4"):
        _patches(mels=4)
