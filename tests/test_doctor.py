"""Models broken for real, each in one way: the right check says so, and a model that is well passes them all."""

import copy
import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

import processes
import tiny
from lapis import doctor, probes
from lapis import recipe as recipes
from lapis.doctor import Golden, answers
from lapis.hub import load, save_pretrained
from lapis.layers.projection import Linear
from lapis.model import Embedder, JointModel
from lapis.ragged import Ragged
from lapis.text_encoders.sentence import Sentence

BIASED = Linear.Config(bias=True)


@pytest.fixture(scope="module")
def trained():
    """A small model that knows the probes; with biases, so that a tower can be pushed to one side."""
    model = tiny.model(audio_projection=BIASED, text_projection=BIASED)
    clips = [torch.from_numpy(sound) for sound in probes.sounds(sample_rate=model.sample_rate)]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(100):
        vectors = model.project_audio(model.audio_tokens(Ragged.pack(clips)))
        logits = 10 * vectors @ model.encode_text(probes.sentences()).T
        loss = F.cross_entropy(logits, torch.arange(len(clips))) + F.cross_entropy(logits.T, torch.arange(len(clips)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


@pytest.fixture
def model(trained) -> JointModel:
    return copy.deepcopy(trained)


@pytest.fixture(scope="module")
def golden(trained) -> Golden:
    return doctor.record(trained)


@dataclass
class Wrapped:
    """An embedder that is no torch module, with a way of its own to spoil its answers."""

    model: JointModel
    audio: Callable = lambda embed, items: embed(items)
    text: Callable = lambda embed, items: embed(items)
    identity: str = "wrapped"

    @property
    def sample_rate(self):
        return self.model.sample_rate

    @property
    def width(self):
        return self.model.width

    def embed_audio(self, waveforms):
        return self.audio(self.model.embed_audio, waveforms)

    def embed_text(self, texts):
        return self.text(self.model.embed_text, texts)


def _unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _found(findings):
    """What is not fine, by check."""
    return {finding.check: finding for finding in findings if finding.level != "fine"}


def _only(findings, check, *, level="failure"):
    found = _found(findings)
    assert list(found) == [check], found
    assert found[check].level == level
    return found[check].sentence


def test_a_model_that_is_well_passes_everything(model, golden):
    told = []
    findings = doctor.examine(model, golden=golden, full=True, progress=told.append)
    assert not _found(findings)
    checks = [finding.check for finding in findings]
    assert len(set(checks)) == len(checks) == 21
    assert {"audio golden", "text collapse", "agreement", "audio batch", "text repeat", "audio float16"} <= set(checks)
    assert all(math.isfinite(figure) for finding in findings for figure in finding.figures.values())
    assert doctor.tripwire(model, golden=golden) == ()
    assert told[0] == "weights" and "half precision" in told


def test_no_golden_answers_is_said_by_the_examination_only(model):
    sentence = _only(doctor.examine(model), "golden answers", level="warning")
    assert "nobody can tell" in sentence
    assert doctor.tripwire(model) == ()


def test_an_examination_changes_nothing(model, golden):
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    doctor.examine(model, golden=golden, full=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and next(model.parameters()).dtype == torch.float32


def _exchange(one, other):
    before = one.clone()
    one.copy_(other)
    other.copy_(before)


# Weights


def test_nan_in_a_weight_names_the_tensor(model, golden):
    model.audio_encoder.patches.projection.weight[3, 4] = math.nan
    for findings in (doctor.examine(model, golden=golden), doctor.tripwire(model, golden=golden)):
        found = _found(findings)
        assert found["finite weights"].level == "failure"
        assert "audio_encoder.patches.projection.weight" in found["finite weights"].sentence
        assert "6 of 6 sounds" in found["audio answers"].sentence
        assert not {"text answers", "text golden", "text collapse"} & set(found)


def test_infinity_is_meant_in_masks_only(model):
    model.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    assert not _found(doctor.tripwire(model))
    model.register_buffer("mask", torch.tensor([0.0, math.nan]))
    assert "mask" in _only(doctor.tripwire(model), "finite weights")
    del model.mask
    model.spare = nn.Parameter(torch.tensor([0.0, -math.inf]))
    assert "spare" in _only(doctor.tripwire(model), "finite weights")


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_matrix_of_one_value_is_dead(model, value):
    matrices = [name for name, tensor in model.named_parameters() if tensor.dim() == 2 and "transformer" in name]
    model.get_parameter(matrices[0]).fill_(value)
    found = _found(doctor.tripwire(model))
    assert found["dead weights"].level == "failure"
    assert f"{matrices[0]} (all {value:g})" in found["dead weights"].sentence


def test_rows_may_be_dead_up_to_half(model):
    model.text_encoder.table.weight[:2000] = 0
    assert "dead weights" not in _found(doctor.tripwire(model))
    model.text_encoder.table.weight[:2100] = 0
    found = _found(doctor.tripwire(model))["dead weights"]
    assert found.level == "warning" and "text_encoder.table.weight (51%)" in found.sentence


def test_vectors_of_one_value_are_not_dead(model):
    model.spare = nn.ParameterList([torch.zeros(32), torch.ones(1, 32), torch.zeros(8, 1, 1)])
    assert doctor.tripwire(model) == ()


def test_copied_weights_are_named_tied_and_initial_ones_are_not(model, golden):
    first, second = model.audio_encoder.transformer.blocks
    names = dict(first.named_parameters())
    matrices = [name for name, tensor in names.items() if tensor.dim() == 2]
    model.spare = nn.ParameterList([torch.zeros(64), torch.zeros(64), torch.ones(64), torch.ones(64), torch.randn(4)])
    model.more = nn.ParameterList([model.spare[4].clone()])  # too small to say anything
    assert not _found(doctor.examine(model, golden=golden))
    model.alias = nn.Parameter(model.audio_projection.weight.data, requires_grad=False)  # the same memory
    assert not _found(doctor.examine(model, golden=golden))

    second.get_parameter(matrices[0]).copy_(names[matrices[0]])
    found = _found(doctor.examine(model))["copied weights"]
    assert found.level == "warning"
    assert f"blocks.0.{matrices[0]} and audio_encoder.transformer.blocks.1.{matrices[0]}" in found.sentence


def test_what_float16_cannot_hold_is_a_warning(model, golden):
    model.audio_projection.weight *= 1e6
    model.audio_projection.bias *= 1e6
    found = _found(doctor.examine(model, golden=golden, full=True))
    assert set(found) == {"float16 range", "audio float16"}
    assert "audio_projection.weight" in found["float16 range"].sentence
    assert "NaN or infinity in the answers" in found["audio float16"].sentence
    assert {finding.level for finding in found.values()} == {"warning"}


# Golden answers


def test_tensors_in_each_others_place_are_noticed_by_golden_answers_alone(model, golden):
    first, second = model.audio_encoder.transformer.blocks
    _exchange(first.feedforward.up.weight, second.feedforward.up.weight)
    for findings in (doctor.examine(model, golden=golden), doctor.tripwire(model, golden=golden)):
        sentence = _only(findings, "audio golden")
        assert "answers differently from when it was saved" in sentence and "mixed up" in sentence


def test_two_norms_in_each_others_place_are_a_warning(model, golden):
    first, second = model.audio_encoder.transformer.blocks
    _exchange(first.feedforward_norm.weight, second.feedforward_norm.weight)
    sentence = _only(doctor.tripwire(model, golden=golden), "audio golden", level="warning")
    assert "a little differently" in sentence and "more than rounding" in sentence


def test_towers_in_each_others_place_are_noticed(model, golden):
    _exchange(model.audio_projection.weight, model.text_projection.weight)
    found = _found(doctor.tripwire(model, golden=golden))
    assert {found["audio golden"].level, found["text golden"].level} == {"failure"}


def test_golden_answers_go_through_a_file(golden, tmp_path):
    save_file(golden.to_tensors(), tmp_path / "golden.safetensors")
    back = Golden.from_tensors(load_file(tmp_path / "golden.safetensors"))
    assert np.array_equal(back.audio, golden.audio) and np.array_equal(back.text, golden.text)
    assert back.probes == golden.probes == probes.digest()
    of_numpy = Golden.from_tensors({name: tensor.numpy() for name, tensor in golden.to_tensors().items()})
    assert np.array_equal(of_numpy.text, golden.text)


def test_golden_answers_that_are_none_are_refused(golden):
    tensors = golden.to_tensors()
    with pytest.raises(ValueError, match=r"expected the tensors audio, text and probes, got \['probes', 'text'\]"):
        Golden.from_tensors({name: tensors[name] for name in ("text", "probes")})
    with pytest.raises(ValueError, match=r"expected text as float32 of 2 dimensions, got float32 of shape \(48,\)"):
        Golden.from_tensors(tensors | {"text": tensors["text"].flatten()})


def test_golden_answers_of_a_model_that_hears_only(trained, golden):
    deaf_to_words = replace(trained.config, text=None).build().eval()
    ours = deaf_to_words.state_dict().keys()
    deaf_to_words.load_state_dict({name: tensor for name, tensor in trained.state_dict().items() if name in ours})
    recorded = Golden.from_tensors(doctor.record(deaf_to_words, hears_only=True).to_tensors())
    assert recorded.text is None and np.array_equal(recorded.audio, golden.audio)
    assert doctor.tripwire(deaf_to_words, golden=recorded) == ()
    assert _found(doctor.tripwire(trained, golden=recorded))["text golden"].level == "warning"
    with torch.no_grad():
        deaf_to_words.audio_projection.weight.copy_(deaf_to_words.audio_projection.weight.flip(0))
    assert _found(doctor.tripwire(deaf_to_words, golden=recorded))["audio golden"].level == "failure"


def test_the_tripwire_does_not_fetch_a_frozen_text_tower(trained, tmp_path):
    elsewhere = replace(trained.config, text=Sentence.Config(str(tmp_path / "nothing"), width=16)).build().eval()
    asked: list[str] = []
    elsewhere.text_encoder._look_up = asked.extend
    doctor.tripwire(elsewhere)
    assert not asked
    with pytest.raises(TypeError):
        elsewhere.embed_text(["rain"])
    assert asked == ["rain"]


def test_golden_answers_of_other_probes_another_width_or_no_numbers(model, golden):
    found = _found(doctor.tripwire(model, golden=replace(golden, probes=b"others")))
    assert [finding.level for finding in found.values()] == ["warning", "warning"]
    assert "other probes" in found["text golden"].sentence
    narrow = replace(golden, audio=golden.audio[:, :4].copy())
    assert "another model" in _only(doctor.tripwire(model, golden=narrow), "audio golden")
    broken = replace(golden, text=np.full_like(golden.text, np.nan))
    assert "not well when it was saved" in _only(doctor.tripwire(model, golden=broken), "text golden")


def test_half_precision_has_a_tolerance_of_its_own(model, golden):
    found = _found(doctor.examine(model.bfloat16(), golden=golden, full=True))
    assert not found
    checks = {finding.check for finding in doctor.examine(model, full=True)}
    assert "audio float16" in checks and "audio bfloat16" not in checks


# Answers


@pytest.mark.parametrize("tower", ["audio", "text"])
def test_a_collapsed_tower_is_told_from_the_other(model, tower):
    projection = getattr(model, f"{tower}_projection")
    projection.weight.copy_(torch.outer(torch.randn(8), torch.randn(16)) * 0.05)
    projection.bias.fill_(3.0)
    for findings in (doctor.examine(model), doctor.tripwire(model)):
        found = _found(findings)[f"{tower} collapse"]
        assert found.level == "failure" and "untrained or has collapsed" in found.sentence
        assert found.figures["mean_cosine"] > 0.8
        assert ({"audio collapse", "text collapse"} & set(_found(findings))) == {f"{tower} collapse"}


@pytest.mark.parametrize("tower", ["audio", "text"])
def test_equal_answers_are_certain(model, tower):
    getattr(model, f"{tower}_projection").weight *= 1e-9
    found = _found(doctor.tripwire(model))
    assert found[f"{tower} collapse"].level == "failure" and "the same answer" in found[f"{tower} collapse"].sentence


def test_a_narrow_cone_that_still_ranks_is_a_warning(model):
    sideways = torch.ones(8)
    texts = model.text_projection(model.text_encoder(probes.sentences())).norm(dim=1).mean()
    model.text_projection.bias += sideways * texts
    findings = doctor.examine(model)
    found = _found(findings)["text collapse"]
    assert found.figures["mean_cosine"] > 0.8
    assert found.level == "warning" and "sounds still find their sentences" in found.sentence
    assert "audio collapse" not in _found(findings)


def test_towers_that_do_not_agree_are_a_warning(model):
    shuffled = Wrapped(model, text=lambda embed, items: np.roll(embed(items), 2, axis=0))
    found = _found(doctor.examine(shuffled))["agreement"]
    assert found.level == "warning" and found.sentence.startswith("0 of 6 sounds") and "untrained" in found.sentence


def test_agreement_is_an_exact_test(trained):
    exact = answers.agreement(np.eye(6, dtype=np.float32), np.eye(6, dtype=np.float32))
    assert (exact.found, exact.chance) == (6, 1 / 720)
    same = np.ones((6, 1), np.float32)
    assert answers.agreement(same, same).chance == 1.0
    one = answers.agreement(np.eye(6, dtype=np.float32), np.diag([1, 0, 0, 0, 0, 0]).astype(np.float32))
    assert one.chance == pytest.approx(1 / 6)  # of all ways to deal six sentences, those that deal the first one right


def test_answers_that_depend_on_the_batch(model):
    centred = Wrapped(model, audio=lambda embed, items: _unit(embed(items) - 0.1 * embed(items).mean(0)))
    sentence = _found(doctor.examine(centred))["audio batch"].sentence
    assert "depends on what else is in the batch" in sentence and "0.2 to 12 s" in sentence
    padded = Wrapped(model, text=lambda embed, items: embed([item.ljust(max(map(len, items))) for item in items]))
    found = _found(doctor.examine(padded))
    assert found["text batch"].level == "failure" and "audio batch" not in found


def test_a_difference_beyond_rounding_but_small_is_a_warning(model):
    def shift(embed, items):
        vectors = embed(items)
        vectors[:, 0] += 3e-5 * (len(items) > 1)
        return vectors

    found = _found(doctor.examine(Wrapped(model, audio=shift)))
    assert found["audio batch"].level == "warning" and 1e-5 < found["audio batch"].figures["difference"] < 1e-4


def test_random_answers(model):
    generator = np.random.default_rng(0)

    def noisy(embed, items):
        vectors = embed(items)
        return _unit(vectors + generator.normal(size=vectors.shape) * 0.01)

    found = _found(doctor.examine(Wrapped(model, text=noisy)))
    assert found["text repeat"].level == "failure" and "different answers" in found["text repeat"].sentence
    assert "audio repeat" not in found


def test_a_random_crop_of_long_sounds_only(model):
    """As in LAION-CLAP's default: short clips repeat to the last bit, long ones do not."""
    generator = np.random.default_rng(0)

    def crop(embed, items):
        begins = [int(generator.integers(max(1, len(item) - 160_000))) for item in items]
        return embed([item[begin : begin + 160_000] for item, begin in zip(items, begins, strict=True)])

    wrapped = Wrapped(model, audio=crop)
    assert not doctor.tripwire(wrapped)
    assert _found(doctor.examine(wrapped))["audio repeat"].level == "failure"


@pytest.mark.parametrize("error", [ValueError("there is no text tower"), OSError("no network")])
def test_without_texts_sounds_are_still_checked(model, golden, error):
    def fail(embed, items):
        raise error

    wrapped = Wrapped(model, text=fail)
    findings = doctor.examine(wrapped, golden=golden)
    found = _found(findings)
    assert set(found) == {"weights", "text unreached", "agreement"}
    assert {finding.level for finding in found.values()} == {"warning"}
    assert str(error) in found["text unreached"].sentence
    assert {"audio golden", "audio collapse", "audio batch", "audio repeat"} <= {finding.check for finding in findings}
    assert doctor.tripwire(wrapped, golden=golden) == ()


def test_a_model_that_only_hears():
    model = tiny.model(text=None)
    found = _found(doctor.examine(model, full=True))
    assert "no text tower" in found["text unreached"].sentence
    assert doctor.tripwire(model) == ()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda embed, items: embed(items) * 3, "expected unit vectors, got one of length 3"),
        (lambda embed, items: embed(items)[:-1], "expected float32 of shape (6, 8), got float32 of shape (5, 8)"),
        (lambda embed, items: embed(items).astype(float), "expected float32 of shape (6, 8), got float64 of shape"),
        (lambda embed, items: embed(items).tolist(), "expected float32 of shape (6, 8), got list"),
        (lambda embed, items: {}["rate"], "no answer to 6 sounds (KeyError: 'rate')"),
        (lambda embed, items: embed(items) * [[math.nan]] * 1, "got float64"),
    ],
)
def test_answers_that_are_none(model, spoil, sentence):
    assert sentence in _only(doctor.tripwire(Wrapped(model, audio=spoil)), "audio answers")


