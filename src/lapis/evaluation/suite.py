"""The table of benchmarks: a line each = samples, protocol, name with a version. A benchmark is never edited, only
superseded by one with a higher version.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.datasets.pocket import Pocket, class_names
from lapis.evaluation.embeddings import AudioEmbeddings, embed_samples
from lapis.evaluation.linear import Fitting, LinearProbe, LinearResult
from lapis.evaluation.retrieval import Retrieval, RetrievalResult
from lapis.evaluation.zeroshot import ZeroShot, ZeroShotResult
from lapis.model import Embedder

Result = RetrievalResult | ZeroShotResult | LinearResult


@dataclass(frozen=True)
class Benchmark:
    """What is measured on which clips; the protocol may depend on them (their labels are the classes)."""

    name: str
    source: SourceConfig
    protocol: Callable[[Sequence[Sample]], Retrieval | ZeroShot] | LinearProbe


def by_name(domain: Literal["sound", "music", "speech"], *, language: str) -> Callable[[Sequence[Sample]], ZeroShot]:
    """Zero-shot among the classes that the clips have, prompted by the class's name in one language alone."""

    def protocol(samples: Sequence[Sample]) -> ZeroShot:
        names, present = class_names(domain), {sample.label for sample in samples}
        return ZeroShot({label: (of[language],) for label, of in names.items() if label in present})

    return protocol


POCKET_LANGUAGES = ("eng_Latn", "deu_Latn", "zho_Hans", "jpn_Jpan")

SUITES: Mapping[str, tuple[Benchmark, ...]] = {
    "pocket": (
        Benchmark("pocket-sound-retrieval-1", Pocket("test", "sound"), lambda samples: Retrieval("label")),
        Benchmark("pocket-music-retrieval-1", Pocket("test", "music"), lambda samples: Retrieval("label")),
        Benchmark("pocket-speech-retrieval-1", Pocket("test", "speech"), lambda samples: Retrieval("transcript")),
        *(
            Benchmark(
                f"pocket-{domain}-zeroshot-{language}-1", Pocket("test", domain), by_name(domain, language=language)
            )
            for domain in ("sound", "music", "speech")
            for language in POCKET_LANGUAGES
        ),
    ),
    "pocket-linear": tuple(
        Benchmark(
            f"pocket-{domain}-linear-1",
            Pocket("test", domain),
            LinearProbe(Pocket("train", domain), Pocket("val", domain), fitting=Fitting(learning_rate=1e-3)),
        )
        for domain in ("sound", "music", "speech")
    ),
}


def run_suite(embedder: Embedder, *, suite: str, progress: Callable[[str], None] | None = None) -> dict[str, Result]:
    """Measure an embedder on every benchmark of a suite; each clip is read and embedded once for all of them.

    Raises:
        ValueError: there is no such suite.
    """
    if suite not in SUITES:
        raise ValueError(f"expected a suite among {sorted(SUITES)}, got {suite!r}")
    embedded: dict[SourceConfig, AudioEmbeddings] = {}
    results: dict[str, Result] = {}
    for benchmark in SUITES[suite]:
        if progress:
            progress(benchmark.name)
        if isinstance(benchmark.protocol, LinearProbe):  # it hears other features than the vectors
            results[benchmark.name] = benchmark.protocol.run(embedder, clips=benchmark.source.build())
            continue
        if benchmark.source not in embedded:
            embedded[benchmark.source] = embed_samples(embedder, samples=benchmark.source.build())
        clips = embedded[benchmark.source]
        results[benchmark.name] = benchmark.protocol(clips.samples).run(embedder, clips=clips)
    return results


def table(results: Mapping[str, Result]) -> list[dict[str, str]]:
    """A row a figure: benchmark, metric, measured, chance."""
    rows = []
    for name, result in results.items():
        if isinstance(result, LinearResult):
            figures = {result.metric: (result.score, result.chance)}
        elif isinstance(result, ZeroShotResult):
            figures = {"accuracy": (result.accuracy, result.chance)}
        else:
            figures = {
                f"{metric} {direction}": (getattr(scores, field), getattr(scores, f"chance_{field}", None))
                for direction, scores in (
                    ("text to audio", result.text_to_audio),
                    ("audio to text", result.audio_to_text),
                )
                for metric, field in (
                    ("R@1", "recall_at_1"),
                    ("R@10", "recall_at_10"),
                    ("mAP@10", "mean_average_precision_at_10"),
                )
            }
        rows += [
            {
                "benchmark": name,
                "metric": metric,
                "measured": f"{measured:.1%}",
                "chance": "" if chance is None else f"{chance:.1%}",
            }
            for metric, (measured, chance) in figures.items()
        ]
    return rows
