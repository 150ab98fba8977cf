"""Fine-tuning: the tower learns what its features did not tell, the given model stays, and who decides is told."""

import signal
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import tiny
from evaluation.pitch import PitchEmbedder
from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d, with_columns
from lapis.audio_encoders.slap import Slap
from lapis.data.sample import Location, Sample
from lapis.evaluation.fine_tuning import FineTuning, FineTuningResult, Tuning
from lapis.evaluation.fine_tuning_tower import trainable
from lapis.evaluation.linear import Fitting, LinearProbe
from lapis.evaluation.suites import papers
from lapis.layers.augment import SpecAugment
from lapis.layers.masking import Masking
from lapis.layers.resize_crop import ResizedAugment
from lapis.train.optim import AdamW, Lars

TOWER = M2d.Config(width=16, depth=1, heads=2, hidden=24, columns=4, chunk_frames=64)
FAST = Tuning(learning_rate=1e-2, optimizer=AdamW(), epochs=8, warmup_epochs=1, clips=16, seeds=(43,))


@dataclass(frozen=True)
class Listed:
    samples: tuple[Sample, ...]

    def build(self):
        return list(self.samples)


@dataclass(frozen=True)
class Interrupting:
    """A sound that asks the process to stop when it is opened, as Ctrl-C does."""

    path: Path

    def open(self):
        signal.raise_signal(signal.SIGINT)
        return self.path


@pytest.fixture(scope="module")
def tones(tmp_path_factory) -> dict[str, tuple[Sample, ...]]:
    """Two tones at once, near or far from each other, anywhere: no band tells by itself which it is."""
    folder, random = tmp_path_factory.mktemp("tones"), np.random.default_rng(5)
    made = {}
    for part, count in (("train", 64), ("test", 40)):
        samples = []
        for number in range(count):
            label, ratio = (("near", 1.5), ("far", 4.0))[number % 2]
            hertz, instants = random.uniform(300, 1500), np.arange(4800) / 16_000
            sound = sum(np.sin(2 * np.pi * (of * instants + random.uniform())) for of in (hertz, hertz * ratio))
            path = folder / f"{part}{number}.wav"
            soundfile.write(path, 0.2 * sound + random.normal(0, 0.01, len(instants)), 16_000)
            fold = f"fold{number // 2 % 2}"
            samples.append(Sample(key=path.stem, audio=Location(path), seconds=0.3, label=label, split=fold))
        made[part] = tuple(samples)
    return made


