"""Our benchmarks as tasks of mteb: the same clips, texts and relevance, measured by mteb's code.

Retrieval becomes two tasks, one a direction; zero-shot classification with one prompt a class becomes one task, and
keyword spotting one a language that has words enough. What mteb has no task of the same meaning for is refused and
not bent to fit.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.evaluation.benchmark import Benchmark
from lapis.evaluation.keywords import Keywords, word_of
from lapis.evaluation.results import data_checksum
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.subject import Made
from lapis.evaluation.zeroshot import ZeroShot

SPLIT = "test"
Way = Literal["t2a", "a2t", "zero-shot", "keywords"]

DOMAINS: Mapping[str, list[str]] = {"sound": ["AudioScene"], "music": ["Music"], "speech": ["Speech", "Spoken"]}
SUBTYPES: Mapping[tuple[str, str], str] = {
    ("retrieval", "sound"): "Environment Sound Retrieval",
    ("retrieval", "music"): "Music Caption Retrieval",
    ("retrieval", "speech"): "Speech Transcription Retrieval",
    ("zero-shot", "sound"): "Environment Sound Classification",
    ("keywords", "speech"): "Keyword Spotting",
}
"""Where the kind and the domain decide it; mteb has finer words for music and speech, which a person chooses."""

MAY_STAY_EMPTY = ("prompt", "adapted_from", "contributed_by", "superseded_by")
"""In the metadata of a submission, by mteb's own check."""


def mteb_tasks(benchmark: Benchmark, **metadata: Any) -> list[Any]:
    """The tasks of a benchmark, for `mteb.evaluate`. Sound that is a part of an archive is held in memory.

    Args:
        benchmark: of `lapis.evaluation.suite.SUITES`, or another.
        metadata: fields of mteb's `TaskMetadata` that are not known here, or others for those that are.

    Raises:
        ValueError: the clips are not there, mteb has no task of this meaning, or it does not take a field.
    """
    samples = benchmark.source.build()
    protocol = benchmark.protocol(samples) if isinstance(benchmark.protocol, Made) else benchmark.protocol
    if isinstance(protocol, Retrieval):
        return [_retrieval(protocol, samples, _described(benchmark, samples, way, metadata)) for way in ("t2a", "a2t")]
    if isinstance(protocol, ZeroShot):
        described = _described(benchmark, samples, "zero-shot", metadata)
        return [_zero_shot(protocol, samples, described, name=benchmark.name)]
    if isinstance(protocol, Keywords):
        return _keywords(protocol, benchmark, samples, metadata)
    raise ValueError(f"{benchmark.name}: mteb has no task of the same meaning as {type(protocol).__name__}")


def unfilled(task: Any) -> tuple[str, ...]:
    """The fields of a task's metadata that a submission has to fill and that are not known here."""
    fields = [name for name in type(task.metadata).model_fields if name not in MAY_STAY_EMPTY]
    return tuple(name for name in fields if getattr(task.metadata, name) is None)


def _retrieval(protocol: Retrieval, samples: Sequence[Sample], described: Any) -> Any:
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    from datasets import Dataset

    asked = protocol.texts(samples)
    clips = [f"{number:07d} {sample.key}" for number, sample in enumerate(samples)]
    texts = [f"{number:07d}" for number in range(len(asked.texts))]
    by_text = described.category == "t2a"
    queries, candidates = (texts, clips) if by_text else (clips, texts)
    relevant = asked.relevant if by_text else asked.relevant.T
    pairs = {query: {candidates[place]: 1 for place in np.flatnonzero(row)} for query, row in zip(queries, relevant)}

    class Task(AbsTaskRetrieval):
        metadata = described

        def load_data(self, num_proc: int | None = None, **_: Any) -> None:
            sounds = _sounds({"id": clips}, samples)
            words = Dataset.from_dict({"id": texts, "text": list(asked.texts)})
            self.dataset = {
                "default": {
                    SPLIT: {
                        "queries": words if by_text else sounds,
                        "corpus": sounds if by_text else words,
                        "relevant_docs": pairs,
                        "top_ranked": None,
                    }
                }
            }
            self.data_loaded = True

    return Task()


def _zero_shot(protocol: ZeroShot, samples: Sequence[Sample], described: Any, *, name: str) -> Any:
    from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification

    from datasets import DatasetDict

    if protocol.kind != "single-label":
        raise ValueError(f"{name}: mteb's zero-shot tasks give a clip one class; this benchmark is {protocol.kind}")
    several = [label for label, prompts in protocol.prompts.items() if len(prompts) > 1]
    if several:
        raise ValueError(f"{name}: mteb's zero-shot tasks have one prompt a class, and {several[0]!r} has more")
    number_of = {label: number for number, label in enumerate(protocol.prompts)}
    labels = [number_of[str(sample.label)] for sample in samples]

    class Task(AbsTaskZeroShotClassification):
        metadata = described
        input_column_name = "audio"
        label_column_name = "label"

        def get_candidate_labels(self) -> list[str]:
            return [prompt for (prompt,) in protocol.prompts.values()]

        def load_data(self, num_proc: int | None = None, **_: Any) -> None:
            # Not by subset: mteb's statistics look for the split here.
            self.dataset = cast(Any, DatasetDict({SPLIT: _sounds({"label": labels}, samples)}))
            self.data_loaded = True

    return Task()


