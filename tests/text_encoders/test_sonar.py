"""SONAR's tower with a SentencePiece model trained on the spot: token ids, packing, what is refused."""

import pytest
import torch

from lapis.ragged import Ragged
from lapis.text_encoders.sonar import LANGUAGES, Sonar

sentencepiece = pytest.importorskip("sentencepiece")
TEXTS = ["rain on a tin roof", "a dog", "ein Hund bellt im Regen", "雨", "a dog a dog a dog a dog a dog a dog a dog"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "corpus.txt").write_text("\n".join(TEXTS * 20), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "pieces"),
        vocab_size=48,
        model_type="bpe",
        minloglevel=2,
    )
    return str(folder / "pieces.model")


def _small(tokenizer, **changes) -> Sonar.Config:
    sizes = {"vocabulary": 48 + 1 + 202 + 3, "width": 32, "depth": 2, "heads": 2, "hidden": 48}
    return Sonar.Config(**(sizes | {"tokenizer": tokenizer} | changes))


@pytest.fixture(scope="module")
def encoder(tokenizer):
    torch.manual_seed(0)
    return _small(tokenizer).build().eval()


def test_the_languages_stand_where_sonar_has_them():
    published = {
        "cat_Latn": 256_034,
        "deu_Latn": 256_042,
        "eng_Latn": 256_047,
        "fra_Latn": 256_057,
        "jpn_Jpan": 256_079,
    }
    published |= {"nld_Latn": 256_127, "rus_Cyrl": 256_147, "spa_Latn": 256_161, "zho_Hans": 256_200}
    assert len(LANGUAGES) == len(set(LANGUAGES)) == 202
    assert {code: 256_001 + LANGUAGES.index(code) for code in published} == published


def test_token_ids_are_shifted_pieces_between_language_and_end(encoder, tokenizer):
    pieces = sentencepiece.SentencePieceProcessor(model_file=tokenizer)
    tokens = encoder.tokenize(TEXTS).split()
    english = 48 + 1 + LANGUAGES.index("eng_Latn")
    for text, ids in zip(TEXTS, tokens, strict=True):
        assert ids.tolist() == [english, *(piece + 1 for piece in pieces.encode(text)), 3]
    german = _small(tokenizer, language="deu_Latn").build().tokenize(["a dog"]).rows
    assert german[0] == 48 + 1 + LANGUAGES.index("deu_Latn")
    assert (encoder.tokenize(["☃"]).rows == 1).any()


def test_a_long_text_is_cut_its_end_too(tokenizer):
    cut = _small(tokenizer, max_tokens=6).build()
    assert cut.tokenize([TEXTS[4]]).lengths == (6,)
    assert cut.tokenize([TEXTS[4]]).rows[-1] != 3
    with pytest.raises(ValueError, match="7 tokens is longer than 6"):
        cut.encode(Ragged(torch.ones(7, dtype=torch.long), (7,)))


def test_a_text_gets_in_a_batch_what_it_gets_alone(encoder):
    with torch.no_grad():
        together = encoder(TEXTS)
        assert together.shape == (5, 32)
        for text, vector in zip(TEXTS, together, strict=True):
            assert (encoder([text])[0] - vector).abs().max() <= 1e-5


def test_positions_count_from_two_with_exponents_that_end_at_one():
    """The official table's first row at columns 0, 1, 511, 512, 513 and 1023."""
    with torch.device("meta"):
        encoder = Sonar.Config().build()
    row = encoder.positions(torch.tensor([[2]]))[0]
    expected = torch.tensor([0.909297, 0.923581, 0.000200, -0.416147, -0.383403, 1.0])
    torch.testing.assert_close(row[[0, 1, 511, 512, 513, 1023]], expected, atol=1e-5, rtol=0.0)


def test_gradients_reach_every_parameter_unless_frozen(tokenizer, encoder):
    encoder.zero_grad()
    (encoder(TEXTS) * torch.linspace(-1, 1, 32)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and (parameter.grad.abs().max() > 0 or name.endswith("key.bias")), name
    assert not _small(tokenizer, trainable=False).build()(TEXTS).requires_grad


def test_its_tokenizer_goes_with_a_saved_model(encoder, tmp_path):
    config = encoder.save_assets(tmp_path)
    assert not config.tokenizer.startswith("/")
    again = config.located_in(tmp_path).build()
    assert torch.equal(again.tokenize(TEXTS).rows, encoder.tokenize(TEXTS).rows)


def test_what_does_not_belong_is_refused(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="belongs to an embedding of 254 tokens, this one has 300"):
        _small(tokenizer, vocabulary=300).build().tokenize(["rain"])
    with pytest.raises(ValueError, match="there is no such file"):
        _small(str(tmp_path / "none.model")).build().tokenize(["rain"])
    (tmp_path / "bad.model").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="is not a SentencePiece model"):
        _small(str(tmp_path / "bad.model")).build().tokenize(["rain"])
    with pytest.raises(ValueError, match="no language 'en'"):
        _small(tokenizer, language="en").build()