def test_the_tower_learns_what_its_features_did_not_tell(tones, capsys):
    model, train = tiny.model(audio=TOWER), Listed(tones["train"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fitting = Fitting(learning_rate=1e-2, epochs=60, seeds=(43,))
    frozen = LinearProbe(train, fitting=fitting).run(model, clips=tones["test"])
    random, tuning = torch.get_rng_state(), replace(FAST, seeds=(43, 44))
    result = FineTuning(train, tuning=tuning).run(model, clips=tones["test"])
    assert isinstance(result, FineTuningResult) and result.chance == 0.5 and frozen.score < 0.75 < 0.85 < result.score
    assert len(capsys.readouterr().err.splitlines()) == 2 * FAST.epochs
    assert result.protocol == (
        "accuracy on 40 clips of the whole audio tower and a head, trained on 58 clips: 8 epochs of "
        f"{FAST.optimizer} at 0.01, 1 of them of warmup, 16 clips a batch, at most 10 s of a clip, float32; of its "
        "epochs the one with the best score on 6 others of the 64 training clips; the mean of 2 seeds."
    )
    assert result.items["accuracy"].mean() == pytest.approx(result.score) == result.figures["accuracy"].value
    # Nothing of the model has moved, and nobody's random numbers have.
    assert torch.equal(torch.get_rng_state(), random) and model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert (result.scores[0], result.epochs[0]) != (result.scores[1], result.epochs[1])


def test_test_clips_decide_only_as_released_and_then_it_says_so(tones):
    model, train = tiny.model(audio=TOWER), Listed(tones["train"][:16])
    mixed = tuple(replace(sample, label=("near", "far")[n // 3 % 2]) for n, sample in enumerate(tones["test"]))
    tuning = replace(FAST, epochs=2)
    honest, other = (FineTuning(train, tuning=tuning).run(model, clips=clips) for clips in (tones["test"], mixed))
    assert (honest.epochs, honest.validation_scores) == (other.epochs, other.validation_scores)
    released = FineTuning(train, tuning=replace(tuning, as_released=True)).run(model, clips=mixed)
    assert released.scores == released.validation_scores
    assert "the test clips themselves, as the released code does, so that the figure is too good" in released.protocol
    validation = Listed(tones["train"][16:30])  # where there are others the released code is honest too
    both = [
        FineTuning(train, validation, tuning=replace(tuning, epochs=1, as_released=of)).run(model, clips=mixed)
        for of in (True, False)
    ]
    assert both[0] == both[1] and "best score on 14 others" in both[0].protocol


def test_folds_are_tested_by_each_other(tones):
    result = FineTuning(None, tuning=replace(FAST, epochs=1)).run(tiny.model(audio=TOWER), clips=tones["test"])
    assert result.folds == 2 and result.num_clips == 40 and len(result.epochs) == 2
    assert [len(part) for part in result.correct] == [20, 20]
    assert result.protocol.startswith("Leave one fold out: 40 clips in 2 folds") and "on 18 clips:" in result.protocol


def test_all_that_the_papers_do_at_once(tones):
    """Two labels a clip, mixed, masked, silenced, resized; longer positions, balanced draws, and LARS."""
    tuning = Tuning(
        learning_rate=2.0,
        optimizer=Lars(weight_decay=0.0),
        epochs=1,
        clips=8,
        clip_seconds=0.25,
        mixup=0.5,
        masking=Masking(0.5, "structured"),
        augment=SpecAugment.Config(time_masks=1, time_frames=8, band_masks=1, bands=8),
        resize=True,
        divided=True,
        frames=96,
        frozen_patches=True,
        balanced_draws=16,
        seeds=(43,),
    )
    several = [replace(sample, label=f"{sample.label};{sample.split}") for sample in tones["train"][:24]]
    result = FineTuning(Listed(tuple(several)), kind="multi-label", tuning=tuning).run(
        tiny.model(audio=TOWER), clips=several[:8]
    )
    assert result.metric == "mAP" and result.num_classes == 4 and 0 < result.score <= 1 and not result.items
    assert (
        "at 2, 5 of them of warmup, 8 clips a batch, at most 0.25 s of a clip, float32, mixup 0.5, SpecAugment and "
        "random resize crop (time_masks 1, time_frames 8, time_share 0.2, band_masks 1, bands 8), 50% of patches left "
        "out (ratio 0.5, shape structured, inverted False), M2D's positions for 96 frames, M2D's layer of patches "
        "held, 16 balanced draws an epoch;" in result.protocol
    )


@pytest.mark.parametrize(
    "tower", [Slap.Config(width=16, depth=1, heads=2, hidden=24), Dasheng.Config(width=16, depth=1, heads=2, hidden=24)]
)
def test_other_towers_are_trained_as_far_as_they_can_be(tones, tower):
    tuning = replace(FAST, epochs=1, masking=Masking(0.5), augment=SpecAugment.Config(), resize=True, divided=True)
    model = tiny.model(audio=tower)
    result = FineTuning(Listed(tones["train"][:16]), tuning=tuning).run(model, clips=tones["test"][:8])
    assert "loss divided by the number of classes" in result.protocol
    assert "no patches left out, as only M2D's tower can" in result.chosen
    assert ("no SpecAugment and random resize crop, which this tower has not" in result.chosen) == isinstance(
        tower, Dasheng.Config
    )
    assert "SpecAugment and random resize crop" in result.protocol and "this tower" not in result.protocol


def test_the_tower_is_a_copy_with_other_ends():
    model = tiny.model(audio=replace(TOWER, classes=5, pooling="semantic", trainable=False)).bfloat16()
    augment = SpecAugment.Config(time_masks=3)
    copy = trainable(model, tuning=replace(FAST, frames=96, augment=augment, resize=True, frozen_patches=True))
    tower, old = copy.audio_encoder, model.audio_encoder
    assert tower.head is None and tower.semantic is None and copy.text_encoder is None
    assert isinstance(tower.augment, ResizedAugment) and tower.augment.config == augment
    assert {name for name, of in tower.named_parameters() if not of.requires_grad} == {
        "patches.projection.weight",
        "patches.projection.bias",
    }
    np.testing.assert_array_equal(tower.positions, with_columns(old.positions.float(), bands=5, columns=6))
    own, given = tower.transformer.norm.weight, old.transformer.norm.weight
    assert own.dtype == torch.float32 and torch.equal(own, given.float()) and own.data_ptr() != given.data_ptr()


def test_what_cannot_be_read_is_told(tones):
    def absent(sample: Sample) -> Sample:
        return replace(sample, key=f"no {sample.key}", audio=Location(Path("absent.wav")))

    train, test = (*tones["train"][:20], absent(tones["train"][20])), (*tones["test"][:6], absent(tones["test"][6]))
    validation = Listed((*tones["train"][30:40], absent(tones["train"][40])))
    result = FineTuning(Listed(train), validation, tuning=replace(FAST, epochs=2)).run(
        tiny.model(audio=TOWER), clips=test
    )
    assert result.num_clips == 6 and len(result.unreadable) == 3
    assert "3 clips could not be read and are not counted" in result.protocol


def test_what_cannot_be_tuned_is_named(tones):
    model, train, test = tiny.model(audio=TOWER), Listed(tones["train"]), tones["test"]
    with pytest.raises(ValueError, match=r"fine-tuning needs a joint model of this package, .* got PitchEmbedder"):
        FineTuning(train).run(PitchEmbedder(), clips=test)
    with pytest.raises(ValueError, match="label 'odd', which is none of the 2 classes"):
        FineTuning(train).run(model, clips=[replace(test[0], label="odd")])
    with pytest.raises(ValueError, match="1 training clips are too few to hold 1 out"):
        FineTuning(Listed(train.samples[:1])).run(model, clips=[replace(test[0], label="near")])
    with pytest.raises(ValueError, match="no validation clips: expected train clips"):
        FineTuning(None, train)
    with pytest.raises(ValueError, match="held_out within"):
        Tuning(held_out=0.0)
    with pytest.raises(ValueError, match="resize comes after augment"):
        Tuning(resize=True)
    stopping = replace(test[0], audio=Interrupting(test[0].audio.path))
    with pytest.raises(KeyboardInterrupt):
        FineTuning(train, Listed((stopping, test[1])), tuning=FAST).run(model, clips=test)


def test_the_papers_lines_train_and_other_models_are_absent_with_a_reason():
    lines = {line.name: line.protocol for line in papers.FINE_TUNING}
    assert {name.removesuffix("-1") for name in lines if "as-released" not in name} == {
        "audioset-2m-finetune",
        "audioset-20k-finetune",
        "esc50-finetune",
        "speech_commands-v2-finetune",
        "voxceleb1-finetune",
    }
    for name, protocol in lines.items():
        assert protocol.tuning.seeds == (43, 44, 45) and protocol.tuning.as_released == ("as-released" in name)
        protocol.check(tiny.model())
        with pytest.raises(ValueError, match="fine-tuning needs a joint model"):
            protocol.check(PitchEmbedder())
