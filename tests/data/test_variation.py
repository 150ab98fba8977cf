"""Clips varied as they are drawn: what is heard and said of two laid over each other, and that it can be repeated."""

import random
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.corpus import tones, write_tar
from lapis.data.ahead import Range
from lapis.data.batching import Batch, Budget, Plan
from lapis.data.captions import Captions
from lapis.data.loader import Loader, Reader, Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.sample import Location, Sample
from lapis.data.sources import Tars
from lapis.data.storage import Patience, StorageError, Thing
from lapis.data.variation import Variation, amplified, overlaid

ALWAYS = Variation(mixed=1.0, gain_decibels=6.0)


def _sample(name, *, domain="sound", **values):
    return Sample(name, Location(Path(name)), {"eng_Latn": (f"A {name}.",)}, domain=domain, **values)


def _joined(one, other, *, captions=None, seed=0):
    return Variation(mixed=1.0).joined(one, other, captions=captions or Captions(), random_state=random.Random(seed))


@pytest.fixture
def corpus(tmp_path):
    write_tar(tmp_path / "a.tar", tones(9))
    write_tar(tmp_path / "b.tar", tones(8, name="b"))
    return Part(Tars(str(tmp_path / "a.tar")), 2.0), Part(Tars(str(tmp_path / "b.tar")))


def _batches(parts, variation, *, position=0, count=8, workers=0):
    mixture = Mixture.Config(parts, variation=variation).build(seed=5)
    budget = Budget(clips=4, seconds=2.0, clip_seconds=0.35)
    loader = Loader(mixture, budget=budget, sample_rate=16_000, reading=Reading(workers=workers))
    return list(islice(loader.batches(position), count))


def _heard(batches):
    return [(batch.waveforms.rows.tolist(), batch.captions, batch.draws) for batch in batches]


class TestWords:
    def test_two_clips_are_told_in_one_sentence(self):
        both = _joined(_sample("dog", label="Bark"), _sample("bell", label="Chime", domain="music"))
        assert both.captions == {"eng_Latn": ("A dog and A bell.",)}
        assert (both.labels, both.domain, both.key) == (("Bark", "Chime"), "sound", "dog + bell")

    @pytest.mark.parametrize(
        "other",
        [
            _sample("voice", domain="speech"),
            _sample("unknown", domain=None),
            Sample("bell", Location(Path("bell")), {"deu_Latn": ("Glocke",)}, domain="sound"),
            _sample("dog"),
        ],
        ids=("speech", "of no domain", "without a common language", "itself"),
    )
    def test_who_stays_alone(self, other):
        assert _joined(_sample("dog"), other) is None

    def test_languages_are_chosen_by_their_weights(self):
        texts = {"eng_Latn": ("a",), "deu_Latn": ("b",)}
        one, other = (Sample(name, Location(Path(name)), texts, domain="music") for name in "xy")
        rule = Captions(languages={"deu_Latn": 0.9, "eng_Latn": 0.1})
        told = [_joined(one, other, captions=rule, seed=seed).captions for seed in range(400)]
        assert all(of in ({"deu_Latn": ("b und b",)}, {"eng_Latn": ("a and a",)}) for of in told)
        assert 0.85 < sum("deu_Latn" in of for of in told) / len(told) < 0.95

    def test_any_of_the_captions_may_be_told(self):
        one, other = (replace(_sample(name), captions={"eng_Latn": (f"{name} 1", f"{name} 2")}) for name in "ab")
        told = {_joined(one, other, seed=seed).captions["eng_Latn"][0] for seed in range(60)}
        assert told == {f"a {first} and b {second}" for first in "12" for second in "12"}

    def test_clips_without_captions_are_told_by_their_classes(self):
        one, other = (replace(_sample(name, label=name), captions={}) for name in ("dog", "bell"))
        both = _joined(one, other)
        assert (both.captions, both.labels) == ({}, ("dog", "bell"))
        assert _joined(one, _sample("bell", label="bell")) is None
        assert _joined(one, replace(other, label=None)) is None

    def test_a_class_that_only_one_has_is_not_the_class_of_both(self):
        assert _joined(_sample("dog", label="Bark"), _sample("bell")).label is None