def _keywords(protocol: Keywords, benchmark: Benchmark, samples: Sequence[Sample], metadata: Any) -> list[Any]:
    by_language: dict[str, list[Sample]] = {}
    for sample in samples:
        by_language.setdefault(str(sample.language), []).append(replace(sample, label=word_of(sample)))
    tasks = []
    for language, of in sorted(by_language.items()):
        words = sorted({str(sample.label) for sample in of})
        if len(words) >= protocol.min_words:
            asked = ZeroShot({word: (word,) for word in words}, languages=(language,))
            described = _described(replace(benchmark, languages=(language,)), of, "keywords", metadata)
            tasks.append(_zero_shot(asked, of, described, name=benchmark.name))
    if not tasks:
        raise ValueError(f"{benchmark.name}: no language has {protocol.min_words} words")
    return tasks


def _sounds(columns: Mapping[str, Sequence[Any]], samples: Sequence[Sample]) -> Any:
    """Columns and one of sound, which whoever takes a row decodes: here without torchcodec, elsewhere with it."""
    from datasets import Audio, Dataset, Features, Value

    places = [sample.audio.open() for sample in samples]
    sounds = [
        {"bytes": None, "path": str(place)} if isinstance(place, Path) else {"bytes": place, "path": None}
        for place in places
    ]
    kinds = {name: Value("string" if isinstance(column[0], str) else "int64") for name, column in columns.items()}
    files = {"audio": {"bytes": Value("binary"), "path": Value("string")}}
    table = Dataset.from_dict({**columns, "audio": sounds}, features=Features({**kinds, **files}))
    return table.cast_column("audio", Audio())


def _described(benchmark: Benchmark, samples: Sequence[Sample], way: Way, further: Mapping[str, Any]) -> Any:
    """What mteb is told of a task. Its revision is of definition and clips, so that results kept are theirs."""
    from mteb.abstasks.task_metadata import TaskMetadata

    about = _about(benchmark.source)
    domains = sorted({sample.domain for sample in samples if sample.domain})
    retrieval = way in ("t2a", "a2t")
    kind = "retrieval" if retrieval else way
    subtypes = [SUBTYPES[kind, domain] for domain in domains if (kind, domain) in SUBTYPES]
    licence = (about.licence if about else "").lower()
    known = {
        "name": _name(benchmark, way),
        "description": f"{about.name if about else benchmark.name}: {_says(benchmark, retrieval)}",
        "dataset": {
            "path": f"lapis/{benchmark.name}",
            "revision": f"{benchmark.digest}{data_checksum(samples)}"[:40],
        },
        "type": "Any2AnyRetrieval" if retrieval else "AudioZeroshotClassification",
        "category": "t2a" if way == "t2a" else "a2t",
        "modalities": ["audio", "text"],
        "eval_splits": [SPLIT],
        "eval_langs": [language.replace("_", "-") for language in _languages(benchmark, samples)] or ["zxx-Zxxx"],
        "main_score": "hit_rate_at_5" if retrieval else "accuracy",
        "domains": [name for domain in domains for name in DOMAINS.get(domain, [])] or None,
        "task_subtypes": subtypes or None,
        "license": licence if licence in _licences() else None,
        "reference": about.homepage if about and about.homepage.startswith("http") else None,
    }
    return TaskMetadata(**(known | dict(further)))


def _says(benchmark: Benchmark, retrieval: bool) -> str:
    asked = "audio-text retrieval" if retrieval else "zero-shot classification by texts"
    return f"{asked}, benchmark {benchmark.name} of Lapis."


def _name(benchmark: Benchmark, way: Way) -> str:
    """`esc50-zeroshot-1` as `Esc50Zeroshot1`, and the direction or the language behind it."""
    words = re.split(r"[-_]", benchmark.name)
    behind = way.upper() if way in ("t2a", "a2t") else ""
    if way == "keywords" and (language := benchmark.languages[0].replace("_", "")) not in "".join(words):
        behind = language
    return "".join(word[:1].upper() + word[1:] for word in words) + behind


def _languages(benchmark: Benchmark, samples: Sequence[Sample]) -> list[str]:
    """Of the texts."""
    if benchmark.languages:
        return sorted(benchmark.languages)
    protocol = benchmark.protocol
    if isinstance(protocol, Retrieval) and protocol.languages:
        return sorted(protocol.languages)
    if isinstance(protocol, Retrieval) and protocol.relevance == "transcript":
        return sorted({sample.language for sample in samples if sample.language})
    return sorted({language for sample in samples for language in sample.captions})


def _about(source: Any) -> About | None:
    """What is known of the corpus, where its module tells it."""
    about = getattr(sys.modules[type(source).__module__], "ABOUT", None)
    return about if isinstance(about, About) and about.source is type(source) else None


def _licences() -> set[str]:
    """Names of licences that mteb knows."""
    from mteb.types import Licenses

    return set(get_args(Licenses))
