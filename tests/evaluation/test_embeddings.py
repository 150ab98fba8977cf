"""Samples to vectors: order, batches, tar members, and clips that cannot be read."""

import numpy as np
import pytest
from pitch import PitchEmbedder, pitched

from lapis.data.sample import Location, Sample
from lapis.evaluation.embeddings import embed_samples, embed_texts


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


def test_each_distinct_text_is_embedded_once():
    embedder = PitchEmbedder()
    texts = [f"{number % 300} hertz" for number in range(1000)]
    vectors = embed_texts(embedder, texts=texts)
    assert len(embedder.texts) == 300
    np.testing.assert_array_equal(vectors, PitchEmbedder().embed_text(texts))