class TestSound:
    @given(length=st.integers(1, 50), other=st.integers(1, 50), decibels=st.floats(-20, 20), seed=st.integers(0, 99))
    def test_the_other_clip_is_added_at_its_loudness(self, length, other, decibels, seed):
        own, added = np.full(length, 0.5, np.float32), np.full(other, 0.1, np.float32)
        mixed = overlaid(own, added, decibels=decibels, random_state=random.Random(seed))
        assert len(mixed) == length and np.array_equal(own, np.full(length, 0.5, np.float32))
        heard = np.flatnonzero(mixed != own)
        assert len(heard) == min(length, other) and np.all(np.diff(heard) == 1)
        np.testing.assert_allclose(mixed[heard], 0.5 + 0.5 * 10 ** (decibels / 20), rtol=1e-5)

    @pytest.mark.parametrize(("length", "other"), [(10, 40), (40, 10)])
    def test_it_may_stand_anywhere(self, length, other):
        own, added = np.ones(length, np.float32), np.arange(1, other + 1, dtype=np.float32)
        heard = set()
        for seed in range(400):
            mixed = overlaid(own, added, decibels=0.0, random_state=random.Random(seed)) - own
            heard.add((int(np.flatnonzero(mixed)[0]), round(float(mixed[mixed != 0][0] / mixed[mixed != 0][-1]), 4)))
        assert len(heard) == 31  # one for each place

    def test_loudness_is_that_of_the_whole(self):
        own, other = np.full(10, 0.1, np.float32), np.concatenate([np.full(10, 0.001), np.full(10, 0.5)])
        whole = float(np.sqrt(np.mean(other**2)))
        loudest = [
            np.abs(overlaid(own, other.astype(np.float32), decibels=0.0, random_state=random.Random(seed)) - own).max()
            for seed in range(60)
        ]
        np.testing.assert_allclose(max(loudest), 0.5 * 0.1 / whole, rtol=1e-4)

    def test_silence_has_no_loudness(self):
        own, silence = np.full(4, 0.5, np.float32), np.zeros(4, np.float32)
        for one, other in ((own, silence), (silence, own)):
            np.testing.assert_array_equal(overlaid(one, other, decibels=3.0, random_state=random.Random(0)), own)

    def test_twenty_decibels_are_ten_times(self):
        np.testing.assert_allclose(
            amplified(np.array([0.01, -0.02], np.float32), decibels=20.0), [0.1, -0.2], rtol=1e-6
        )


def test_nothing_is_varied_unless_told(corpus):
    assert [len(draw.sample.captions) for batch in _batches(corpus, Variation()) for draw in batch.draws] == [2] * 32


def test_every_draw_is_mixed_and_told_so(corpus):
    plain, varied = _batches(corpus, Variation()), _batches(corpus, ALWAYS)
    assert [batch.waveforms.lengths for batch in plain] == [batch.waveforms.lengths for batch in varied]
    joined = [caption for batch in varied for caption in batch.captions if " and " in caption or " und " in caption]
    # A clip that meets itself stays alone, which is rare: one of about seventeen.
    assert len(joined) >= 26
    assert all(caption.count("one ") + caption.count("on ") >= 2 for caption in joined)


def test_a_share_is_mixed(corpus):
    batches = _batches(corpus, Variation(mixed=0.25), count=100)
    mixed = [" + " in draw.sample.key for batch in batches for draw in batch.draws]
    assert 0.15 < sum(mixed) / len(mixed) < 0.33


