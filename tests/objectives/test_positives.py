"""Which captions belong to a clip: the rules, whole and in blocks."""

import pytest
import torch

from lapis.objectives.positives import positives
from objectives.batches import batch_of

CPU = torch.device("cpu")
BATCH = batch_of(["a dog", "a dog", "rain", "a dog barks"], {3: ("a dog", "never drawn")})


def test_rules():
    """A caption belongs to every clip that has it, whoever drew it; a clip's row need not be a caption's column."""
    assert torch.equal(positives(BATCH, rule="pair", device=CPU).matrix(), torch.eye(4, dtype=torch.bool))
    assert positives(BATCH, rule="caption", device=CPU).matrix().int().tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 0],
        [1, 1, 0, 1],
    ]


@pytest.mark.parametrize("rule", ["pair", "caption"])
@pytest.mark.parametrize("gather", ["gathered", "ring", "local"])
def test_a_block_is_a_part_of_the_matrix(rule, gather):
    found = positives(BATCH, rule=rule, device=CPU, gather=gather)
    assert torch.equal(found.block(slice(1, 4), slice(0, 3)), found.matrix()[1:4, 0:3])


def test_only_what_somebody_drew_is_kept():
    assert positives(BATCH, rule="caption", device=CPU).owned.shape == (4, 2)


def test_a_clip_whose_own_caption_is_not_among_its_captions_has_it_still():
    """As when the drawn caption was cleaned and the clip's own list was not."""
    drawn = batch_of(["rain"], own=False)
    assert positives(drawn, rule="caption", device=CPU).matrix().tolist() == [[True]]
