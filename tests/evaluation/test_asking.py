"""What zero-shot protocols ask for that are made of the clips."""

import pytest

from lapis.data.sample import Location, Sample
from lapis.datasets.speech_commands import SpeechCommands
from lapis.evaluation.asking import ByLabels
from lapis.evaluation.labels import phrases
from lapis.evaluation.suite import SUITES


def _labelled(labels, tmp_path):
    return [Sample(key=label, audio=Location(tmp_path / f"{label}.wav"), label=label) for label in labels]


def test_all_classes_of_a_table_are_asked_for_whatever_clips_are_there(tmp_path):
    """NSynth's test has ten of eleven families; a corpus of which clips are missing is no easier."""
    families = list(phrases("nsynth"))
    asked = ByLabels("nsynth", ("evar",))(_labelled([name for name in families if name != "synth lead"], tmp_path))
    assert list(asked.prompts) == families and "synth lead" in asked.prompts
    assert list(ByLabels("esc50", ("glap",))(_labelled(["dog"], tmp_path)).prompts) == list(phrases("esc50"))


def test_without_a_table_the_clips_have_the_classes(tmp_path):
    asked = ByLabels("vggsound", ("wavcaps",))(_labelled(["people clapping", "dog barking"], tmp_path))
    assert list(asked.prompts) == ["dog barking", "people clapping"]


def test_an_edition_of_fewer_classes_is_asked_for_its_own(tmp_path):
    with pytest.raises(ValueError, match=r"without: speech_commands has no classes \['sideward'\]"):
        ByLabels("speech_commands", ("glap",), without=("sideward",))(_labelled(["on"], tmp_path))
    asked = {}
    for benchmark in SUITES["papers"]:
        if isinstance(benchmark.source, SpeechCommands) and isinstance(benchmark.protocol, ByLabels):
            asked[benchmark.source.version] = list(benchmark.protocol(_labelled(["on"], tmp_path)).prompts)
    assert [len(asked[version]) for version in ("0.01", "0.02")] == [30, 35]
    later = {"backward", "follow", "forward", "learn", "visual"}
    assert set(asked["0.02"]) - set(asked["0.01"]) == later


def test_all_clips_of_crema_d_stand_beside_nothing_published():
    (benchmark,) = [of for of in SUITES["papers"] if of.name.startswith("crema_d-zeroshot")]
    assert benchmark.name == "crema_d-zeroshot-all-1" and benchmark.published is None