def test_varied_alike_by_any_number_of_workers_and_from_any_position(corpus):
    whole = _batches(corpus, ALWAYS)
    assert _heard(_batches(corpus, ALWAYS, workers=2)) == _heard(whole)
    assert _heard(_batches(corpus, ALWAYS, position=whole[2].position, count=5)) == _heard(whole[3:])


def test_a_companion_that_cannot_be_read_is_named(tmp_path):
    broken = {"captions": {"eng_Latn": ["broken"]}, "seconds": 0.3, "domain": "sound"}
    write_tar(tmp_path / "a.tar", tones(3) | {"broken": (b"no sound", broken)})
    batches = _batches((Part(Tars(str(tmp_path / "a.tar"))),), ALWAYS)
    reasons = {drop.reason for batch in batches for drop in batch.dropped if "broken" not in drop.name}
    assert reasons and all("to be mixed with" in reason and "broken.flac" in reason for reason in reasons)


class Away(Location):
    """A sound in a store that does not answer."""

    def open(self):
        raise StorageError(f"{self}: the store answers 503")


@dataclass(frozen=True)
class HalfAway:
    """Every second clip is in a store that does not answer."""

    def build(self):
        content = next(iter(tones(1).values()))[0]
        return [
            Sample(
                f"clip {number}",
                Away(Path(f"{number}")) if number % 2 else Kept(content, number),
                {"eng_Latn": ("tone",)},
                seconds=0.3,
                domain="sound",
            )
            for number in range(10)
        ]


@dataclass(frozen=True)
class Kept:
    content: bytes
    number: int

    def open(self):
        return self.content


def test_a_store_that_does_not_answer_with_a_companion_ends_the_run():
    """Not the clip: otherwise the batch would depend on the weather."""
    mixture = Mixture.Config((Part(HalfAway()),), variation=ALWAYS).build(seed=0)
    reader = Reader(mixture, budget=Budget(), sample_rate=16_000, keep_bytes=0)
    there = [draw for draw in map(mixture.__getitem__, range(60)) if isinstance(draw.sample.audio, Kept)]
    answers = [reader[Plan((draw,), draw.number + 1)] for draw in there]
    assert any(isinstance(answer, StorageError) for answer in answers)
    assert not any(answer.dropped for answer in answers if isinstance(answer, Batch))


class OnDemand(list):
    """Samples that are made when asked for; what reading one asks of a store tells its number."""

    may_fork = True
    total_seconds = 1.0

    def seconds(self, place):
        return 0.1

    def ranges(self, place):
        return (Range(Thing("http://nowhere/a.tar", 10, "1"), place, 1, "clip", Patience()),)


@dataclass(frozen=True)
class Distant:
    def build(self):
        texts = [("",) if number % 2 else ("tone",) for number in range(10)]
        return OnDemand(Sample(f"{n}", Kept(b"", n), {"eng_Latn": of}, domain="sound") for n, of in enumerate(texts))


def test_what_a_companion_needs_of_a_store_is_asked_for_beforehand_and_a_useless_one_is_left_out():
    mixture = Mixture.Config((Part(Distant()),), variation=ALWAYS, scanned=0).build(seed=0)
    apart = 0
    for draw in islice(mixture.draws(0), 100):
        needed = [of.offset for of in mixture.ranges([draw])]
        assert len(needed) == 2
        if needed[0] % 2 == 0:
            full = mixture.complete(draw, reject=print)
            varied, _ = mixture.varied(full, np.ones(9, np.float32), read=lambda other: np.ones(9, np.float32))
            assert (" + " in varied.sample.key) == (needed[1] % 2 == 0 and needed[1] != needed[0])
            apart += needed[1] % 2
    assert apart > 10


@pytest.mark.parametrize("values", [{"mixed": 1.5}, {"gain_decibels": -1.0}, {"mixed_decibels": -1.0}])
def test_impossible_variations(values):
    with pytest.raises(ValueError, match="a variation needs"):
        Variation(**values)
