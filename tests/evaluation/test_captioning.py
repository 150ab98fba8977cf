"""The captioning protocol: describers whose answers are known, and a real captioner from a folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
from pitch import PitchEmbedder, pitched

import lapis
import tiny
from lapis import saved
from lapis.captioner import Captioner
from lapis.data.sample import Location, Sample
from lapis.evaluation.captioning import METRICS, Captioning, CaptioningResult, Describer
from lapis.evaluation.captions.scores import CaptionScoring
from lapis.evaluation.figure import Result
from lapis.evaluation.retrieval import CaptionsPerClip
from lapis.objectives.caption import Caption

GERMAN = CaptionScoring(language="deu_Latn")
"""Without METEOR, whose table takes seconds to read."""


@dataclass
class PitchDescriber:
    """Says the pitch that it hears; nothing of a low one, and it refuses what lasts long."""

    model: PitchEmbedder = field(default_factory=PitchEmbedder)
    asked: list[tuple[int, int, int | None]] = field(default_factory=list)
    longest: float = 5.0

    def caption(self, waveforms, *, beam, max_tokens):
        self.asked.append((len(waveforms), beam, max_tokens))
        if any(len(waveform) / self.model.sample_rate > self.longest for waveform in waveforms):
            raise ValueError("a clip is too long")
        angles = torch.from_numpy(self.model.embed_audio(waveforms))
        hertz = (torch.atan2(angles[:, 1], angles[:, 0]) / torch.pi * self.model.sample_rate).round().int().tolist()
        return ["" if pitch < 300 else f"ein Ton von {pitch} Hertz" for pitch in hertz]


def caption(hertz):
    return f"Ein Ton von {hertz} Hertz."


@pytest.fixture
def clips(tmp_path):
    said = [
        (500, (caption(500), "ein tiefer Ton")),
        (1000, (caption(1000),)),
        (2000, (caption(2000), caption(2000), "ein Pfiff", "  ")),
        (200, ("ein Brummen",)),
    ]
    return [pitched(tmp_path, f"clip{hertz}", hertz=hertz, captions={"deu_Latn": texts}) for hertz, texts in said]


def test_every_clip_is_described_and_scored(clips):
    describer = PitchDescriber()
    result = Captioning(GERMAN, beam=2, max_tokens=30).run(describer, clips=clips)
    assert isinstance(describer, Describer) and isinstance(result, Result)
    assert [clip.caption for clip in result.clips] == [
        *(f"ein Ton von {hertz} Hertz" for hertz in (500, 1000, 2000)),
        "",
    ]
    assert result.clips[2].references == (caption(2000), caption(2000), "ein Pfiff")
    assert result.references_per_clip == CaptionsPerClip(1, 7 / 4, 3) and result.num_empty == 1
    assert result.clips[1].scores["cider_d"] == pytest.approx(10) and result.clips[3].scores["rouge_l"] == 0
    assert [clip.key for clip in result.worst] == ["clip200", "clip500", "clip2000", "clip1000"]
    assert describer.asked == [(4, 2, 30)]
    assert result.scores["rouge_l"] == pytest.approx(sum(clip.scores["rouge_l"] for clip in result.clips) / 4)
    assert result.absent["meteor"] == "it is for eng_Latn"


def test_the_sentence_says_how_words_were_searched_and_what_was_left_out(clips):
    sentence = Captioning(GERMAN, max_references=4).run(PitchDescriber(), clips=clips).protocol
    for part in (
        "4 clips with 1 to 3 references a clip in deu_Latn, at most 4 taken",
        "a beam of 3, at most as many tokens as in its training",
        "words split by the rules of Lapis",
        "1 empty references are left out",
        "1 empty captions count as they are",
    ):
        assert part in sentence
    assert "at most 12 tokens" in Captioning(GERMAN, max_tokens=12).run(PitchDescriber(), clips=clips).protocol


def test_captions_stand_beside_what_they_score_for_other_clips(clips):
    result = Captioning(GERMAN).run(PitchDescriber(), clips=clips)
    dealt = [result.clips[number].caption for number in (2, 3, 0, 1)]
    expected = GERMAN.score(dealt, references=[clip.references for clip in result.clips]).corpus
    assert result.of_others == expected and 0 < expected["rouge_l"] < result.scores["rouge_l"]
    assert result.figures["ROUGE-L"].chance == expected["rouge_l"]
    alone = Captioning(GERMAN).run(PitchDescriber(), clips=clips[:1])
    assert alone.of_others == {} and alone.figures["ROUGE-L"].chance is None


def test_empty_references_are_left_out_before_the_first_are_taken(clips):
    late = replace(clips[0], captions={"deu_Latn": (" ", caption(500), "ein tiefer Ton")})
    result = Captioning(GERMAN, max_references=1).run(PitchDescriber(), clips=[late, clips[1]])
    assert result.clips[0].references == (caption(500),) and "1 empty references are left out" in result.protocol


def test_the_worst_are_ten(tmp_path):
    samples = [
        pitched(tmp_path, f"c{n}", hertz=400 + 100 * n, captions={"deu_Latn": (caption(400 + 100 * (n % 7)),)})
        for n in range(12)
    ]
    result = Captioning(GERMAN).run(PitchDescriber(), clips=samples)
    assert len(result.worst) == 10 and len(result.clips) == 12
    kept = {clip.key for clip in result.worst}
    left = [clip.scores["cider_d"] for clip in result.clips if clip.key not in kept]
    assert max(clip.scores["cider_d"] for clip in result.worst) <= min(left)


def test_clips_that_cannot_be_described_are_named_and_cost_the_others_nothing(clips, tmp_path):
    whole = Captioning(GERMAN).run(PitchDescriber(), clips=clips)
    lost = Sample("lost", Location(tmp_path / "lost.wav"), captions={"deu_Latn": ("ein Ton",)})
    long = pitched(tmp_path, "long", hertz=700, seconds=6.0, captions={"deu_Latn": ("ein Ton",)})
    result = Captioning(GERMAN).run(PitchDescriber(), clips=[clips[0], lost, long, *clips[1:]])
    assert result.scores == whole.scores and result.clips == whole.clips
    assert [reason.partition(":")[0] for reason in result.unreadable] == ["lost", "long"]
    assert result.unreadable[1] == "long: the model refuses it: a clip is too long"
    assert "2 unreadable clips are not counted" in result.protocol
    with pytest.raises(ValueError, match="no clip to evaluate: lost: "):
        Captioning(GERMAN).run(PitchDescriber(), clips=[lost])
    with pytest.raises(ValueError, match="no clip to evaluate: none was given"):
        Captioning(GERMAN).run(PitchDescriber(), clips=[])


def test_a_clip_without_references_is_refused_before_the_model_works(clips):
    describer = PitchDescriber()
    with pytest.raises(ValueError, match="clip clip500 has no caption in eng_Latn"):
        Captioning().run(describer, clips=clips)
    blank = replace(clips[0], captions={"deu_Latn": (" ",)})
    with pytest.raises(ValueError, match="clip clip500 has no caption in deu_Latn"):
        Captioning(GERMAN).run(describer, clips=[blank])
    assert describer.asked == []


def test_samples_that_are_made_anew_each_time_keep_their_references(clips):
    class Source(Sequence):
        def __len__(self):
            return len(clips)

        def __getitem__(self, number):
            return replace(clips[number])

    assert Captioning(GERMAN).run(PitchDescriber(), clips=Source()) == Captioning(GERMAN).run(
        PitchDescriber(), clips=clips
    )


def test_long_sounds_go_to_the_model_in_turns(tmp_path):
    samples = [
        pitched(tmp_path, f"c{n}", hertz=500, seconds=50.0, captions={"deu_Latn": (caption(500),)}) for n in range(5)
    ]
    describer = PitchDescriber(longest=60.0)
    Captioning(GERMAN).run(describer, clips=samples)
    assert [count for count, _, _ in describer.asked] == [2, 2, 1]


def test_a_model_that_says_too_little_is_an_error(clips):
    class Silent(PitchDescriber):
        def caption(self, waveforms, *, beam, max_tokens):
            return super().caption(waveforms, beam=beam, max_tokens=max_tokens)[1:]

    with pytest.raises(RuntimeError, match="pitch gave 3 captions for 4 clips"):
        Captioning(GERMAN).run(Silent(), clips=clips)


def test_one_caption_for_all_is_worth_little(clips):
    """CIDEr-D gives next to nothing for what could be said of any clip."""

    class Same(PitchDescriber):
        def caption(self, waveforms, *, beam, max_tokens):
            return ["ein Ton"] * len(waveforms)

    said = Captioning(GERMAN).run(PitchDescriber(), clips=clips)
    same = Captioning(GERMAN).run(Same(), clips=clips)
    assert same.scores["cider_d"] < said.scores["cider_d"] / 3


def test_results_are_ready_for_json_and_for_comparison(clips):
    result = Captioning(GERMAN).run(PitchDescriber(), clips=clips)
    again = json.loads(json.dumps(result.to_dict()))
    assert again["scores"] == result.scores and again["worst"][0]["key"] == "clip200"
    assert again["clips"][0]["references"] == list(result.clips[0].references)
    assert set(result.items) == {"ROUGE-L", "CIDEr"} and set(METRICS) == set(result.scores) | set(result.absent)
    assert set(result.figures) == {METRICS[name] for name in result.scores}
    for name, values in result.items.items():
        figure = result.figures[name]
        assert values.mean() == pytest.approx(figure.value) and figure.interval[0] <= figure.value <= figure.interval[1]
    assert result.figures["BLEU-4"].interval is None
    assert again["figures"]["CIDEr"]["value"] == result.scores["cider_d"]


def test_a_real_captioner_is_measured(tmp_path):
    model, config = tiny.model(), Caption.Config(width=32, depth=1, heads=2, hidden=32, max_tokens=8)
    torch.manual_seed(1)
    captioner = Captioner(model, config=config, decoder=config.build(model).decoder)
    saved.save(model, tmp_path / "model", captioner=captioner)
    samples = [pitched(tmp_path, f"c{hertz}", hertz=hertz, captions={"deu_Latn": ("ein Ton",)}) for hertz in (500, 900)]
    result = Captioning(GERMAN, beam=1, max_tokens=4).run(lapis.load_captioner(tmp_path / "model"), clips=samples)
    assert isinstance(result, CaptioningResult) and len(result.clips) == 2
    assert {"bleu_4", "rouge_l", "cider_d"} <= set(result.scores) and all(v == v for v in result.scores.values())
    assert "a beam of 1, at most 4 tokens" in result.protocol


def test_senseless_protocols_are_refused():
    for name in ("max_references", "beam", "max_tokens"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            Captioning(**{name: 0})
