"""Retrieval protocols on sounds whose right answers are known by ear and by hand."""

import json

import numpy as np
import pytest
from pitch import CollapsedEmbedder, PitchEmbedder, pitched

from lapis.data.sample import Location, Sample
from lapis.evaluation.embeddings import embed_samples
from lapis.evaluation.figure import Result
from lapis.evaluation.retrieval import CaptionsPerClip, Retrieval


@pytest.fixture
def clips(tmp_path):
    return [
        pitched(
            tmp_path, "a", hertz=500, captions={"eng_Latn": ("500 hertz", "510 hertz"), "deu_Latn": ("500 Hertz",)}
        ),
        pitched(tmp_path, "b", hertz=1000, captions={"eng_Latn": ("1010 hertz",), "deu_Latn": ("1000 Hertz",)}),
        # Both of its English captions lie nearer to other clips.
        pitched(
            tmp_path, "c", hertz=2000, captions={"eng_Latn": ("900 hertz", "520 hertz"), "deu_Latn": ("2000 Hertz",)}
        ),
    ]


def test_every_caption_is_a_query_and_a_clip_counts_by_its_best(clips):
    result = Retrieval(languages=("eng_Latn",)).run(PitchEmbedder(), clips=clips)
    assert (result.text_to_audio.num_queries, result.text_to_audio.num_candidates) == (5, 3)
    assert result.text_to_audio.recall_at_1 == pytest.approx(3 / 5)
    assert result.text_to_audio.recall_at_5 == 1
    assert (result.audio_to_text.num_queries, result.audio_to_text.num_candidates) == (3, 5)
    # Clip c (2000 Hz) is nearest to b's caption, then to its own at 900 Hz.
    assert result.audio_to_text.recall_at_1 == pytest.approx(2 / 3)
    assert result.audio_to_text.median_rank == 1
    assert result.captions_per_clip == CaptionsPerClip(minimum=1, mean=5 / 3, maximum=2)
    # For a: 500 and 510 Hz are first. For c: its own 900 and 520 Hz stand at ranks 2 and 3, after b's 1010 Hz.
    precisions = [1, 1, (1 / 2 + 2 / 3) / 2]
    assert result.audio_to_text.mean_average_precision_at_10 == pytest.approx(np.mean(precisions))


def test_languages_and_number_of_captions(clips):
    everything = Retrieval().run(PitchEmbedder(), clips=clips)
    assert everything.text_to_audio.num_queries == 8
    german = Retrieval(languages=("deu_Latn",)).run(PitchEmbedder(), clips=clips)
    assert german.text_to_audio.recall_at_1 == german.audio_to_text.recall_at_1 == 1
    assert "3 captions, each relevant to its own clip only in deu_Latn" in german.protocol
    first = Retrieval(languages=("eng_Latn",), max_captions=1).run(PitchEmbedder(), clips=clips)
    assert first.captions_per_clip == CaptionsPerClip(1, 1.0, 1)
    assert "at most 1 a clip and language" in first.protocol
    with pytest.raises(ValueError, match="clip a has no caption in fra_Latn"):
        Retrieval(languages=("fra_Latn",)).run(PitchEmbedder(), clips=clips)


def test_an_equal_caption_of_another_clip_counts_only_by_label(tmp_path):
    same = {"eng_Latn": ("500 hertz",)}
    clips = [pitched(tmp_path, key, hertz=500, captions=same, label="tone") for key in "ab"]
    clips.append(pitched(tmp_path, "c", hertz=3000, captions={"eng_Latn": ("3000 hertz",)}, label="whistle"))
    by_clip = Retrieval().run(PitchEmbedder(), clips=clips)
    assert by_clip.text_to_audio.num_queries == 3
    assert by_clip.text_to_audio.recall_at_1 == pytest.approx(1 / 3)  # The two equal clips tie: against the model.
    by_label = Retrieval(relevance="label").run(PitchEmbedder(), clips=clips)
    assert by_label.text_to_audio.num_queries == 2
    assert by_label.text_to_audio.recall_at_1 == by_label.audio_to_text.recall_at_1 == 1
    assert by_label.text_to_audio.chance_recall_at_1 == pytest.approx((2 / 3 + 1 / 3) / 2)


def test_an_equal_caption_of_another_clip_counts_where_asked_for(tmp_path):
    captions = [("500 hertz", "510 hertz"), ("500 hertz",), ("3000 hertz",)]
    clips = [pitched(tmp_path, key, hertz=500, captions={"eng_Latn": texts}) for key, texts in zip("abc", captions)]
    result = Retrieval("caption").run(PitchEmbedder(), clips=clips)
    assert result.text_to_audio.num_queries == 3
    assert result.captions_per_clip == CaptionsPerClip(minimum=1, mean=4 / 3, maximum=2)
    assert "3 distinct captions, each relevant to all clips that have exactly it" in result.protocol


def test_a_label_owns_the_captions_of_all_its_clips(tmp_path):
    captions = [("500 hertz",), ("510 hertz", "500 hertz"), ("3000 hertz",)]
    labels = ["tone", "tone", "whistle"]
    clips = [
        pitched(tmp_path, str(number), hertz=hertz, captions={"eng_Latn": texts}, label=label)
        for number, (hertz, texts, label) in enumerate(zip((500, 510, 3000), captions, labels))
    ]
    result = Retrieval(relevance="label").run(PitchEmbedder(), clips=clips)
    assert result.text_to_audio.num_queries == 3
    assert result.captions_per_clip == CaptionsPerClip(minimum=1, mean=5 / 3, maximum=2)
    assert result.text_to_audio.mean_average_precision_at_10 == 1
    clips.append(pitched(tmp_path, "unlabelled", hertz=300, captions={"eng_Latn": ("300 hertz",)}))
    with pytest.raises(ValueError, match="clip unlabelled has no label"):
        Retrieval(relevance="label").run(PitchEmbedder(), clips=clips)


