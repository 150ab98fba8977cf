"""The corpus that ships with the repository: what the README tells is measured here."""

from lapis.datasets.pocket import Pocket
from lapis.evaluation.asking import ByName
from lapis.evaluation.benchmark import Benchmark
from lapis.evaluation.linear import Fitting, LinearProbe
from lapis.evaluation.part import Part
from lapis.evaluation.planted_localisation import PlantedLocalisation
from lapis.evaluation.reliability import Reliability
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.robustness import Robustness

LANGUAGES = ("eng_Latn", "deu_Latn", "zho_Hans", "jpn_Jpan")

BENCHMARKS = (
    Benchmark("pocket-sound-retrieval-1", Pocket("test", "sound"), Retrieval("label")),
    Benchmark("pocket-music-retrieval-1", Pocket("test", "music"), Retrieval("label")),
    Benchmark("pocket-speech-retrieval-1", Pocket("test", "speech"), Retrieval("transcript")),
    *(
        Benchmark(
            f"pocket-{domain}-zeroshot-{language}-1",
            Pocket("test", domain),
            ByName(domain, language),
            languages=(language,),
        )
        for domain in ("sound", "music", "speech")
        for language in LANGUAGES
    ),
    Benchmark(
        "pocket-sound-robustness-1",
        Part(Pocket("test", "sound"), 40),
        Robustness(task=ByName("sound", "eng_Latn"), metrics=("accuracy",)),
        languages=("eng_Latn",),
    ),
    Benchmark(
        "pocket-sound-localisation-1",
        Part(Pocket("test", "sound"), 32),
        PlantedLocalisation(Part(Pocket("val", "sound"), 32), ByName("sound", "eng_Latn")),
        languages=("eng_Latn",),
    ),
    Benchmark("pocket-reliability-1", Pocket("test"), Reliability()),
)

LINEAR = tuple(
    Benchmark(
        f"pocket-{domain}-linear-1",
        Pocket("test", domain),
        LinearProbe(Pocket("train", domain), Pocket("val", domain), fitting=Fitting(learning_rate=1e-3)),
    )
    for domain in ("sound", "music", "speech")
)
"""By features of the tower, which are computed beside its vectors: a suite of its own."""
