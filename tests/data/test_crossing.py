"""Batches of worker processes in memory that is used again: never while somebody has one of them."""

import gc
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from data.corpus import tones, write_tar
from lapis.data import crossing
from lapis.data.batching import Batch, Budget, Draw, Plan
from lapis.data.crossing import Received, Sending, Sent, SharedArrays, marks_of_lent
from lapis.data.laying import KEPT_ARRAYS, Laid
from lapis.data.loader import Loader, Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.sample import Location, Sample
from lapis.data.sources import Tars
from lapis.ragged import Ragged


class Counting(Dataset):
    """Lays batches whose sounds are their number, as many samples as told."""

    def __init__(self, arrays: SharedArrays, promised: int | None = None) -> None:
        self.arrays, self.promised = arrays, promised

    def __getitem__(self, planned: Plan) -> Batch:
        samples = len(planned.draws)
        laid = Laid(self.arrays, samples=samples if self.promised is None else self.promised)
        laid.add(np.full(samples, planned.position, np.float32))
        return Batch(laid.ragged(), ("x",), planned.draws[:1], planned.position)


def _plans(lengths):
    draw = Draw(0, Sample("x", Location(Path("x.wav"))))
    return [Plan((draw,) * length, number) for number, length in enumerate(lengths)]


def _coming(lengths, *, workers=1, context="fork", promised=None):
    """What a loader gives, and the table of what is lent."""
    marks = marks_of_lent(workers)
    arrays = SharedArrays(marks)
    sending = Sending(Counting(arrays, promised), arrays)
    loader = DataLoader(
        sending,
        sampler=_plans(lengths),
        batch_size=None,
        collate_fn=lambda read: read,
        num_workers=workers,
        multiprocessing_context=context,
        prefetch_factor=1,
    )
    return iter(loader), Received(marks), marks


def _is_whole(batch, length):
    return batch.waveforms.lengths == (length,) and bool((batch.waveforms.rows == batch.position).all())


def test_what_somebody_has_is_not_written_over():
    random_state = random.Random(0)
    lengths = [random_state.randint(1, 3000) for _ in range(120)]
    coming, received, _ = _coming(lengths, workers=2)
    had = []
    for read in coming:
        batch = received.batch(read) if isinstance(read, Sent) else read
        had.append((batch, batch.waveforms.rows[-1:]))
        if random_state.random() < 0.7:  # more are kept by and by than there are arrays
            had.pop(random_state.randrange(len(had)))
        assert all(_is_whole(one, lengths[one.position]) for one, _ in had)
        assert all(last.item() == one.position for one, last in had)
    assert len(had) > 2 * KEPT_ARRAYS


def test_an_array_is_free_when_no_view_of_it_is_left():
    marks = marks_of_lent(2)
    marks[1, 2] = marks[0, 2] = 1
    draw = _plans([1])[0].draws[0]
    empty = Batch(crossing.NO_SOUND, ("x", "y"), (draw, draw), 2)
    sent = Sent(empty, (10, 20), worker=1, number=2, array=torch.arange(100.0).share_memory_())
    batch = Received(marks).batch(sent)
    clip = batch.waveforms.split()[1][3:5]
    del batch
    gc.collect()
    assert marks[1, 2] == 1 and clip.tolist() == [13, 14]
    del clip
    gc.collect()
    assert marks[1, 2] == 0 and marks.sum() == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_that_lets_go_of_its_copy_of_a_batch_frees_nothing():
    coming, received, marks = _coming([1000] * 30)
    sent = next(coming)
    batch = received.batch(sent)
    child = os.fork()
    if child == 0:
        del batch
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0 and marks[sent.worker, sent.number] == 1
    for other in coming:
        received.batch(other)
        assert _is_whole(batch, 1000)


def test_an_array_crosses_once():
    coming, received, _ = _coming([1000] * 30)
    read = [(sent, received.batch(sent).position)[0] for sent in coming]
    arrays = [sent.array for sent in read if sent.array is not None]
    assert len(read) == 30 and len(arrays) == len({sent.number for sent in read}) < 6


def test_where_all_are_lent_a_batch_crosses_as_a_tensor():
    coming, received, _ = _coming([10] * (KEPT_ARRAYS + 3))
    read = list(coming)
    assert [isinstance(one, Sent) for one in read] == [True] * KEPT_ARRAYS + [False] * 3
    assert [one.waveforms.rows[0].item() for one in read[KEPT_ARRAYS:]] == [8, 9, 10]
    assert [received.batch(one).waveforms.rows[0].item() for one in read[:KEPT_ARRAYS]] == list(range(KEPT_ARRAYS))


def test_a_longer_batch_gets_a_longer_array_in_the_place_of_a_short_one():
    coming, received, _ = _coming([10, 10, 10, 5000, 20_000, 10, 20_000, 300])
    numbers, news = [], 0
    for read in coming:
        batch = received.batch(read)
        assert _is_whole(batch, [10, 10, 10, 5000, 20_000, 10, 20_000, 300][batch.position])
        numbers.append(read.number)
        news += read.array is not None
        del batch
    assert max(numbers) < KEPT_ARRAYS and news < 8


def test_a_promise_that_was_too_short_costs_a_copy_only():
    coming, _, marks = _coming([500] * 3, promised=10)
    read = list(coming)
    assert not any(isinstance(one, Sent) for one in read) and all(_is_whole(one, 500) for one in read)
    assert not marks.any()


def test_processes_that_are_no_copies_of_this_one_do_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    write_tar(tmp_path / "a.tar", tones(7))
    mixture = Mixture.Config((Part(Tars("a.tar")),)).build(seed=3)
    monkeypatch.setattr(Mixture, "may_fork", False)
    crossed = []
    original = Received.batch
    monkeypatch.setattr(Received, "batch", lambda self, sent: crossed.append(sent.number) or original(self, sent))

    def rows(workers):
        reading = Reading(workers=workers)
        loader = Loader(mixture, budget=Budget(clips=3, clip_seconds=5.0), sample_rate=16_000, reading=reading)
        return [batch.waveforms.rows.clone() for batch, _ in zip(loader.batches(0), range(10))]

    assert all(map(torch.equal, rows(0), rows(1))) and len(crossed) >= 10


def test_arrays_are_of_workers():
    with pytest.raises(AssertionError, match="by the workers of a DataLoader"):
        SharedArrays(marks_of_lent(1)).take(10)
    assert Ragged(crossing.NO_SOUND.rows, ()) == crossing.NO_SOUND