def test_equal_transcripts_are_relevant_to_each_other(tmp_path):
    clips = [
        pitched(tmp_path, key, hertz=hertz, transcript=words, captions={"eng_Latn": ("9 hertz",)})
        for key, hertz, words in (("a", 500, "500 yes"), ("b", 505, "500 yes"), ("c", 2000, "2000 no"))
    ]
    result = Retrieval(relevance="transcript").run(PitchEmbedder(), clips=clips)
    assert result.text_to_audio.num_queries == 2
    assert result.text_to_audio.mean_average_precision_at_10 == 1
    assert result.audio_to_text.recall_at_1 == 1
    assert "transcripts" in result.protocol
    with pytest.raises(ValueError, match="clip silent has no transcript"):
        Retrieval(relevance="transcript").run(PitchEmbedder(), clips=[*clips, pitched(tmp_path, "silent", hertz=300)])


def test_a_collapsed_model_finds_nothing(tmp_path):
    clips = [
        pitched(tmp_path, str(number), hertz=100 * number, captions={"eng_Latn": (f"{100 * number} hertz",)})
        for number in range(1, 21)
    ]
    result = Retrieval().run(CollapsedEmbedder(), clips=clips)
    for scores in (result.text_to_audio, result.audio_to_text):
        assert scores.recall_at_10 == scores.mean_average_precision_at_10 == 0
        assert scores.median_rank == 20
        assert scores.chance_recall_at_10 == pytest.approx(0.5)


def test_embeddings_are_shared_by_protocols(clips):
    embedder = PitchEmbedder()
    embeddings = embed_samples(embedder, samples=clips)
    embedder.batches.clear()
    assert Retrieval().run(embedder, clips=embeddings) == Retrieval().run(PitchEmbedder(), clips=clips)
    assert embedder.batches == []


def test_unreadable_clips_are_named_in_the_result(clips, tmp_path):
    lost = Sample("lost", Location(tmp_path / "lost.wav"), captions={"eng_Latn": ("500 hertz",)})
    result = Retrieval().run(PitchEmbedder(), clips=[*clips, lost])
    assert result.text_to_audio.num_candidates == 3
    assert [reason.partition(":")[0] for reason in result.unreadable] == ["lost"]
    assert "1 unreadable clips are not counted" in result.protocol
    with pytest.raises(ValueError, match="no clip to evaluate: lost: "):
        Retrieval().run(PitchEmbedder(), clips=[lost])
    with pytest.raises(ValueError, match="no clip to evaluate: none was given"):
        Retrieval().run(PitchEmbedder(), clips=[])


def test_results_are_ready_for_json(clips):
    result = Retrieval().run(PitchEmbedder(), clips=clips)
    assert json.loads(json.dumps(result.to_dict()))["text_to_audio"]["recall_at_1"] == result.text_to_audio.recall_at_1


def test_senseless_protocols_are_refused():
    with pytest.raises(ValueError, match="transcript"):
        Retrieval(relevance="transcript", languages=("eng_Latn",))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Retrieval(max_captions=0)


def test_empty_captions_are_left_out_and_counted(tmp_path):
    samples = [
        pitched(tmp_path, "x", hertz=500, captions={"eng_Latn": ("500 hertz", "", "  ")}),
        pitched(tmp_path, "y", hertz=1000, captions={"eng_Latn": ("1000 hertz",)}),
    ]
    result = Retrieval().run(PitchEmbedder(), clips=samples)
    assert result.text_to_audio.num_queries == 2 and "2 empty texts are left out" in result.protocol
    late = [*samples, pitched(tmp_path, "w", hertz=2000, captions={"eng_Latn": ("", "2000 hertz", "9 hertz")})]
    first = Retrieval(max_captions=1).run(PitchEmbedder(), clips=late)  # the first that is not empty
    assert first.text_to_audio.num_queries == 3 and first.text_to_audio.recall_at_1 == 1
    bare = [*samples, pitched(tmp_path, "z", hertz=700, captions={"eng_Latn": (" ",)})]
    with pytest.raises(ValueError, match="clip z has no caption"):
        Retrieval().run(PitchEmbedder(), clips=bare)


def test_figures_and_items_of_both_directions(clips):
    result = Retrieval(languages=("eng_Latn",)).run(PitchEmbedder(), clips=clips)
    assert isinstance(result, Result)
    assert result.figures["R@1 text to audio"].value == result.text_to_audio.recall_at_1
    assert result.figures["median rank audio to text"].unit == "rank"
    assert result.groups["R@1 text to audio"].tolist() == [0, 0, 1, 2, 2]  # captions belong to their clips
    assert result.groups["R@1 audio to text"].tolist() == [0, 1, 2]
    for name, items in result.items.items():
        assert items.mean() == pytest.approx(result.figures[name].value)
    stored = json.loads(json.dumps(result.to_dict()))
    assert stored["figures"]["R@1 text to audio"]["value"] == result.text_to_audio.recall_at_1


def test_texts_of_a_label_belong_together(tmp_path):
    captions = [("500 hertz",), ("510 hertz", "500 hertz"), ("3000 hertz",)]
    clips = [
        pitched(tmp_path, str(number), hertz=500, captions={"eng_Latn": texts}, label=label)
        for number, (texts, label) in enumerate(zip(captions, "aab"))
    ]
    result = Retrieval("label").run(PitchEmbedder(), clips=clips)
    assert result.groups["R@1 text to audio"].tolist() == [0, 0, 2]
