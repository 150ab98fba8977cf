"""Hugging Face encoders from folders made on the spot: a BERT and a ModernBERT of two layers."""

import pytest
import torch

from lapis.text_encoders.huggingface import HuggingFace

transformers = pytest.importorskip("transformers")
TEXTS = ["rain", "a dog barks in the rain", "wind", "a a a a a a a a a a a a"]


@pytest.fixture(scope="module", params=["bert", "modernbert"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "barks", "in", "the", "rain", "wind"]
    sizes = {
        "vocab_size": len(words),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    if request.param == "bert":
        model = transformers.BertModel(transformers.BertConfig(**sizes))
    else:
        tokens = {"cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}
        model = transformers.ModernBertModel(transformers.ModernBertConfig(**sizes, **tokens))
    model.save_pretrained(path)
    # By value: from a vocab.txt, transformers 5.23 makes a tokenizer that knows no word.
    tokenizer = transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.mark.parametrize("pooling", ["mean", "first", "attention"])
def test_a_text_gets_in_a_batch_what_it_gets_alone(folder, pooling):
    encoder = HuggingFace.Config(folder, pooling=pooling).build().eval()
    with torch.no_grad():
        together = encoder(TEXTS)
        assert together.shape == (4, 16) == (4, encoder.width)
        for text, vector in zip(TEXTS, together, strict=True):
            torch.testing.assert_close(encoder([text])[0], vector, atol=1e-5, rtol=1e-5)


def test_words_differ(folder):
    with torch.no_grad():
        rain, wind = HuggingFace.Config(folder).build().eval()(["rain", "wind"])
    assert not torch.allclose(rain, wind, atol=1e-3)


def test_poolings_differ(folder):
    with torch.no_grad():
        first, mean = (HuggingFace.Config(folder, pooling=p).build().eval()(TEXTS) for p in ("first", "mean"))
    assert not torch.allclose(first, mean, atol=1e-3)


@pytest.mark.parametrize("trainable", [True, False])
def test_trainable_or_frozen(folder, trainable):
    encoder = HuggingFace.Config(folder, trainable=trainable).build()
    assert encoder(TEXTS).requires_grad == trainable
    assert {parameter.requires_grad for parameter in encoder.parameters()} == {trainable}


def test_a_frozen_encoder_drops_nothing_out_while_training(folder):
    encoder = HuggingFace.Config(folder, trainable=False, pooling="attention").build().train()
    assert encoder.training and encoder.pooling.training and not encoder.encoder.training
    assert HuggingFace.Config(folder).build().train().encoder.training


def test_fresh_weights_are_others(folder):
    with torch.no_grad():
        trained = HuggingFace.Config(folder).build().eval()(TEXTS)
        fresh = HuggingFace.Config(folder, fresh=True).build().eval()(TEXTS)
    assert not torch.allclose(trained, fresh, atol=1e-3)


def test_long_texts_are_cut(folder):
    encoder = HuggingFace.Config(folder, max_tokens=8).build().eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(["dog " * 50]), encoder(["dog " * 500]))
