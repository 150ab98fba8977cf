import sqlite3

import numpy as np
import pytest
import torch

from lapis.files import cache_folder
from lapis.text_encoders import sentence
from lapis.text_encoders.sentence import MULTILINGUAL_USE, Sentence

TEXTS = [
    "a dog barks",
    "ein Hund bellt",
    "一只狗在叫",
    "犬が吠えている",
    "the rain falls on a roof",
    "Regen fällt auf ein Dach",
]


def _build():
    return Sentence.Config(MULTILINGUAL_USE, width=512).build()


def test_translations_are_near_and_vectors_have_unit_length():
    vectors = _build()(TEXTS)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(6))
    similarity = vectors @ vectors.T
    assert similarity[0, 1:4].min() > 0.5 > similarity[0, 4:].max()
    assert similarity[4, 5] > similarity[4, :4].max()


def test_the_cache_answers_without_the_model(monkeypatch, tmp_path):
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path))
    first = _build()(TEXTS)
    monkeypatch.setattr(sentence, "_load", lambda name: pytest.fail("the encoder was loaded again"))
    assert torch.equal(_build()(TEXTS[::-1]), first.flip(0))
    with sqlite3.connect(cache_folder("sentences") / "vectors.sqlite") as database:
        assert database.execute("SELECT count(*) FROM vectors").fetchone() == (6,)


def test_another_model_does_not_get_the_first_ones_vectors(monkeypatch, tmp_path):
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path))
    first = _build()(["rain"])
    monkeypatch.setattr(sentence, "_load", lambda name: lambda texts: np.ones((len(texts), 512), np.float32))
    other = Sentence.Config("another", width=512).build()(["rain"])
    assert not torch.allclose(first, other)


def test_a_width_that_is_not_the_models_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="gives vectors of width 512, the recipe says 256"):
        Sentence.Config(MULTILINGUAL_USE, width=256).build()(["rain"])
    _build()(["rain"])  # now it is in the cache
    with pytest.raises(ValueError, match="gives vectors of width 512, the recipe says 256"):
        Sentence.Config(MULTILINGUAL_USE, width=256).build()(["rain"])


def test_a_damaged_cache_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path))
    (cache_folder("sentences") / "vectors.sqlite").write_bytes(b"not a data base" * 100)
    with pytest.raises(ValueError, match=r"vectors\.sqlite is damaged .*: remove it"):
        _build()(["rain"])


def test_loading_draws_no_random_numbers_of_the_run(monkeypatch, tmp_path):
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path))

    def load(name):
        torch.rand(3)
        return lambda texts: np.ones((len(texts), 4), np.float32)

    monkeypatch.setattr(sentence, "_load", load)
    before = torch.get_rng_state()
    Sentence.Config("another", width=4).build()(["rain"])
    assert torch.equal(before, torch.get_rng_state())


def test_no_texts():
    assert _build()([]).shape == (0, 512)


def test_sentence_transformers_by_path(tmp_path, monkeypatch):
    """Any sentence-transformers folder: here a small one made on the spot."""
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path / "cache"))
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "rain": 1, "dog": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.RandomState(0).random_sample((3, 4)).astype(np.float32)
    module = StaticEmbedding(tokenizer, embedding_weights=weights)
    library.SentenceTransformer(modules=[module], device="cpu").save(str(tmp_path / "model"))
    vectors = Sentence.Config(str(tmp_path / "model"), width=4).build()(["rain", "dog dog"])
    expected = weights[1:] / np.linalg.norm(weights[1:], axis=1, keepdims=True)
    np.testing.assert_allclose(vectors.numpy(), expected, atol=1e-6)
