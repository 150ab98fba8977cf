"""From files as they are published to answers: small GLAP and M2D-CLAP checkpoints on disk, through `lapis.load`."""

import argparse
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from sentencepiece import SentencePieceTrainer
from transformers import BertTokenizerFast

import lapis
from golden import official
from lapis.text_encoders import sonar

TEXTS = ["rain on a roof", "a dog barks", "the wind"]
CLIPS = official.sounds((0.3, 11.0))


def _small(shapes):
    """The shapes of an official file at width 64 and one layer; the front end keeps its own sizes."""
    sizes = {768: 64, 3072: 128, 2304: 192, 1024: 64, 8192: 128, 3840: 320}
    small = {}
    for name, shape in shapes.items():
        parts = name.split(".")
        numbers = [int(part) for before, part in pairwise(parts) if before in ("blocks", "layers", "layer")]
        if any(number > 0 for number in numbers):
            continue
        small[name] = shape if "front_end" in name else tuple(sizes.get(size, size) for size in shape)
    return small


@pytest.fixture(scope="module")
def glap_tensors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "corpus.txt").write_text("\n".join(TEXTS * 20))
    prefix = str(folder / "pieces")
    SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"), model_prefix=prefix, vocab_size=40, model_type="bpe", minloglevel=2
    )
    wanted = _small(official.shapes("glap"))
    wanted["text_encoder.model.encoder_frontend.embed.weight"] = (40 + 206, 64)
    tensors = official.filled(wanted) | {
        "audio_encoder.model.init_bn.1.num_batches_tracked": torch.tensor(7),
        "audio_encoder.model.front_end.0.mel_scale.fb": torch.zeros(257, 64),
    }
    return tensors, Path(f"{prefix}.model")


@pytest.fixture
def glap_file(glap_tensors, tmp_path):
    """As on Zenodo: tensors beside a configuration with paths in it; the tokenizer lies beside the file."""
    tensors, pieces = glap_tensors
    config = {"data": [Path("data/train.tar")], "lr": 1e-4, "resume": None}
    torch.save({"model": tensors, "config": config}, tmp_path / "glap_checkpoint.pt")
    (tmp_path / sonar.TOKENIZER_NAME).write_bytes(pieces.read_bytes())
    return tmp_path / "glap_checkpoint.pt"


@pytest.fixture(scope="module")
def m2d_tensors():
    wanted = _small(official.shapes("m2d_clap_2025"))
    wanted["text_encoder.text_encoder.embeddings.word_embeddings.weight"] = (30, 64)
    stats = {"backbone.norm_stats": torch.tensor(official.NORM_STATS_2025), "logit_scale": torch.tensor(4.6)}
    return official.filled(wanted) | stats


@pytest.fixture
def m2d_zip(m2d_tensors, tmp_path):
    """As on the release page: a zip with a folder in which the checkpoint lies, optimiser and arguments in it."""
    path = tmp_path / "checkpoint-30.pth"
    moments = {"state": {0: {"exp_avg": torch.zeros(1000)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    arguments = argparse.Namespace(epochs=30, model="m2d_clap_vit_base")
    torch.save(
        {"model": m2d_tensors, "optimizer": moments, "epoch": 30, "scaler": {"scale": 1.0}, "args": arguments}, path
    )
    with zipfile.ZipFile(tmp_path / "release.zip", "w") as archive:
        archive.write(path, "m2d_clap_vit_base-any-name-at-all/checkpoint-30.pth")
    path.unlink()
    return tmp_path / "release.zip"


@pytest.fixture
def bert(tmp_path):
    folder = tmp_path / "bert"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *["rain", "on", "a", "roof", "dog", "barks", "the", "wind"]]
    BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    return str(folder)


@pytest.mark.filterwarnings("ignore::lapis.doctor.ModelWarning")
def test_glap_from_its_file(glap_file, tmp_path):
    model = lapis.load(glap_file)
    sounds, texts = model.embed_audio(CLIPS), model.embed_text(TEXTS)
    assert sounds.shape == (2, 64) and texts.shape == (3, 64)
    one_by_one = np.concatenate([model.embed_text([text]) for text in TEXTS])
    assert abs(one_by_one - texts).max() <= 1e-5
    later = lapis.load(glap_file, pooling="release-2026").embed_audio(CLIPS)
    assert abs(later[0] - sounds[0]).max() <= 1e-6 < 1e-3 < abs(later[1] - sounds[1]).max()
    german = lapis.load(glap_file, language="deu_Latn")
    assert german.identity != model.identity and abs(german.embed_text(TEXTS) - texts).max() > 1e-3
    with pytest.raises(ValueError, match="poling"):
        lapis.load(glap_file, poling="published")

    lapis.save_pretrained(model, tmp_path / "saved")
    again = lapis.load(tmp_path / "saved")
    assert again.identity == model.identity
    np.testing.assert_array_equal(again.embed_audio(CLIPS), sounds)
    np.testing.assert_array_equal(again.embed_text(TEXTS), texts)


@pytest.mark.filterwarnings("ignore::lapis.doctor.ModelWarning")
def test_m2d_clap_from_its_zip(m2d_zip, bert, tmp_path):
    model = lapis.load(m2d_zip, text=bert)
    sounds, texts = model.embed_audio(CLIPS), model.embed_text(TEXTS)
    assert sounds.shape == (2, 64) and texts.shape == (3, 64)
    assert not np.allclose(model.embed_text(["rain"]), model.embed_text(["dog"]))
    assert model.config.audio.front_end.mean == pytest.approx(-7.261779308319092)
    general = lapis.load(m2d_zip, features="general")
    assert general.embed_audio(CLIPS).shape == (2, 320)

    lapis.save_pretrained(model, tmp_path / "saved")
    again = lapis.load(tmp_path / "saved")
    assert again.identity == model.identity
    np.testing.assert_array_equal(again.embed_audio(CLIPS), sounds)
    np.testing.assert_array_equal(again.embed_text(TEXTS), texts)


def test_audio_needs_no_tokenizer(m2d_zip):
    """The text side's tokenizer would come from the hub, which cannot be reached here."""
    model = lapis.load(m2d_zip, check=False)
    assert model.embed_audio(CLIPS).shape == (2, 64)
    with pytest.raises(ValueError, match="tokenizer of the text tower, google-bert/bert-base-uncased, cannot be had"):
        model.embed_text(TEXTS)


def test_a_cut_file_is_refused(glap_file):
    whole = glap_file.read_bytes()
    glap_file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"glap_checkpoint\.pt"):
        lapis.load(glap_file)
