"""A captioner: it says what it has learned, comes back from a folder as it was, and describes files."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

import lapis
import tiny
from data.corpus import SAMPLE_RATE, sound_bytes, tones, write_tar
from lapis import hub, saved, weights
from lapis import recipe as recipes
from lapis.captioner import CLIPS_AT_ONCE, Captioner, caption_files
from lapis.cli import app
from lapis.objectives.caption import Caption
from lapis.objectives.contrast import Softmax
from lapis.objectives.learner import Encoded, Learner
from lapis.recipes.slap import slap
from lapis.text_encoders.huggingface import HuggingFace
from objectives.heard import CAPTIONS, heard, tone

CONFIG = Caption.Config(width=32, depth=2, heads=2, hidden=64, max_tokens=40)


@pytest.fixture(scope="module")
def learned():
    """A captioner that knows four tones; its parts are left in training mode."""
    model, batch = tiny.model(audio=replace(tiny.CONFIG.audio, width=32, augment=None)), heard(range(4, 8))
    torch.manual_seed(1)
    objective = CONFIG.build(model)
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=4e-3)
    model.train(), objective.train()
    for _ in range(120):
        loss = objective(model, batch, Encoded(model, batch))["caption"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.2
    return Captioner(model, config=CONFIG, decoder=objective.decoder)


@pytest.fixture(scope="module")
def clips():
    return [clip.numpy() for clip in heard(range(4, 8)).waveforms.split()]


@pytest.fixture
def folder(learned, tmp_path):
    saved.save(learned.model, tmp_path / "model", captioner=learned)
    return tmp_path / "model"


@pytest.mark.parametrize("beam", [1, 3])
def test_it_says_what_it_has_learned_whatever_stands_beside_a_clip(learned, clips, beam):
    said = learned.caption(clips, beam=beam, at_once=3)
    assert said == list(CAPTIONS[4:8])
    assert learned.caption(clips[2:3], beam=beam) == said[2:3]
    assert learned.caption([], beam=beam) == []
    assert learned.caption(clips[:1], beam=beam, max_tokens=4) == [said[0][:4]]
    assert learned.model.training and learned.decoder.training


def test_what_cannot_be_described_is_refused(learned):
    with pytest.raises(ValueError, match="clip 1 must have samples"):
        learned.caption([tone(0).numpy(), np.zeros(0, np.float32)])
    with pytest.raises(ValueError, match="numbers of at least 1, got beam 0"):
        learned.caption([tone(0).numpy()], beam=0)
    with pytest.raises(ValueError, match=r"clip 1 lasts 120\.01 s, and this model describes at most 120 s at once"):
        learned.caption([tone(0).numpy(), np.zeros(SAMPLE_RATE * 120 + 160, np.float32)])


def test_it_comes_back_as_it_was(learned, folder, clips):
    again = lapis.load_captioner(folder)
    assert again.config == learned.config
    for name, tensor in learned.decoder.state_dict().items():
        assert torch.equal(again.decoder.state_dict()[name], tensor), name
    assert again.caption(clips) == list(CAPTIONS[4:8])
    assert not again.decoder.training and not any(p.requires_grad for p in again.decoder.parameters())
    assert lapis.load(folder).identity == learned.model.identity


def test_precision_is_as_asked(folder, clips):
    half = lapis.load_captioner(folder, dtype="bfloat16")
    assert {p.dtype for p in (*half.decoder.parameters(), *half.model.parameters())} == {torch.bfloat16}
    assert half.caption(clips[:2]) == list(CAPTIONS[4:6])


def test_it_travels_with_its_model(folder, clips, tmp_path):
    hub.convert(folder, tmp_path / "converted")
    lapis.save_pretrained(lapis.load_captioner(folder), tmp_path / "again", licence="CC0-1.0")
    for place in ("converted", "again"):
        assert lapis.load_captioner(tmp_path / place).caption(clips) == list(CAPTIONS[4:8])
    assert saved.describe(tmp_path / "again").licence == "CC0-1.0"


def test_a_folder_without_a_decoder_says_so(folder, learned, tmp_path):
    saved.save(learned.model, tmp_path / "without")
    content = json.loads((tmp_path / "without" / "config.json").read_text())
    del content["captioner"]  # as before decoders were kept
    (tmp_path / "without" / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has no decoder of captions: train a recipe with the objective Caption"):
        lapis.load_captioner(tmp_path / "without")
    for other in (folder / "model.safetensors", "mispeech/GLAP"):  # published, and not fetched to find that out
        with pytest.raises(ValueError, match="expected the folder of a run or of a saved model"):
            lapis.load_captioner(other)
    # Saved again without it, what lies there from before does not count.
    saved.save(learned.model, folder)
    with pytest.raises(ValueError, match="has no decoder of captions"):
        lapis.load_captioner(folder)


def test_a_decoder_that_is_not_whole_is_refused(folder):
    path = folder / "captioner.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"captioner\.safetensors does not hold what config\.json says"):
        lapis.load_captioner(folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"captioner\.safetensors is missing"):
        lapis.load_captioner(folder)


def test_a_decoder_of_another_model_is_refused(learned, folder):
    with pytest.raises(ValueError, match=r"captioner\.safetensors does not fit the model: .*cross\.key"):
        saved.captioner(folder, model=tiny.model())
    config = json.loads((folder / "config.json").read_text())
    config["captioner"] = {"class": "lapis.objectives.contrast:Softmax.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"expected a captioner and the checksum of captioner\.safetensors"):
        lapis.load_captioner(folder)


def test_the_words_of_a_tokenizer_come_along(tmp_path):
    """Nothing outside of the folder is needed: what the tower was made from is gone."""
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "barks", "rain"]
    transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(
        tmp_path / "bert"
    )
    sizes = {"vocab_size": 9, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    architecture = {"model_type": "bert", "intermediate_size": 24, **sizes}
    model = tiny.model(text=HuggingFace.Config(str(tmp_path / "bert"), fresh=True, architecture=architecture))
    config = replace(CONFIG, max_tokens=6)
    captioner = Captioner(model, config=config, decoder=config.build(model).decoder)
    with torch.no_grad():
        table = captioner.decoder.table.weight
        table *= 20  # says the token that it was given, and for the first one "dog"
        table[words.index("[CLS]")] = table[words.index("dog")] / 2
    clips = [tone(number).numpy() for number in range(3)]
    said = captioner.caption(clips)
    saved.save(model, tmp_path / "model", captioner=captioner)
    shutil.rmtree(tmp_path / "bert")
    moved = shutil.move(tmp_path / "model", tmp_path / "moved")
    assert lapis.load_captioner(moved, check=False).caption(clips) == said
    assert said == ["dog dog dog dog dog dog"] * 3


@pytest.fixture
def sounds(tmp_path, clips):
    """More files than are described at once, some of them no sound."""
    import soundfile

    place = tmp_path / "My Söunds"
    place.mkdir()
    for number in range(CLIPS_AT_ONCE + 3):
        soundfile.write(place / f"{number:02}.wav", clips[number % 4], SAMPLE_RATE, subtype="FLOAT")
    (place / "03x.wav").write_text("no sound")
    (place / "05x.flac").write_bytes(sound_bytes(2.5))
    return place


def test_files_are_described_in_their_order(learned, sounds, tmp_path):
    write_tar(tmp_path / "a.tar", tones(2))
    found = list(caption_files([sounds, tmp_path / "a.tar"], captioner=learned, max_seconds=2.0, threads=2))
    expected = sorted(path.name for path in sounds.iterdir())
    assert [one.path.rpartition("/")[2] for one in found[:-2]] == expected
    assert [one.path.rpartition(":")[2] for one in found[-2:]] == ["clip000.flac", "clip001.flac"]
    for one in found[:-2]:
        number = one.path.rpartition("/")[2].partition(".")[0]
        if number.isdecimal():
            assert (one.caption, one.error) == (CAPTIONS[4 + int(number) % 4], None)
        else:
            assert one.caption is None and one.error
    (long,) = [one for one in found if one.path.endswith("05x.flac")]
    assert long.error is not None and "2.50 s" in long.error


def test_a_source_that_is_not_there_is_told_before_anything_is_described(learned, sounds):
    with pytest.raises(ValueError, match="nowhere: expected a sound file, a folder, a table or a tar"):
        next(caption_files([sounds, "nowhere"], captioner=learned))


def test_a_sound_that_the_model_refuses_costs_its_neighbours_nothing(learned, sounds):
    found = list(caption_files([sounds], captioner=Picky(learned), threads=1))
    assert [one.caption for one in found].count(None) == 2  # the one that is no sound, and the long one
    (refused,) = [one for one in found if one.path.endswith("05x.flac")]
    assert refused.error == "the model refuses it: too long for me"


class Picky(Captioner):
    """Takes no sound of over two seconds."""

    def __init__(self, other):
        super().__init__(other.model, config=other.config, decoder=other.decoder)

    def caption(self, waveforms, **options):
        if any(len(waveform) > 2 * SAMPLE_RATE for waveform in waveforms):
            raise ValueError("too long for me")
        return super().caption(waveforms, **options)


def test_the_command_says_a_line_a_sound_and_names_those_without(folder, sounds, capsys):
    with pytest.raises(SystemExit) as ended:
        app(["caption", str(folder), str(sounds), "--device", "cpu"])
    assert ended.value.code == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == CLIPS_AT_ONCE + 4 and lines[0] == f"{sounds}/00.wav: {CAPTIONS[4]}"
    assert "without a caption: " in said.err and "03x.wav" in said.err
    (sounds / "03x.wav").unlink()
    odd = sounds / "odd\udcff.wav"
    shutil.copyfile(sounds / "01.wav", odd)
    command = ["caption", str(folder), str(sounds / "01.wav"), str(odd), "--beam", "1", "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        app([*command, "--json"])
    assert not ended.value.code
    one, other = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert set(one) == {"path", "seconds", "caption", "error", "begin_seconds"} and one["caption"] == CAPTIONS[5]
    # A name need not be UTF-8: it comes back from JSON as it is, and a terminal sees its byte.
    assert other == one | {"path": str(odd)}
    with pytest.raises(SystemExit):
        app(command)
    assert capsys.readouterr().out.splitlines()[1] == f"{sounds}/odd\\udcff.wav: {CAPTIONS[5]}"


SMALL = (
    "model.audio.width=24",
    "model.audio.depth=3",
    "model.audio.heads=2",
    "model.audio.hidden=24",
    "budget.clips=6",
    "training.steps=2",
    "checks=[]",
    "threads=1",
)


def _small(recipe, *settings):
    objectives = tuple(
        replace(o, width=16, hidden=16) if isinstance(o, Caption.Config) else o
        for o in recipe.objectives
        if isinstance(o, Caption.Config)
    )
    recipe = replace(recipe, objectives=objectives, weights={"caption": 1.0})
    return recipes.override(recipe, (*SMALL, *settings))


def test_a_run_keeps_its_decoder_and_the_next_goes_on_with_it(tmp_path, capfd):
    first, then = tmp_path / "pretraining", tmp_path / "captioning"
    recipes.run(_small(slap(form="pocket")), folder=first)
    assert len(lapis.load_captioner(first, check=False).caption([tone(0).numpy()])) == 1
    before = weights.read(first / "captioner.safetensors")
    captioning = slap("captioning", form="pocket", after=str(first))
    capfd.readouterr()
    recipes.run(_small(captioning, "schedule.peak=0.0"), folder=then)  # so that nothing moves
    assert f"{len(before)} tensors of the decoder of captions from {first}" in capfd.readouterr().out
    after = weights.read(then / "captioner.safetensors")
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    (first / "captioner.safetensors").unlink()
    with pytest.raises(ValueError, match=r"captioner\.safetensors is missing"):
        recipes.run(_small(captioning), folder=tmp_path / "never")


def test_saving_in_mid_run_leaves_the_decoder_to_the_run(tmp_path):
    model = tiny.model()
    objective = CONFIG.build(model)
    before = dict(objective.named_parameters())
    recipe = replace(_small(slap(form="pocket")), objectives=(CONFIG,))
    tensors = {f"0.{name}": tensor for name, tensor in objective.state_dict().items()}
    contrast = Softmax.Config(temperature=0.05).build(model)
    learner = Learner(model, [objective, contrast], {})
    recipes._export(recipe, model, "best", tensors, folder=tmp_path, learner=learner)
    after = dict(objective.named_parameters())
    assert all(after[name] is parameter and parameter.requires_grad for name, parameter in before.items())
    described = saved.describe(tmp_path / "best")
    assert described.captioner == CONFIG and described.logits == contrast.logits()


def test_a_stage_after_one_without_captions_says_what_is_missing(tmp_path):
    saved.save(_small(slap(form="pocket")).model.build(), tmp_path / "retrieval")
    captioning = slap("captioning", form="pocket", after=str(tmp_path / "retrieval"))
    with pytest.raises(ValueError, match="has no decoder of captions"):
        recipes.run(_small(captioning), folder=tmp_path / "captioning")


def test_a_long_sound_is_described_part_by_part(learned, clips, tmp_path):
    seconds = len(clips[0]) / SAMPLE_RATE
    soundfile.write(tmp_path / "a.wav", np.concatenate([clips[0], clips[0]]), SAMPLE_RATE, subtype="FLOAT")
    (tmp_path / "b.wav").write_bytes(b"bad")
    first, second, bad = caption_files([tmp_path], captioner=learned, every_seconds=seconds)
    assert [of.caption for of in (first, second)] == [CAPTIONS[4]] * 2
    assert [of.begin_seconds for of in (first, second)] == pytest.approx([0.0, seconds])
    assert bad.caption is None and "expected a sound file" in bad.error and bad.begin_seconds is None
    with pytest.raises(ValueError, match="no longer than the 120 s that the model takes"):
        next(caption_files([tmp_path], captioner=learned, every_seconds=121.0))