def test_clips_that_a_model_refuses_are_said(model):
    def long_only(embed, items):
        if min(map(len, items)) < 8000:
            raise ValueError("at least half a second")
        return embed(items)

    found = _found(doctor.examine(Wrapped(model, audio=long_only)))["audio batch"]
    assert found.level == "failure" and "at least half a second" in found.sentence


def test_no_torch_module_is_said(model, golden):
    wrapped = Wrapped(model)
    assert isinstance(wrapped, Embedder)
    found = _found(doctor.examine(wrapped, golden=golden, full=True))
    assert set(found) == {"weights", "half precision"}
    assert doctor.tripwire(wrapped, golden=golden) == ()


def test_half_precision_shares_what_cannot_be_copied(model, golden):
    model.text_encoder.session = threading.Lock()
    assert not _found(doctor.examine(model, golden=golden, full=True))


# The command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps."""
    small = ("model.audio.width=24", "model.audio.depth=3", "model.audio.heads=2", "model.audio.hidden=24")
    settings = (*small, "budget.clips=6", "training.steps=2", "checks=[]", "threads=1")
    folder = tmp_path_factory.mktemp("model")
    recipes.run(recipes.override(recipes.find("pocket"), settings), folder=folder)
    return folder


def _doctor(*arguments, folder):
    return processes.lapis("doctor", *arguments, folder=folder)


