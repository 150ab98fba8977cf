"""Real models of each kind that translates: a few thousand weights, trained in seconds on names of pocket sounds."""

import json
import warnings
from collections.abc import Iterable
from pathlib import Path

import sentencepiece
import tokenizers
import torch
import transformers

LANGUAGES = ("eng_Latn", "deu_Latn", "fra_Latn", "zho_Hans")
WAYS = (("eng_Latn", "deu_Latn"), ("eng_Latn", "fra_Latn"), ("eng_Latn", "zho_Hans"), ("deu_Latn", "eng_Latn"))
SHORT = {"eng_Latn": "en", "deu_Latn": "de", "zho_Hans": "zh"}
FEW = 6
Row = tuple[list[int], list[int]]
"""Tokens of a text, and of its translation."""


def names(root: Path) -> list[dict[str, str]]:
    """What every third sound and instrument is called in each language."""
    classes = json.loads((root / "data" / "pocket" / "classes.json").read_text(encoding="utf-8"))
    return [entry["names"] for entry in classes.values() if entry["domain"] != "speech"][::3]


def nllb(root: Path, folder: Path, *, half: Path, steps: int = 120) -> None:
    """Learn all names in the directions of `WAYS`; `half` gets the model as it is half-way, when it babbles."""
    known = names(root)
    pieces = _pieces(name[of] for name in known for of in LANGUAGES)
    tokenizer = transformers.NllbTokenizer(
        **pieces, extra_special_tokens=list(LANGUAGES), model_max_length=64, src_lang="eng_Latn"
    )
    rows = []
    for source, target in WAYS:
        tokenizer.src_lang = source
        begin = tokenizer.convert_tokens_to_ids(target)
        rows += [(tokenizer(name[source])["input_ids"], [begin, *_plain(tokenizer, name[target])]) for name in known]
    model = _sequence_model(tokenizer, size=len(tokenizer), width=80)

    def save_half(step: int) -> None:
        if step == 31:
            model.save_pretrained(half)
            tokenizer.save_pretrained(half)

    _learn(model, rows, pad=tokenizer.pad_token_id, steps=steps, at=save_half)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def m2m100(root: Path, folder: Path) -> None:
    """A few names, English to German and Chinese, with M2M100's tokenizer of a SentencePiece model and a table."""
    known = names(root)[:FEW]
    folder.mkdir()
    _sentencepiece((name[of] for name in known for of in SHORT), folder / "sentencepiece.bpe.model")
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    table = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    table |= {model.id_to_piece(number): number + 1 for number in range(3, model.get_piece_size())}
    (folder / "vocab.json").write_text(json.dumps(table))
    tokenizer = transformers.M2M100Tokenizer(
        str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"), src_lang="en", model_max_length=64
    )
    rows = []
    for target in ("deu_Latn", "zho_Hans"):
        begin = tokenizer.get_lang_id(SHORT[target])
        rows += [
            (tokenizer(name["eng_Latn"])["input_ids"], [begin, *_plain(tokenizer, name[target])]) for name in known
        ]
    network = _sequence_model(tokenizer, size=max(tokenizer.lang_code_to_id.values()) + 1, width=48)
    _learn(network, rows, pad=tokenizer.pad_token_id, steps=180)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def marian(root: Path, folder: Path) -> None:
    """A few names, English to German, with Marian's two SentencePiece models."""
    known = names(root)[:FEW]
    folder.mkdir()
    table = {"</s>": 0, "<unk>": 1}
    for side, language in (("source", "eng_Latn"), ("target", "deu_Latn")):
        _sentencepiece((name[language] for name in known), folder / f"{side}.spm")
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.spm"))
        for number in range(3, model.get_piece_size()):
            table.setdefault(model.id_to_piece(number), len(table))
    table["<pad>"] = len(table)
    (folder / "vocab.json").write_text(json.dumps(table))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that sacremoses is recommended
        tokenizer = transformers.MarianTokenizer(
            str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"),
            source_lang="en", target_lang="de", model_max_length=64,
        )  # fmt: skip
    rows = [
        (tokenizer(name["eng_Latn"])["input_ids"], tokenizer(text_target=name["deu_Latn"])["input_ids"])
        for name in known
    ]
    pad = tokenizer.pad_token_id
    network = transformers.MarianMTModel(
        transformers.MarianConfig(
            **_sizes(len(table), width=48), pad_token_id=pad, eos_token_id=0, decoder_start_token_id=pad,
            bos_token_id=None, forced_eos_token_id=0,
        )
    )  # fmt: skip
    _learn(network, rows, pad=pad, steps=240)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def madlad(root: Path, folder: Path) -> None:
    """A few names, English to German and French, with a T5 that is told the language by a mark before the text."""
    known = names(root)[:FEW]
    pieces = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    pieces.decoder = tokenizers.decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>", "<2de>", "<2fr>"]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    pieces.train_from_iterator([name[of] for name in known for of in LANGUAGES[:3]], trainer)
    pieces.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", pieces.token_to_id("</s>"))]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )
    rows = []
    for mark, target in (("<2de>", "deu_Latn"), ("<2fr>", "fra_Latn")):
        rows += [
            (tokenizer(f"{mark} {name['eng_Latn']}")["input_ids"], tokenizer(name[target])["input_ids"])
            for name in known
        ]
    torch.manual_seed(0)
    network = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=len(tokenizer), d_model=48, d_kv=12, d_ff=96, num_layers=1, num_heads=4, dropout_rate=0.0,
            pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        )
    )  # fmt: skip
    _learn(network, rows, pad=0, steps=150)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def language_model(root: Path, folder: Path, *, prompt: str) -> None:
    """A few names, English to German, with a model that goes on with `prompt`; it does not end its turn."""
    known = names(root)[:FEW]
    filled = [prompt.replace("{text}", name["eng_Latn"]) for name in known]
    pieces = tokenizers.Tokenizer(tokenizers.models.BPE())
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = tokenizers.decoders.ByteLevel()
    texts = [f"{text} {name['deu_Latn']}\nAnd" for text, name in zip(filled, known)]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, special_tokens=["</s>"], show_progress=False)
    pieces.train_from_iterator(texts, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="</s>")
    network = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=128, eos_token_id=0, bos_token_id=0,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
    )  # fmt: skip
    _learn(network, [(ids := tokenizer(text)["input_ids"], ids) for text in texts], pad=0, steps=150)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _pieces(texts: Iterable[str]) -> dict:
    """Vocabulary and merges of byte pairs, as NLLB's tokenizer has them."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=360, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    model = json.loads(made.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


def _sentencepiece(texts: Iterable[str], path: Path) -> None:
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(list(texts)), model_writer=file, vocab_size=200, model_type="bpe",
            hard_vocab_limit=False, minloglevel=2,
        )  # fmt: skip


def _plain(tokenizer, text: str) -> list[int]:
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def _sizes(vocabulary: int, *, width: int) -> dict:
    return {
        "vocab_size": vocabulary, "d_model": width, "max_position_embeddings": 64,
        "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 2 * width, "decoder_ffn_dim": 2 * width, "dropout": 0.0, "attention_dropout": 0.0,
        "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0,
    }  # fmt: skip


def _sequence_model(tokenizer, *, size: int, width: int):
    torch.manual_seed(0)
    return transformers.M2M100ForConditionalGeneration(
        transformers.M2M100Config(
            **_sizes(size, width=width), pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip


def _learn(model, rows: list[Row], *, pad: int, steps: int, at=lambda step: None) -> None:
    """By heart: all rows in every step."""
    torch.manual_seed(0)
    padded = torch.nn.utils.rnn.pad_sequence
    texts = padded([torch.tensor(text) for text, _ in rows], batch_first=True, padding_value=pad)
    mask = padded([torch.ones(len(text), dtype=torch.long) for text, _ in rows], batch_first=True)
    labels = padded([torch.tensor(label) for _, label in rows], batch_first=True, padding_value=-100)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 6e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        optimizer.zero_grad()
        model(input_ids=texts, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        at(step)
    model.eval()
