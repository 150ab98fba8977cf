"""Frozen towers: kept answers are those that would be computed, to the bit, and whatever varies is not kept wrongly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from data.corpus import tones, write_tar
from lapis.audio_encoders.m2d import M2d
from lapis.data.batching import Budget
from lapis.data.loader import Loader, Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Tars
from lapis.layers.augment import SpecAugment
from lapis.layers.masking import Masking
from lapis.objectives.contrast import Softmax
from lapis.objectives.learner import Learner
from lapis.objectives.visible import Visible
from lapis.ragged import Ragged
from lapis.train.checkpoint import Checkpoints
from lapis.train.frozen import Answers, frozen_features
from lapis.train.loop import Training, train
from lapis.train.optim import AdamW, Constant
from lapis.train.report import Report, read_log

M2D = M2d.Config(columns=6, chunk_frames=96, width=16, depth=2, heads=2, hidden=24, pooling="semantic", trainable=False)
CONTRAST = Softmax.Config(positives="caption")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_tar(folder / "a.tar", tones(20))
    return folder


@pytest.fixture(autouse=True)
def _data(corpus, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(corpus))


class Run:
    """Of a learner with a frozen tower over two and a half epochs: losses, shares that were known, and weights."""

    def __init__(self, folder, *, objective=CONTRAST, frozen_text=False, clip_seconds=2.0, steps=8, **training):
        model = tiny.model(audio=M2D)
        if frozen_text:
            model.text_encoder.requires_grad_(False)
        torch.manual_seed(1)
        learner = Learner(model, [objective.build(model)], {"contrast": 1.0})
        before = dict(model.audio_encoder.state_dict())
        mixture = Mixture.Config((Part(Tars("a.tar")),)).build(seed=3)
        budget = Budget(clips=6, seconds=60.0, clip_seconds=clip_seconds)
        loader = Loader(mixture, budget=budget, sample_rate=16_000, reading=Reading(workers=0))
        train(
            learner,
            batches=loader.batches,
            optimizer_config=AdamW(),
            schedule=Constant(1e-3),
            training=Training(steps=steps, **{"validate_every": 4, "save_every": 4} | training),
            checkpoints=Checkpoints(folder, recipe={}),
            report=Report(folder, name="test", steps=steps),
            validate=self._validate,
            export=lambda model, name, objectives: None,
        )
        lines = [line for line in read_log(folder / "log.jsonl") if "losses" in line]
        self.losses = [line["losses"]["contrast"] for line in lines]
        self.known = [line.get("measures", {}) for line in lines]
        self.weights = {name: weight.numpy().copy() for name, weight in learner.state_dict().items()}
        assert list(model.audio_encoder.state_dict()) == list(before) and "forward" not in vars(model.audio_encoder)

    def _validate(self, model):
        return {"norm": float(np.linalg.norm(model.embed_audio([np.ones(16_000, np.float32)])))}


def _same(one, other):
    assert one.losses == other.losses
    for name, weight in one.weights.items():
        np.testing.assert_array_equal(weight, other.weights[name], err_msg=name)


def test_kept_answers_are_those_computed_to_the_bit(tmp_path):
    computed, kept = Run(tmp_path / "computed", frozen_features=0), Run(tmp_path / "kept", frozen_features=1 << 20)
    _same(kept, computed)
    assert [known["known_audio"] for known in computed.known] == [0.0] * 8
    # 20 clips in batches of 6: the fourth is a third new, later ones are not at all.
    assert [known["known_audio"] for known in kept.known] == pytest.approx([0, 0, 0, 2 / 3, 1, 1, 1, 1])


def test_they_are_those_of_a_whole_batch_up_to_rounding(tmp_path):
    whole, kept = Run(tmp_path / "whole"), Run(tmp_path / "kept", frozen_features=1 << 20)
    np.testing.assert_allclose(kept.losses, whole.losses, atol=1e-5)
    assert whole.known == [{}] * 8


def test_a_run_that_has_lost_them_goes_on_exactly(tmp_path):
    whole = Run(tmp_path / "whole", frozen_features=1 << 20)
    Run(tmp_path / "parts", frozen_features=1 << 20, steps=4)
    rest = Run(tmp_path / "parts", frozen_features=1 << 20)
    _same(rest, whole)
    assert rest.known[4]["known_audio"] == 0.0


def test_files_are_found_by_another_run_and_not_by_another_tower(tmp_path):
    folder = str(tmp_path / "files")
    first = Run(tmp_path / "first", frozen_features=0, frozen_folder=folder)
    second = Run(tmp_path / "second", frozen_features=0, frozen_folder=folder)
    _same(second, first)
    assert [known["known_audio"] for known in second.known] == [1.0] * 8
    other = tiny.model(seed=5, audio=M2D)
    with frozen_features(other, memory_bytes=0, folder=folder) as frozen:
        other.audio_tokens(Ragged.pack([torch.ones(16_000)]))
        assert frozen.measures() == {"known_audio": 0.0}
    assert len(list((tmp_path / "files" / "audio").iterdir())) == 2


def test_a_damaged_file_is_named(tmp_path):
    answers = Answers(memory_bytes=0, folder=tmp_path)
    answers.put("abc", torch.ones(3))
    assert torch.equal(answers.get("abc"), torch.ones(3))
    (tmp_path / "ab" / "abc.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"abc\.safetensors is damaged"):
        answers.get("abc")


def test_texts_are_kept_too(tmp_path):
    computed = Run(tmp_path / "computed", frozen_text=True, frozen_features=0)
    kept = Run(tmp_path / "kept", frozen_text=True, frozen_features=1 << 20)
    _same(kept, computed)
    # Each clip has several captions, so that not all of them have been drawn by then.
    assert kept.known[0]["known_text"] == 0.0 and kept.known[-1]["known_text"] >= 0.5


def test_with_the_cached_step_and_in_half_precision(tmp_path):
    """Tokens of float32 are none of bfloat16; in the second tour over a batch all are known."""
    more = {"cached_clips": 2, "precision": "bfloat16"}
    computed = Run(tmp_path / "computed", frozen_features=0, **more)
    kept = Run(tmp_path / "kept", frozen_features=1 << 20, **more)
    _same(kept, computed)
    assert kept.known[0]["known_audio"] == 0.5 and kept.known[-1]["known_audio"] == 1.0


def test_one_clip_in_two_precisions_has_two_answers():
    model = tiny.model(audio=M2D)
    clip = Ragged.pack([torch.linspace(-0.5, 0.5, 16_000)])
    with frozen_features(model, memory_bytes=1 << 20) as frozen:
        exact = model.audio_tokens(clip).rows
        with torch.autocast("cpu", torch.bfloat16):
            assert model.audio_tokens(clip).rows.sub(exact).abs().max() > 1e-4
        assert torch.equal(model.audio_tokens(clip).rows, exact)
        assert frozen.measures() == {"known_audio": 1 / 3}


def test_windows_cut_at_random_are_computed_as_they_come(tmp_path):
    computed = Run(tmp_path / "computed", frozen_features=0, clip_seconds=0.2)
    kept = Run(tmp_path / "kept", frozen_features=1 << 20, clip_seconds=0.2)
    _same(kept, computed)
    assert max(known["known_audio"] for known in kept.known) < 0.2  # a clip is shorter than the window


def test_what_comes_only_once_makes_room():
    answers = Answers(memory_bytes=10 * 4, folder=None)
    for number in range(6):
        answers.put(f"whole {number}", torch.full((1,), float(number)))
        assert answers.get(f"whole {number}").item() == number
    for number in range(100):
        answers.put(f"window {number}", torch.zeros(1))
    assert sum(answers.get(f"window {number}") is not None for number in range(100)) == 4
    assert [answers.get(f"whole {number}").item() for number in range(6)] == [0, 1, 2, 3, 4, 5]
    kept = [f"window {number}" for number in range(100) if answers.get(f"window {number}") is not None]
    roomy = Answers(memory_bytes=10 * 4, folder=None)
    for number in range(10):
        roomy.put(f"window {number}", torch.zeros(1))
    roomy.put("too large", torch.zeros(11))
    assert roomy.get("too large") is None
    assert all(roomy.get(f"window {number}") is not None for number in range(10)) and len(kept) == 4


def test_what_nothing_hides_is_kept_and_what_masks_hide_is_refused(tmp_path):
    """M2D-CLAP's stages 2.1 and 2."""
    clean = Visible.Config(CONTRAST, masking=Masking(ratio=0.0))
    assert Run(tmp_path / "clean", objective=clean, frozen_features=1 << 20).known[-1]["known_audio"] == 1.0
    hidden = Visible.Config(CONTRAST, masking=Masking(ratio=0.3, shape="structured"))
    with pytest.raises(ValueError, match="no objective asks the audio tower for answers to whole clips"):
        Run(tmp_path / "hidden", objective=hidden, frozen_features=1 << 20)


