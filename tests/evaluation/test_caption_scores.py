"""All scores of captions together: those that models give, those that are not there, and why."""

import numpy as np
import pytest
import torch

from lapis.evaluation.captions import java, scores
from lapis.evaluation.captions.meaning import DETECTOR_TOKENS, THRESHOLD, Fluency
from lapis.evaluation.captions.meteor_data import MeteorData
from lapis.evaluation.captions.scores import CaptionScoring
from lapis.text_encoders.sentence import Sentence

transformers = pytest.importorskip("transformers")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "barks", "rain", "falls"]
CAPTIONS = ["a dog barks", "Rain falls!", ""]
REFERENCES = [["a dog barks", "dog"], ["rain falls"], ["rain", "a dog", "falls"]]


@pytest.fixture
def embedder(tmp_path, monkeypatch):
    """A sentence-transformers model on disk whose vectors can be reckoned by hand: the mean of its words'."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path / "cache"))
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "rain": 1, "dog": 2}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    vectors = np.array([[0, 0], [1, 0], [0.6, 0.8]], np.float32)
    module = StaticEmbedding(tokenizer, embedding_weights=vectors)
    SentenceTransformer(modules=[module], device="cpu").save(str(tmp_path / "sentences"))
    yield Sentence.Config(str(tmp_path / "sentences"), width=2)
    monkeypatch.undo()


@pytest.fixture
def detector(tmp_path):
    """A file of FENSE's form around a BERT of one layer, and what that model itself says of texts."""
    sizes = {"vocab_size": len(WORDS), "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    bert = transformers.BertModel(transformers.BertConfig(**sizes, intermediate_size=8)).eval()
    bert.save_pretrained(tmp_path / "bert")
    tokenizer = transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(WORDS)})
    tokenizer.save_pretrained(tmp_path / "bert")
    head = torch.nn.Linear(8, 6)
    tensors = {f"encoder.{name}": tensor for name, tensor in bert.state_dict().items()}
    tensors |= {f"clf.{name}": tensor for name, tensor in head.state_dict().items()}
    tensors["encoder.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save({"model_type": "bert", "num_classes": 6, "state_dict": tensors}, tmp_path / "errors.ckpt")

    @torch.inference_mode()
    def expected(texts):
        given = tokenizer(texts, padding="max_length", max_length=DETECTOR_TOKENS, return_tensors="pt")
        return head(bert(**given).last_hidden_state[:, 0]).sigmoid()[:, -1].numpy()

    return Fluency.Config(tmp_path / "errors.ckpt", base=str(tmp_path / "bert")), expected


def test_meaning_is_the_mean_cosine_with_the_references(embedder):
    found = CaptionScoring(language="deu_Latn", meaning=embedder).score(CAPTIONS, references=REFERENCES)
    # Words that the model does not know are zero: "a dog barks" is a dog. Nothing was said of the third clip.
    np.testing.assert_allclose(found.clips["similarity"], [1, 1, 0], atol=1e-6)
    assert found.corpus["similarity"] == pytest.approx(2 / 3, abs=1e-6)
    mixed = CaptionScoring(language="deu_Latn", meaning=embedder).score(
        ["dog"], references=[["rain", "dog", "dog rain"]]
    )
    half = np.array([1.6, 0.8]) / np.hypot(1.6, 0.8)
    assert mixed.corpus["similarity"] == pytest.approx((0.6 + 1 + half @ [0.6, 0.8]) / 3, abs=1e-6)


def test_a_vector_that_is_not_finite_is_named(embedder, tmp_path):
    from safetensors.numpy import load_file, save_file

    (path,) = (tmp_path / "sentences").rglob("*.safetensors")
    ((name, vectors),) = load_file(path).items()
    vectors[2] = np.nan
    save_file({name: vectors}, path)
    with pytest.raises(ValueError, match="gave a vector that is not finite for 'a dog barks'"):
        CaptionScoring(language="deu_Latn", meaning=embedder).score(CAPTIONS, references=REFERENCES)


def test_a_caption_with_an_error_keeps_a_tenth(embedder, detector, monkeypatch):
    config, expected = detector
    texts = ["a dog barks", "rain falls", ""]  # without marks, in small letters
    np.testing.assert_allclose(config.build().probabilities(CAPTIONS), expected(texts), atol=1e-6)
    middle = float(np.sort(expected(texts))[1])
    assert THRESHOLD == 0.9
    monkeypatch.setattr("lapis.evaluation.captions.meaning.THRESHOLD", middle - 1e-6)
    found = CaptionScoring(language="deu_Latn", meaning=embedder, fluency=config).score(CAPTIONS, references=REFERENCES)
    faulty = expected(texts) > middle - 1e-6
    assert faulty.sum() == 2 and found.corpus["fluent"] == pytest.approx(1 / 3)
    np.testing.assert_allclose(found.clips["fense"], found.clips["similarity"] * np.where(faulty, 0.1, 1), atol=1e-9)


def test_a_detector_that_does_not_fit_is_refused(detector, tmp_path):
    config, _ = detector
    content = torch.load(config.checkpoint, weights_only=True)
    del content["state_dict"]["encoder.embeddings.word_embeddings.weight"]
    torch.save(content, tmp_path / "cut.ckpt")
    with pytest.raises(ValueError, match=r"cut\.ckpt"):
        Fluency.Config(tmp_path / "cut.ckpt", base=config.base).build()
    torch.save({"state_dict": {"weight": torch.ones(2)}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"clf\.weight"):
        Fluency.Config(tmp_path / "other.ckpt", base=config.base).build()
    with pytest.raises(ValueError, match="name a sentence embedder"):
        CaptionScoring(fluency=config)


def test_what_is_not_there_says_why(monkeypatch):
    german = CaptionScoring(language="deu_Latn").score(CAPTIONS, references=REFERENCES)
    assert set(german.corpus) == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d"}
    assert german.absent == {
        "meteor": "it is for eng_Latn",
        "spice": "it is for eng_Latn",
        "spider": "it is for eng_Latn",
        "similarity": "no sentence embedder was named",
        "fluent": "no detector of errors was named",
        "fense": "no detector of errors was named",
    }
    monkeypatch.setenv("PATH", "")
    assert java.why_no_spice() == "Java, and there is no java on the path"
    with pytest.raises(ValueError, match="Stanford's tokeniser needs Java"):
        CaptionScoring(words="stanford").score(CAPTIONS, references=REFERENCES)
    with pytest.raises(ValueError, match="SPICE needs Java"):
        java.spice([("a",)], references=[[("a",)]])
    monkeypatch.setattr(scores.MeteorData, "installed", classmethod(lambda cls: None))
    english = CaptionScoring().score(CAPTIONS, references=REFERENCES)
    assert "captions" in english.absent["meteor"] and "Java" in english.absent["spider"]
    assert english.corpus == german.corpus


@pytest.mark.skipif(java.why_no_stanford() is not None, reason=f"needs {java.why_no_stanford()}")
def test_spice_without_its_models_names_the_file():
    lacking = java.why_no_spice()
    if lacking is None:  # it is whole here
        scored = java.spice([("a", "dog", "barks")], references=[[("a", "dog", "barks")]])
        assert scored.corpus == pytest.approx(1)
    else:
        assert lacking.startswith("spice/lib/stanford-corenlp-3.6.0")


def test_spices_answer_is_read_by_clip(tmp_path):
    """In the form that the program documents; a caption in which it finds no object has no figure."""
    answer = tmp_path / "scores.json"
    answer.write_text(
        '[{"image_id": 1, "scores": {"All": {"pr": 0.5, "re": 1.0, "f": 0.5}}}, '
        '{"image_id": 0, "scores": {"All": {"pr": 0.0, "re": 0.0, "f": NaN}}}]'
    )
    found = java.read_spice(answer, num_clips=2)
    assert found.clips.tolist() == [0, 0.5] and found.corpus == 0.25
    with pytest.raises(ValueError, match="expected scores of 3 clips, got 2"):
        java.read_spice(answer, num_clips=3)


def test_both_ways_to_split_give_one_figure():
    if java.why_no_stanford() is not None:
        pytest.skip(f"needs {java.why_no_stanford()}")
    ours = CaptionScoring(language="deu_Latn").score(CAPTIONS, references=REFERENCES)
    theirs = CaptionScoring(language="deu_Latn", words="stanford").score(CAPTIONS, references=REFERENCES)
    assert ours.corpus == theirs.corpus
    assert "Stanford" in CaptionScoring(words="stanford").sentence()


@pytest.mark.parametrize("language", ["zho_Hans", "jpn_Jpan"])
def test_words_need_spaces(language):
    with pytest.raises(ValueError, match=f"{language} puts no spaces"):
        CaptionScoring(language=language)


def test_files_of_meteor_are_found_where_the_kit_is():
    data = MeteorData.installed()
    assert data is not None and "the" in data.function_words
