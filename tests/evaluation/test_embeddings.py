"""Samples to vectors: order, batches, tar members, and clips that cannot be read."""

import numpy as np
import pytest
from pitch import PitchEmbedder, pitched

from lapis.data.sample import Location, Sample
from lapis.evaluation.disturbances import Gain
from lapis.evaluation.embeddings import as_embeddings, check_unit, embed_samples, embed_texts
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.robustness import Robustness


def test_order_batches_and_progress(tmp_path):
    seconds = [0.5, 2.0, 0.2, 3.0, 0.5, 0.5]
    samples = [
        pitched(tmp_path, str(number), hertz=500 + 100 * number, seconds=each) for number, each in enumerate(seconds)
    ]
    embedder, steps = PitchEmbedder(), []
    result = embed_samples(
        embedder, samples=samples, batch_seconds=2.5, progress=lambda done, total: steps.append((done, total))
    )
    assert embedder.batches == [[0.5, 2.0], [0.2], [3.0], [0.5, 0.5]]
    assert steps == [(number, 6) for number in range(1, 7)]
    assert result.samples == tuple(samples)
    alone = np.concatenate([embed_samples(embedder, samples=[sample]).vectors for sample in samples])
    np.testing.assert_array_equal(result.vectors, alone)
    assert result.failures == ()


def test_unreadable_clips_are_collected_or_raised(tmp_path):
    good = [pitched(tmp_path, key, hertz=500) for key in ("first", "second")]
    (tmp_path / "text.wav").write_text("this is not sound")
    content = good[0].audio.path.read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[:100])
    bad = [
        Sample("text", Location(tmp_path / "text.wav")),
        Sample("missing", Location(tmp_path / "missing.wav")),
        Sample("cut", Location(tmp_path / "cut.tar", offset=0, size=len(content), name="first.wav")),
    ]
    result = embed_samples(PitchEmbedder(), samples=[good[0], *bad, good[1]])
    assert result.samples == tuple(good)
    assert len(result.vectors) == 2
    assert [failure.sample for failure in result.failures] == bad
    assert [str(failure).partition(":")[0] for failure in result.failures] == ["text", "missing", "cut"]


def test_members_of_an_archive(tmp_path):
    alone = pitched(tmp_path, "alone", hertz=700)
    content = alone.audio.path.read_bytes()
    (tmp_path / "shard.tar").write_bytes(b"x" * 512 + content + b"y" * 512)
    member = Sample("member", Location(tmp_path / "shard.tar", offset=512, size=len(content), name="alone.wav"))
    vectors = embed_samples(PitchEmbedder(), samples=[alone, member]).vectors
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_an_error_of_the_model_is_not_taken_for_an_unreadable_clip(tmp_path):
    class Broken(PitchEmbedder):
        def embed_audio(self, waveforms):
            raise ValueError("the model is at fault")

    with pytest.raises(ValueError, match="the model is at fault"):
        embed_samples(Broken(), samples=[pitched(tmp_path, "good", hertz=500)])


def test_vectors_of_a_wrong_shape_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"pitch gave vectors \(1, 2\) for 1 clips"):
        embed_samples(PitchEmbedder(width=3), samples=[pitched(tmp_path, "good", hertz=500)])


def test_no_samples():
    result = embed_samples(PitchEmbedder(), samples=[])
    assert result.vectors.shape == (0, 2)


class Stretched(PitchEmbedder):
    """Forgets to bring what it gives to unit length."""

    def embed_audio(self, waveforms):
        return super().embed_audio(waveforms) * np.arange(1, len(waveforms) + 1, dtype=np.float32)[:, None]

    def embed_text(self, texts):
        return super().embed_text(texts) * np.float32(1.01)


def test_vectors_that_are_not_of_unit_length_are_not_called_cosines(tmp_path):
    clips = [
        pitched(tmp_path, f"{hertz}", hertz=hertz, captions={"eng_Latn": (f"{hertz} Hz",)}) for hertz in (500, 900)
    ]
    with pytest.raises(ValueError, match=r"'500 Hz' a vector of length 1\.01, and 1 of 1 are not"):
        embed_texts(Stretched(), texts=["500 Hz"])
    told = "pitch gave '900' a vector of length 2, and 1 of 2 are not of length 1: cosines are compared"
    for clips_or_embeddings in (clips, embed_samples(Stretched(), samples=clips)):
        with pytest.raises(ValueError, match=told):
            as_embeddings(Stretched(), clips=clips_or_embeddings)
    with pytest.raises(ValueError, match=told):
        Retrieval().run(Stretched(), clips=clips)
    with pytest.raises(ValueError, match=r"pitch gave '900 \(as they are\)' a vector of length 2"):
        Robustness((Gain(-6.0),)).run(Stretched(), clips=clips)
    assert len(as_embeddings(Stretched(), clips=clips, unit=False).samples) == 2  # features of probes may be so
    rounded = embed_texts(PitchEmbedder(), texts=["500 Hz"]) * np.float32(1.0005)
    check_unit(rounded, model=PitchEmbedder(), of=["500 Hz"])


def test_each_distinct_text_is_embedded_once():
    embedder = PitchEmbedder()
    texts = [f"{number % 300} hertz" for number in range(1000)]
    vectors = embed_texts(embedder, texts=texts)
    assert len(embedder.texts) == 300
    np.testing.assert_array_equal(vectors, PitchEmbedder().embed_text(texts))
