"""A server in a thread over real recordings, with a model trained to know their sounds, for a browser."""

import contextlib

import numpy as np
import soundfile
import torch
from serving import live

import tiny
from lapis import audio
from lapis.audio_encoders.slap import Slap
from lapis.data.batching import Batch, Draw
from lapis.datasets.pocket import Pocket
from lapis.objectives.contrast import Softmax
from lapis.objectives.learner import Learner
from lapis.ragged import Ragged
from lapis.search.index import Index
from lapis.serve.keys import Keys

RATE = 16_000
PART_SECONDS = 2.0
LANGUAGES = ("eng_Latn", "deu_Latn", "zho_Hans")
SCENES = {
    "yard/morning.wav": ("rain", "crickets chirping", "hammering on an anvil"),
    "yard/evening.flac": ("crickets chirping", "motor vehicle"),
    "town/field.aiff": ("rain", "sheep bleating", "motor vehicle"),
}
"""Which real sounds, two seconds of each, follow each other in a recording."""


def parts():
    """Of each class a clip of the pocket corpus: two seconds of it, and its sample with the captions."""
    found = {}
    wanted = {label for labels in SCENES.values() for label in labels}
    for sample in Pocket("test", "sound").build():
        if sample.label in wanted - found.keys():
            waveform = audio.read(sample.audio.open(), sample_rate=RATE)
            whole = np.zeros(round(PART_SECONDS * RATE), np.float32)
            whole[: len(waveform)] = waveform[: len(whole)]
            found[sample.label] = whole, sample
    return found


def trained(found, *, steps=90):
    """A tiny model that has learned these clips' captions by heart: it knows no others."""
    model = tiny.model(0, audio=Slap.Config(width=16, depth=2, heads=2, hidden=24, augment=None))
    torch.manual_seed(1)
    learner = Learner(model, [Softmax.Config().build(model)], {"contrast": 1.0}).train()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=2e-2)
    waveforms = Ragged.pack([torch.from_numpy(waveform) for waveform, _ in found.values()])
    draws = tuple(Draw(number, sample) for number, (_, sample) in enumerate(found.values()))
    for step in range(steps):
        language = LANGUAGES[step % len(LANGUAGES)]
        captions = [sample.captions[language] for _, sample in found.values()]
        said = tuple(some[step // len(LANGUAGES) % len(some)] for some in captions)
        optimizer.param_groups[0]["lr"] = 2e-2 * (1 - step / steps)
        optimizer.zero_grad()
        learner(Batch(waveforms, said, draws, 0)).total.backward()
        optimizer.step()
    return model.eval()


def recorded(folder, found):
    """The scenes as files."""
    for name, labels in SCENES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.concatenate([found[label][0] for label in labels]), RATE)


def indexed(folder, sounds, model):
    """An index of the sounds, a row for each two seconds."""
    index = Index.create_or_open(
        folder, embedder_identity=model.identity, width=model.width, window_seconds=PART_SECONDS
    )
    assert not index.update(sounds, embedder=model).failed
    return index


@contextlib.contextmanager
def serving(model, *, keys=(), root=None, index=None, limits=None):
    """The address of a server in a thread, on a free port of loopback."""
    with live(model, keys=Keys(keys), root=root, index=index, limits=limits) as server:
        yield server.address
