"""The linear probe: what is there it finds, what is not it does not, and test clips decide nothing."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import tiny
from evaluation.pitch import PitchEmbedder, pitched
from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d
from lapis.audio_encoders.slap import Slap
from lapis.data.sample import Sample
from lapis.datasets.pocket import Pocket
from lapis.evaluation.features import Features
from lapis.evaluation.linear import Fitting, Labelled, LinearProbe, probe
from lapis.evaluation.neighbours import Neighbours
from lapis.ragged import Ragged

FAST = Fitting(learning_rate=1e-2)


def _planted(clips: int, seed: int, *, classes: int = 4, width: int = 20) -> Labelled:
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, clips)
    centres = 3 * np.random.default_rng(99).normal(size=(classes, width))
    rows = 100 + centres[truth] * np.arange(1, width + 1) + random.normal(size=(clips, width))
    return Labelled(rows.astype(np.float32), np.eye(classes, dtype=np.float32)[truth])


def _shuffled(part: Labelled, seed: int) -> Labelled:
    return replace(part, targets=part.targets[np.random.default_rng(seed).permutation(len(part))])


def test_separable_classes_are_told_apart():
    result = probe(_planted(300, 1), test=_planted(200, 2), fitting=FAST)
    assert result.score == 1.0 and result.scores == (1.0,) * 3 and result.deviation == 0.0
    assert result.metric == "accuracy" and result.num_clips == 200 and result.num_classes == 4


def test_several_classes_of_a_clip_are_ranked():
    def two(part: Labelled) -> Labelled:
        targets = np.maximum(part.targets, np.roll(part.targets, 1, axis=1))  # each clip has its class and the next
        return replace(part, targets=targets)

    result = probe(two(_planted(300, 1)), test=two(_planted(200, 2)), kind="multi-label", fitting=FAST)
    assert result.metric == "mAP" and result.score > 0.999 and 0.4 < result.chance < 0.6


def test_shuffled_labels_are_found_no_better_than_by_chance():
    train, test = _shuffled(_planted(600, 1), 5), _shuffled(_planted(600, 2), 6)
    result = probe(train, test=test, fitting=FAST)
    assert abs(result.score - 0.25) < 0.06 and 0.25 <= result.chance < 0.32


def test_test_clips_decide_nothing():
    """With other test labels the same layers are fitted, kept after the same epochs."""
    train, test = _planted(200, 1), _planted(100, 2)
    one, other = (probe(train, test=part, fitting=FAST) for part in (test, _shuffled(test, 3)))
    assert (one.epochs, one.validation_scores) == (other.epochs, other.validation_scores)
    assert one.score > other.score
    again = probe(train, test=test, fitting=FAST)
    assert again == one


def test_it_stops_when_validation_has_not_risen():
    noise = _shuffled(_planted(200, 1), 4)
    result = probe(noise, test=noise, validation=_shuffled(_planted(50, 7), 8), fitting=replace(FAST, patience=2))
    assert all(epoch < 50 for epoch in result.epochs)
    assert "stopped on 50 others" in result.protocol


def test_the_sentence_says_how_the_layer_was_fitted_and_on_which_clips():
    train, test = _planted(10, 1), _planted(10, 2)
    fitting = Fitting(learning_rate=0.1, clips=4, epochs=3, patience=1, held_out=0.2)
    sentence = probe(train, test=test, fitting=fitting).protocol
    assert sentence == (
        "accuracy on 10 clips of one linear layer on standardised, frozen features; fitted on 8 clips, stopped on 2 "
        "others of the 10 training clips; Adam at 0.1, 4 clips a batch, at most 3 epochs, an end after 1 without a "
        "better score; the mean of 3 seeds."
    )
    for other in (replace(fitting, learning_rate=0.2), replace(fitting, clips=5), replace(fitting, patience=2)):
        assert probe(train, test=test, fitting=other).protocol != sentence
    assert (
        "fitted on 10 clips, stopped on 10 others; Adam" in probe(train, test=test, validation=_planted(10, 3)).protocol
    )


def test_a_feature_that_never_changes_does_no_harm():
    def with_constant(part: Labelled) -> Labelled:
        constant = np.full((len(part), 1), 7, np.float32)
        return replace(part, features=np.concatenate([part.features, constant], axis=1))

    assert probe(with_constant(_planted(200, 1)), test=with_constant(_planted(100, 2)), fitting=FAST).score == 1.0


def test_what_cannot_be_probed_is_named():
    broken = _planted(50, 1)
    broken.features[3, 2] = np.nan
    with pytest.raises(ValueError, match="a training clip has features that are not finite"):
        probe(broken, test=_planted(10, 2))
    with pytest.raises(ValueError, match="1 training clips are too few to hold 1 out"):
        probe(_planted(1, 1), test=_planted(10, 2))
    with pytest.raises(ValueError, match="held_out within"):
        Fitting(held_out=1.0)


@dataclass(frozen=True)
class Listed:
    samples: tuple[Sample, ...]

    def build(self):
        return list(self.samples)


def test_any_embedder_can_be_probed_by_its_vectors(tmp_path):
    samples = tuple(
        pitched(tmp_path, f"{name}{number}", hertz=hertz + 20 * number, label=name)
        for name, hertz in (("low", 200), ("high", 3000))
        for number in range(10)
    )
    broken = replace(samples[0], key="broken", audio=replace(samples[0].audio, path=tmp_path / "absent.wav"))
    probing = LinearProbe(Listed((*samples, broken)), features="vectors", fitting=FAST)
    result = probing.run(PitchEmbedder(), clips=samples)
    assert result.score == 1.0 and len(result.unreadable) == 1 and "1 unreadable" in result.protocol
    with pytest.raises(ValueError, match="label 'odd', which is none of the 2 classes"):
        probing.run(PitchEmbedder(), clips=[pitched(tmp_path, "odd", hertz=500, label="odd")])
    with pytest.raises(ValueError, match="features 'tokens' need a joint model"):
        LinearProbe(Listed(samples)).run(PitchEmbedder(), clips=samples)


def test_a_random_tower_hears_more_than_nothing():
    """Real instruments, real splits: what a tower gives that has learned nothing beats guessing."""
    model = tiny.model(audio=M2d.Config(width=32, depth=1, heads=2, hidden=48))
    probing = LinearProbe(
        Pocket("val", "music"), features="frames", fitting=replace(FAST, seeds=(42,), patience=200, epochs=60)
    )
    result = probing.run(model, clips=Pocket("test", "music").build())
    assert result.score > 2 * result.chance


def test_features_are_what_they_are_called():
    encoder = M2d.Config(width=32, depth=1, heads=2, hidden=48, classes=3)
    model = tiny.model(audio=encoder)
    sounds = [np.random.default_rng(n).normal(0, 0.1, 5000 * n).astype(np.float32) for n in (1, 2)]
    kinds = ("vectors", "tokens", "pooled", "frames", "logits")
    found = {kind: Features(model, kind=kind) for kind in kinds}
    rows = {kind: listener.embed_audio(sounds) for kind, listener in found.items()}
    assert {kind: row.shape for kind, row in rows.items()} == {
        kind: (2, width) for kind, width in zip(kinds, (8, 32, 32, 160, 3))
    }
    assert all(found[kind].width == row.shape[1] for kind, row in rows.items())
    np.testing.assert_array_equal(rows["vectors"], model.embed_audio(sounds))
    np.testing.assert_allclose(rows["tokens"], rows["pooled"])
    np.testing.assert_allclose(rows["frames"].reshape(2, 5, 32).mean(1), rows["tokens"], atol=1e-5)
    assert len({listener.identity for listener in found.values()}) == 5
    with pytest.raises(ValueError, match="features 'frames': this Slap has no frame features"):
        Features(tiny.model(), kind="frames")
    with pytest.raises(ValueError, match="features 'logits': this M2d has no head of classes"):
        Features(tiny.model(audio=replace(encoder, classes=None)), kind="logits")


def test_as_released_the_test_clips_decide_and_the_figure_is_too_good():
    train, test = _shuffled(_planted(300, 1), 5), _shuffled(_planted(60, 2), 6)  # there is nothing to find
    fitting = replace(FAST, epochs=40, patience=40)
    honest = probe(train, test=test, fitting=fitting)
    released = probe(train, test=test, fitting=replace(fitting, as_released=True))
    assert released.score > honest.score and released.scores == released.validation_scores
    assert "stopped on the test clips themselves, as the released code does" in released.protocol
    validation = _planted(40, 3)  # where there are validation clips the released code is honest too
    both = [
        probe(train, test=test, validation=validation, fitting=replace(fitting, as_released=of)) for of in (True, False)
    ]
    assert both[0] == both[1]


def test_figures_are_means_over_clips_and_seeds():
    result = probe(_planted(200, 1), test=_shuffled(_planted(100, 2), 3), fitting=replace(FAST, epochs=5))
    assert result.items["accuracy"].mean() == pytest.approx(result.score) == result.figures["accuracy"].value
    assert result.figures["accuracy"].interval[0] < result.score < result.figures["accuracy"].interval[1]
    assert result.seeds == (42, 43, 44) and result.to_dict()["figures"]["accuracy"]["chance"] == result.chance


def _layered(part: Labelled, seed: int, *, best: int) -> Labelled:
    """Three layers side by side: one that tells the classes, the others nothing."""
    random = np.random.default_rng(seed)
    noise = [random.normal(size=part.features.shape).astype(np.float32) for _ in range(3)]
    noise[best - 1] = part.features
    return replace(part, features=np.concatenate(noise, axis=1))


@pytest.mark.parametrize("best", [1, 2, 3])
def test_validation_chooses_the_layer_that_tells_the_classes(best):
    fitting = replace(FAST, seeds=(42, 43), epochs=30)
    plain = probe(_planted(200, 1), test=_planted(100, 2), fitting=fitting)
    train, test = _layered(_planted(200, 1), 3, best=best), _layered(_planted(100, 2), 4, best=best)
    result = probe(train, test=test, fitting=fitting, layers=3)
    assert result.layers == (best,) and result.to_dict()["layers"] == [best] and result.scores == plain.scores
    assert result.chosen == f"Layer {best} of 3, the best in validation." == result.to_dict()["chosen"]
    other = probe(train, test=test, fitting=fitting, layers=3, layer=best % 3 + 1)
    assert other.score < 0.5 and f"Layer {best % 3 + 1} of 3, as asked for." in other.chosen
    assert result.protocol == other.protocol


def test_test_clips_never_choose_a_layer():
    """What is in the test clips alone is not looked for: there another layer tells the classes."""
    fitting = replace(FAST, seeds=(42,), epochs=30)
    train, test = _layered(_planted(200, 1), 3, best=2), _layered(_planted(100, 2), 4, best=3)
    assert probe(train, test=test, fitting=fitting, layers=3).layers == (2,)
    released = replace(fitting, as_released=True)
    with pytest.raises(ValueError, match="the test clips would choose the layer"):
        probe(train, test=test, fitting=released, layers=3)
    with pytest.raises(ValueError, match="the test clips would choose the layer"):
        LinearProbe(None, features="layers", fitting=released)
    validated = probe(train, test=test, validation=_layered(_planted(50, 7), 5, best=2), fitting=released, layers=3)
    assert validated.layers == (2,)
    with pytest.raises(ValueError, match="expected one of features 'layers', counted from 1, got 2 of"):
        LinearProbe(None, features="tokens", layer=2)


@pytest.mark.parametrize(
    "tower",
    [
        M2d.Config(width=16, depth=2, heads=2, hidden=24, pooling="frames"),
        Slap.Config(width=16, depth=2, heads=2, hidden=24),
        Dasheng.Config(width=16, depth=2, heads=2, hidden=24),
    ],
)
def test_layers_are_mean_tokens_after_each(tower):
    model = tiny.model(audio=tower)
    sounds = [np.random.default_rng(n).normal(0, 0.1, 5000 * n).astype(np.float32) for n in (2, 1)]
    layers, tokens = (Features(model, kind=kind) for kind in ("layers", "tokens"))
    rows = layers.embed_audio(sounds)
    assert rows.shape == (2, 32) and layers.width == 32 and layers.num_layers == 2
    np.testing.assert_allclose(rows[:, 16:], tokens.embed_audio(sounds), atol=1e-5)
    inner = model.eval().audio_encoder.layers(Ragged.pack([torch.from_numpy(sounds[1])]))[0].mean()
    np.testing.assert_allclose(rows[1, :16], inner[0].detach(), atol=1e-5)


def test_a_layer_is_chosen_for_each_fold(tmp_path):
    samples = [
        pitched(tmp_path, f"{name}{number}", hertz=hertz + 20 * number, label=name, split=f"fold{number % 2}")
        for name, hertz in (("low", 200), ("high", 3000))
        for number in range(8)
    ]
    model = tiny.model(audio=M2d.Config(width=16, depth=2, heads=2, hidden=24))
    probing = LinearProbe(None, features=("layers", "vectors"), fitting=replace(FAST, epochs=5))
    result = probing.run(model, clips=samples)
    assert len(result.layers) == 2 and set(result.layers) <= {1, 2} and "Features 'layers'. Layer" in result.chosen
    assert all(f"Layer {layer} of 2, the best in validation." in result.chosen for layer in result.layers)
    of_vectors = probing.run(PitchEmbedder(), clips=samples)
    assert of_vectors.protocol == result.protocol and of_vectors.chosen == "Features 'vectors'."
    assert replace(probing, layer=1).run(model, clips=samples).layers == (1, 1)
    assert of_vectors.layers == ()  # its vectors, which are whole
    with pytest.raises(ValueError, match="layer: expected one of 2, got 3"):
        replace(probing, layer=3).check(model)
    with pytest.raises(ValueError, match="of which only the linear probe chooses one"):
        Neighbours(features="layers")