def test_the_command_says_one_line_a_check(run, tmp_path):
    shown = _doctor(run, "--full", folder=tmp_path)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    lines = shown.stdout.splitlines()
    assert not any("golden answers" in line for line in lines), "a run records them"
    assert len(lines) == 21 and all(line.split()[0] in ("fine", "warning") for line in lines)


def test_a_broken_model_is_exit_status_1(run, tmp_path):
    model = load(run, check=False)
    model.audio_projection.weight[0, 0] = math.nan
    save_pretrained(model, tmp_path / "broken")
    answer = _doctor("broken", "--json", folder=tmp_path)
    assert answer.returncode == 1 and "Traceback" not in answer.stderr
    findings = {finding["check"]: finding for finding in map(json.loads, answer.stdout.splitlines())}
    assert set(findings["finite weights"]) == {"check", "level", "sentence", "figures"}
    assert findings["finite weights"]["level"] == findings["audio answers"]["level"] == "failure"
    assert "audio_projection.weight" in findings["finite weights"]["sentence"]
    assert "text golden" in findings and "text float16" not in findings


def test_no_model_is_exit_status_2(tmp_path):
    answer = _doctor("nowhere", folder=tmp_path)
    assert answer.returncode == 2 and answer.stderr.startswith("lapis: ") and "Traceback" not in answer.stderr
