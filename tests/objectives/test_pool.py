"""Every objective falls on real clips of the training pool, where it is: `pool` in the data folder that was given.

Ten steps with tiny networks on 24 clips of many collections, each cut after a second.
"""

from itertools import islice

import pytest
import torch

import tiny
from lapis import audio
from lapis.data.batching import Batch, Draw
from lapis.data.sources import Tars
from lapis.files import data_path
from lapis.objectives.classify import Classify
from lapis.objectives.learner import Encoded, Learner
from lapis.ragged import Ragged
from objectives.test_every_objective import OBJECTIVES, SMALL, TOWERS

# Read before the tests' own data folder takes its place.
POOL = data_path("pool").absolute()
COLLECTIONS = ("kitchen20", "urbansound8k", "sampled", "effects", "donateacry")
pytestmark = pytest.mark.skipif(not POOL.is_dir(), reason="no folder `pool` in $LAPIS_DATA")


@pytest.fixture(scope="module")
def batch():
    """Sounds and music, whose clips all have a class."""
    sources = [Tars(f"{POOL}/{name}-train-000000.tar").build() for name in COLLECTIONS]
    samples = list(islice((sample for row in zip(*sources) for sample in row if sample.label), 24))
    waveforms = [torch.from_numpy(audio.read(s.audio.open(), sample_rate=16_000, seconds=1.0)) for s in samples]
    captions = tuple(next(iter(sample.captions.values()))[0] for sample in samples)
    draws = tuple(Draw(number, sample) for number, sample in enumerate(samples))
    return Batch(Ragged.pack(waveforms), captions, draws, len(draws))


@pytest.mark.parametrize("kind", OBJECTIVES, ids=lambda kind: kind.__name__)
def test_it_falls(kind, batch):
    model = tiny.model(**TOWERS.get(kind.__name__, {}))
    config = SMALL.get(kind.__name__) or kind.Config()
    if isinstance(config, Classify.Config):
        labels = {str(draw.sample.label) for draw in batch.draws}
        config = Classify.Config(tuple(sorted(labels)), kind="single-label")
    objective = config.build(model)
    names = objective(model, batch, Encoded(model, batch)).keys()
    learner = Learner(model, [objective], dict.fromkeys(names, 1.0))
    optimizer = torch.optim.AdamW(learner.parameters(), lr=3e-3)
    totals = []
    for step in range(10):
        found = learner(batch)
        found.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.after_step(step=step)
        totals.append(found.total.item())
    print(f"{kind.__name__}: {totals[0]:.3f} to {totals[-1]:.3f}")
    assert totals[-1] < 0.97 * totals[0]
