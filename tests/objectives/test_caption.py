"""Captioning: chunked against plain, the shift and the end of a caption, across processes, and what is generated."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import processes
import tiny
from lapis.objectives.caption import Caption, token_losses, token_losses_plain
from lapis.objectives.decoder import Decoder
from lapis.objectives.generation import beam_search, greedy
from lapis.objectives.learner import Encoded
from lapis.objectives.vocabulary import Bytes, OfTower, vocabulary_of
from lapis.ragged import Ragged
from lapis.text_encoders.huggingface import HuggingFace
from objectives.heard import assert_equal, heard, values_and_gradients

SMALL = Caption.Config(width=16, depth=2, heads=2, hidden=24, max_tokens=20, chunk=7)
MEMORY = (3, 9, 1, 9)


def _decoder(vocabulary=11, seed=0, spread=1.0):
    """A decoder whose choices are far apart, so that captions differ."""
    torch.manual_seed(seed)
    decoder = Decoder(vocabulary, width=16, depth=2, heads=2, hidden=24, memory_width=12)
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn_like(parameter) * spread * 0.25)
    return decoder.eval()


def _memory(seed=0):
    return Ragged(torch.randn(sum(MEMORY), 12, generator=torch.Generator().manual_seed(seed)), MEMORY)


class _Largest(TorchDispatchMode):
    """The most elements any tensor has while it watches."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        answer = function(*args, **(kwargs or {}))
        for tensor in answer if isinstance(answer, tuple | list) else (answer,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return answer


def test_chunked_is_plain_in_values_and_gradients_and_never_makes_all_logits():
    torch.manual_seed(0)
    wanted = torch.randint(300, (50,))
    weights = torch.randn(50)
    found = []
    for chunked in (True, False):
        torch.manual_seed(1)
        rows, table = torch.randn(50, 8, requires_grad=True), torch.randn(300, 8, requires_grad=True)
        with _Largest() as largest:
            losses = token_losses(rows, table, wanted, chunk=6) if chunked else token_losses_plain(rows, table, wanted)
            (losses * weights).sum().backward()
        assert (largest.elements < 50 * 300) == chunked
        found.append((losses, rows.grad, table.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("counts", [(3, 2), (2, 1, 1, 3)])
def test_several_processes_equal_one(counts):
    alone = values_and_gradients(Caption, SMALL, (sum(counts),))
    assert alone.keys() >= {"caption", "objective.decoder.table.weight"}
    assert any(name.startswith("model.audio_encoder") for name in alone)
    for share in processes.run(values_and_gradients, Caption, SMALL, counts, world_size=len(counts)):
        assert_equal(share, alone)


def test_the_loss_is_the_mean_over_the_tokens_of_captions_said_alone():
    model, batch = tiny.model().eval(), heard(range(4))
    objective = SMALL.build(model)
    found = objective(model, batch, Encoded(model, batch))["caption"]
    losses = []
    for clip, caption in zip(batch.waveforms.split(), batch.captions, strict=True):
        text = [256, *caption.encode(), 257]
        memory = model.audio_tokens(Ragged.pack([clip]))
        rows = objective.decoder(Ragged.pack([torch.tensor(text[:-1])]), memory=memory).rows
        logits = rows @ objective.decoder.table.weight.T
        losses += [-logits[place].log_softmax(-1)[token] for place, token in enumerate(text[1:])]
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_a_cut_caption_has_no_end_to_be_learned():
    model = tiny.model()
    given, wanted = replace(SMALL, max_tokens=4).build(model)._shifted(model, ["abc", "abcd", "abcdefg", ""])
    assert [text.tolist() for text in given.split()] == [[256, *b"abc"], [256, *b"abc"], [256, *b"abc"], [256]]
    assert [text.tolist() for text in wanted.split()] == [[*b"abc", 257], [*b"abcd"], [*b"abcd"], [257]]


def test_a_token_sees_those_before_it_alone():
    decoder, memory = _decoder(), _memory()
    first = Ragged.pack([torch.tensor([1, 2, 3]), torch.tensor([4]), torch.tensor([5, 6]), torch.tensor([7])])
    other = first.map(lambda rows: rows.clone())
    other.rows[2] = 9
    one, two = (decoder(tokens, memory=memory).split() for tokens in (first, other))
    torch.testing.assert_close(one[0][:2], two[0][:2])
    assert not torch.allclose(one[0][2], two[0][2])


def test_one_token_at_a_time_is_all_at_once():
    decoder, memory = _decoder(), _memory()
    tokens = torch.randint(11, (len(MEMORY), 6))
    rows = decoder(Ragged.pack(list(tokens)), memory=memory)
    expected = (rows.rows @ decoder.table.weight.T).unflatten(0, (len(MEMORY), 6))
    state = decoder.begin(memory)
    for place in range(6):
        logits, state = decoder.step(tokens[:, place], state)
        torch.testing.assert_close(logits, expected[:, place], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_is_greedy(seed):
    decoder, memory = _decoder(seed=seed), _memory(seed)
    words = {"start": 0, "end": 1, "max_tokens": 9}
    expected = greedy(decoder, memory=memory, **words)
    assert beam_search(decoder, memory=memory, beam=1, **words) == expected
    assert len({tuple(text) for text in expected}) > 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beam", [1, 3])
def test_a_clip_is_described_in_a_batch_as_alone(beam, seed):
    decoder, memory = _decoder(seed=seed), _memory(seed)
    words = {"beam": beam, "start": 0, "end": 1, "max_tokens": 9}
    together = beam_search(decoder, memory=memory, **words)
    assert together == [beam_search(decoder, memory=Ragged.pack([clip]), **words)[0] for clip in memory.split()]


def _mean_log_probability(decoder, clip, text, *, max_tokens):
    said = [*text, 1][:max_tokens]
    rows = decoder(Ragged.pack([torch.tensor([0, *said[:-1]])]), memory=Ragged.pack([clip])).rows
    found = (rows @ decoder.table.weight.T).log_softmax(-1)
    return float(found[torch.arange(len(said)), torch.tensor(said)].mean())


def test_a_beam_that_holds_everything_finds_the_best_caption():
    """Against all captions of at most three tokens, scored one by one."""
    decoder, memory = _decoder(vocabulary=5, spread=0.6), _memory()
    found = beam_search(decoder, memory=memory, beam=200, start=0, end=1, max_tokens=3)
    words = (0, 2, 3, 4)
    every = [[], *([a] for a in words), *([a, b] for a in words for b in words)]
    every += [[a, b, c] for a in words for b in words for c in words]
    with torch.no_grad():
        for clip, text in zip(memory.split(), found, strict=True):
            best = max(every, key=lambda text: _mean_log_probability(decoder, clip, text, max_tokens=3))
            assert text == best


@pytest.mark.parametrize("length", [1, 4])
def test_a_caption_ends_where_it_is_cut(length):
    decoder = _decoder()
    for beam in (1, 3):
        texts = beam_search(decoder, memory=_memory(), beam=beam, start=0, end=10**9, max_tokens=length)
        assert [len(text) for text in texts] == [length] * len(MEMORY)


@pytest.mark.parametrize("captions", [("", ""), ("a", "a"), ("x" * 400, "a")])
def test_finite_at_the_extremes(captions):
    model, batch = tiny.model(), heard(range(2))
    objective = SMALL.build(model)
    batch = replace(batch, captions=captions)
    loss = objective(model, batch, Encoded(model, batch))["caption"]
    loss.backward()
    assert loss.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in objective.parameters())


def test_under_autocast_it_is_near():
    model, batch = tiny.model().eval(), heard(range(4))
    objective = SMALL.build(model)
    exact = objective(model, batch, Encoded(model, batch))["caption"]
    with torch.autocast("cpu", torch.bfloat16):
        found = objective(model, batch, Encoded(model, batch))["caption"]
    found.backward()
    assert abs(found.item() - exact.item()) < 0.02 * exact.item()


def test_bytes_are_any_language():
    texts = ["rain", "Regen auf Blech", "雨", ""]
    rows = Bytes().encode(texts, max_tokens=100)
    assert [Bytes().decode([256, *row, 257]) for row in rows] == texts
    assert Bytes().decode(Bytes().encode(["雨"], max_tokens=2)[0]) == "\ufffd"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "barks", "rain"]
    transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(path)
    sizes = {"vocab_size": 12, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    architecture = {"model_type": "bert", "intermediate_size": 24, **sizes}
    return HuggingFace.Config(str(path), fresh=True, architecture=architecture)


def test_a_hugging_face_tower_lends_its_tokenizer(bert):
    model = tiny.model(text=bert)
    vocabulary = vocabulary_of(model)
    assert isinstance(vocabulary, OfTower) and vocabulary.size == 12
    assert (vocabulary.start, vocabulary.end) == (2, 3)
    rows = vocabulary.encode(["a dog barks", "rain rain rain"], max_tokens=2)
    assert rows == [[5, 6], [8, 8]]
    assert vocabulary.decode([2, *rows[0], 3]) == "a dog"
    objective = SMALL.build(model)
    assert objective.decoder.table.weight.shape == (12, 16)
    batch = replace(heard(range(2)), captions=("a dog barks", "rain"))
    assert objective(model, batch, Encoded(model, batch))["caption"].isfinite()
    small = tiny.model(text=replace(bert, architecture={**bert.architecture, "vocab_size": 7}))
    with pytest.raises(ValueError, match="token 8 is beyond the tower's 7"):
        vocabulary_of(small).encode(["rain"], max_tokens=2)


def test_full_size_on_the_meta_device():
    """35.7 M parameters beside ModernBERT's vocabulary of 50,368."""
    with torch.device("meta"):
        decoder = Decoder(50_368, width=512, depth=8, heads=8, hidden=1368, memory_width=768)
    table = 50_368 * 512
    assert sum(p.numel() for p in decoder.parameters()) == table + 35_697_152