def test_a_tower_that_learns_is_left_alone():
    model = tiny.model(audio=replace(M2D, trainable=True))
    with pytest.raises(ValueError, match="both towers learn"), frozen_features(model, memory_bytes=0):
        pass
    model.text_encoder.requires_grad_(False)
    with frozen_features(model, memory_bytes=0) as frozen:
        assert model.audio_tokens(Ragged.pack([torch.ones(16_000)])).rows.requires_grad
        model.encode_text(["rain"])
        assert frozen.measures() == {"known_text": 0.0}


def test_a_frozen_tower_that_answers_otherwise_each_time_is_refused():
    augmented = tiny.model(audio=replace(tiny.CONFIG.audio, augment=SpecAugment.Config())).train()
    augmented.audio_encoder.requires_grad_(False)
    with (
        pytest.raises(ValueError, match="audio tower learns nothing, but it answers"),
        frozen_features(augmented, memory_bytes=0),
    ):
        pass
    normed = tiny.model(audio=M2D).train()
    normed.audio_encoder.transformer.norm = nn.BatchNorm1d(16).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in normed.state_dict().items()}
    with (
        pytest.raises(ValueError, match=r"transformer\.norm\.running_mean moves"),
        frozen_features(normed, memory_bytes=0),
    ):
        pass
    assert all(torch.equal(tensor, before[name]) for name, tensor in normed.state_dict().items())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"frozen_features": -1}, "frozen_features are bytes"),
        ({"frozen_features": 1, "sharded": True}, "do not go together with sharded"),
        ({"frozen_features": 1, "count_operations": True}, "and count_operations do not go together"),
        ({"frozen_folder": "x"}, "frozen_folder needs frozen_features"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, reason):
    with pytest.raises(ValueError, match=reason):
        Training(steps=1, **fields)
