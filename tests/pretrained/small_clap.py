"""CLAPs of two layers, made on the spot and saved as transformers saves them."""

import json
from pathlib import Path

import numpy as np
import torch

RATE = 48_000
TEXTS = ["rain", "a dog barks in the rain", "wind", "a bell rings, and a dog barks at the engine of a car", "bell bell"]


def _tokenizer(folder: Path):
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(TEXTS * 3, vocab_size=290, special_tokens=specials, show_progress=False)
    trained.save_model(str(folder))
    return transformers.RobertaTokenizer.from_pretrained(folder, model_max_length=512)


def _model(*, fused: bool, vocab_size: int):
    import transformers

    torch.manual_seed(0)
    audio = {
        "window_size": 4,
        "hidden_size": 32,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "num_hidden_layers": 2,
        "patch_embeds_hidden_size": 16,
        "enable_fusion": fused,
    }
    text = {
        "vocab_size": vocab_size,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 34,
    }
    model = transformers.ClapModel(transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=12))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "norm" not in name:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
        # Of dB values, and not the same in all bands.
        norm = model.audio_model.audio_encoder.batch_norm
        norm.running_mean.uniform_(-60, -20)
        norm.running_var.uniform_(100, 500)
    return model.eval()


def make(folder: Path, *, fused: bool, old_layout: bool = False) -> Path:
    """Save a CLAP; the old layout is that of the official repositories: pickled weights, each side file by itself."""
    import transformers

    folder.mkdir()
    tokenizer = _tokenizer(folder)
    extractor = transformers.ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc")
    model = _model(fused=fused, vocab_size=len(tokenizer))
    model.save_pretrained(folder)
    if old_layout:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        tokenizer.save_pretrained(folder)
        extractor.save_pretrained(folder)
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config["audio_config"] |= {"fusion_num_hidden_layers": 2, "projection_hidden_size": 768}
        config["text_config"] |= {"classifier_dropout": None, "fusion_hidden_size": 768, "initializer_range": 0.02}
        path.write_text(json.dumps(config))
    else:
        transformers.ClapProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder


def sound(seconds: float, seed: int = 0):
    """A tone that rises, with noise: its parts differ."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * (150 * (seed + 1) + 40 * time) * time)
    return (0.3 * tone + 0.05 * random.standard_normal(len(time))).astype(np.float32)
