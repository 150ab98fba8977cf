"""Embeddings that are kept: found again by the bytes of a clip, and by nothing else."""

import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from pitch import PitchEmbedder, pitched

import tiny
from lapis.data.sample import Location, Sample
from lapis.evaluation import cache as cache_module
from lapis.evaluation.cache import EmbeddingCache
from lapis.evaluation.disturbances import Gain
from lapis.evaluation.embeddings import embed_samples
from lapis.evaluation.features import Features
from lapis.evaluation.robustness import Disturbed


@pytest.fixture
def clips(tmp_path):
    return [pitched(tmp_path, str(number), hertz=300 * number) for number in range(1, 8)]


def test_a_clip_is_embedded_once_and_in_the_next_run_not_again(clips, tmp_path):
    first, embedder = EmbeddingCache(tmp_path / "kept"), PitchEmbedder()
    whole = first(embedder, clips)
    np.testing.assert_array_equal(whole.vectors, embed_samples(PitchEmbedder(), samples=clips).vectors)
    some = first(embedder, [clips[4], clips[1], clips[4]])
    np.testing.assert_array_equal(some.vectors, whole.vectors[[4, 1, 4]])
    assert some.samples == (clips[4], clips[1], clips[4]) and first.embedded == 7
    second, idle = EmbeddingCache(tmp_path / "kept"), PitchEmbedder()
    np.testing.assert_array_equal(second(idle, clips).vectors, whole.vectors)
    assert second.embedded == 0 and idle.batches == []


def test_bytes_count_and_not_names(clips, tmp_path):
    cache, embedder = EmbeddingCache(), PitchEmbedder()
    cache(embedder, clips)
    moved = tmp_path / "elsewhere.wav"
    shutil.copy(clips[2].audio.path, moved)
    found = cache(embedder, [Sample("another name", Location(moved), label="another label")])
    assert cache.embedded == 7 and found.samples[0].key == "another name"
    shutil.copy(clips[3].audio.path, tmp_path / "other.wav")
    member = Location(tmp_path / "other.wav", offset=0, size=clips[3].audio.path.stat().st_size)
    cache(embedder, [Sample("member", member)])
    assert cache.embedded == 7


def test_another_model_another_table(clips, tmp_path):
    cache = EmbeddingCache(tmp_path / "kept")
    cache(PitchEmbedder(), clips)
    cache(PitchEmbedder(identity="other"), clips)
    assert cache.embedded == 14 and len(list((tmp_path / "kept").iterdir())) == 2


def test_unreadable_clips_are_told_and_tried_again(clips, tmp_path):
    (tmp_path / "text.wav").write_text("this is not sound")
    bad = [Sample("text", Location(tmp_path / "text.wav")), Sample("gone", Location(tmp_path / "gone.wav"))]
    cache, embedder = EmbeddingCache(tmp_path / "kept"), PitchEmbedder()
    for _ in range(2):
        found = cache(embedder, [bad[0], *clips, bad[1]])
        assert found.samples == tuple(clips)
        assert sorted(failure.sample.key for failure in found.failures) == ["gone", "text"]
    shutil.copy(clips[0].audio.path, tmp_path / "gone.wav")
    assert len(cache(embedder, [*clips, bad[1]]).samples) == 8
    with pytest.raises(ValueError, match="no clip to evaluate: text: "):
        cache(embedder, bad[:1])


def test_a_vector_that_is_not_finite_is_refused_and_not_kept(clips, tmp_path):
    @dataclass
    class Broken(PitchEmbedder):
        def embed_audio(self, waveforms):
            vectors = super().embed_audio(waveforms)
            vectors[0, 1] = np.nan
            return vectors

    with pytest.raises(ValueError, match="pitch gave clip 1 a vector that is not finite"):
        EmbeddingCache(tmp_path / "kept")(Broken(), clips)
    assert not (tmp_path / "kept").exists()


def test_what_an_interrupted_run_has_embedded_is_not_embedded_again(clips, tmp_path):
    long = [pitched(tmp_path, f"long {number}", hertz=100 * number, seconds=40) for number in (2, 3, 5)]

    @dataclass
    class Interrupted(PitchEmbedder):
        def embed_audio(self, waveforms):
            if len(self.batches) == 2:
                raise KeyboardInterrupt
            return super().embed_audio(waveforms)

    first, stopped = EmbeddingCache(tmp_path / "kept"), Interrupted()
    with pytest.raises(KeyboardInterrupt):
        first(stopped, [*clips, *long])
    assert [len(batch) for batch in stopped.batches] == [8, 1] and first.embedded == 9
    second, rest = EmbeddingCache(tmp_path / "kept"), PitchEmbedder()
    whole = second(rest, [*clips, *long])
    assert rest.batches == [[40.0]] and second.embedded == 1
    np.testing.assert_array_equal(whole.vectors, embed_samples(PitchEmbedder(), samples=[*clips, *long]).vectors)


def test_weights_that_change_in_memory_are_another_model(clips):
    """Through what listens by a model too."""
    model, cache = tiny.model(), EmbeddingCache()
    for listener in (model, Features(model, kind="tokens"), Disturbed(model, Gain(-6.0))):
        before = cache(listener, clips[:2]).vectors
        assert cache(listener, clips[:2]).vectors.tolist() == before.tolist()
        asked = cache.embedded
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        after = cache(listener, clips[:2]).vectors
        assert cache.embedded == asked + 2 and not np.allclose(after, before)
        np.testing.assert_allclose(after, EmbeddingCache()(listener, clips[:2]).vectors, atol=1e-6)


def test_the_identity_of_weights_that_stay_is_asked_for_once(clips):
    model, cache = tiny.model(), EmbeddingCache()
    cache(model, clips[:2])
    known = cache._identities[id(model)]
    cache(model, clips[:3])
    assert cache._identities[id(model)] is known and cache.embedded == 3


def test_vectors_of_another_format_are_not_taken(clips, tmp_path, monkeypatch):
    EmbeddingCache(tmp_path / "kept")(PitchEmbedder(), clips)
    monkeypatch.setattr(cache_module, "FORMAT", cache_module.FORMAT + 1)
    again = EmbeddingCache(tmp_path / "kept")
    again(PitchEmbedder(), clips)
    assert again.embedded == 7


def test_a_damaged_file_is_named(clips, tmp_path):
    EmbeddingCache(tmp_path / "kept")(PitchEmbedder(), clips)
    (part,) = (tmp_path / "kept").rglob("*.safetensors")
    content = part.read_bytes()
    part.write_bytes(content[:-5])
    with pytest.raises(ValueError, match=part.name):
        EmbeddingCache(tmp_path / "kept")(PitchEmbedder(), clips)
    part.write_bytes(content)
    wider = replace(PitchEmbedder(), width=2)
    assert EmbeddingCache(tmp_path / "kept")(wider, clips).vectors.shape == (7, 2)
