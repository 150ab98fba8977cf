"""The pool of shards with sound, music and speech in many languages: `pool/*.tar` in the data folder.

Its validation split is tested. The probes learn from its training split, or from other folds where a corpus is dealt
into folds by recording.
"""

import glob
import hashlib
import json
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lapis.data import sources
from lapis.data.indexed import IndexedSamples
from lapis.data.sample import Sample
from lapis.data.shards import records
from lapis.data.spoken import Spoken
from lapis.datasets.reading import read_json, warn_missing
from lapis.evaluation.asking import ByCaptions, ByTemplates
from lapis.evaluation.benchmark import Benchmark
from lapis.evaluation.few_shot import FewShot
from lapis.evaluation.keywords import Keywords
from lapis.evaluation.linear import Fitting, LinearProbe
from lapis.evaluation.neighbours import Neighbours
from lapis.evaluation.part import Part
from lapis.evaluation.planted_localisation import PlantedLocalisation
from lapis.evaluation.reliability import Reliability
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.robustness import Robustness
from lapis.files import data_path

LANGUAGES = ("eng_Latn", "deu_Latn", "fra_Latn", "spa_Latn", "zho_Hans", "jpn_Jpan", "nld_Latn")
"""Of the captions of urbansound8k, kitchen20 and sampled."""

OBTAIN = "Put the shards of the pool in `pool` of the data folder."


@dataclass(frozen=True)
class Tars(sources.Tars):
    """Tars that say which of them are not there, or not those that `manifest.json` beside them tells of.

    It is called as what it is made of, since the digests of benchmarks hold the name.
    """

    def build(self) -> IndexedSamples:
        """The samples; a part of a corpus must not be measured under the name of the whole: see `MissingClips`.

        Raises:
            ValueError: no shard matches, or a sample or the manifest cannot be read.
        """
        samples = super().build()
        if gaps := self._gaps():
            warn_missing(gaps)
        return samples

    def _gaps(self) -> str:
        """How the shards are others than those of the manifest; empty where they are not."""
        manifest = data_path(self.pattern).parent / "manifest.json"
        if not manifest.is_file():
            return f"{manifest.name} is not beside {self.pattern}: whether all shards are there is not known"
        try:
            told = read_json(manifest)["shards"]
            expected = {name: one for name, one in told.items() if fnmatchcase(name, Path(self.pattern).name)}
            expected = {name: one for name, one in expected.items() if self._clips(one)}
            sizes = {name: int(one["bytes"]) for name, one in expected.items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{manifest}: expected `shards` with their bytes, clips and domains: {error!r}") from error
        found = {Path(path).name: Path(path).stat().st_size for path in self.find()}
        missing = [name for name in sizes if name not in found]
        other = [name for name, size in sizes.items() if found.get(name, size) != size]
        unknown = [name for name in found if name not in told]
        clips, lost = (sum(self._clips(expected[name]) for name in of) for of in (expected, missing))
        gaps = {
            f"{len(missing)} of {len(sizes)} shards with {lost:,} of {clips:,} clips are not there": missing,
            f"shards that {manifest.name} does not tell of": unknown,
            f"shards of another size than {manifest.name} tells": other,
        }
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in gaps.items() if names)

    def _clips(self, shard: dict[str, Any]) -> int:
        return int(shard["clips"] if self.domain is None else shard["domain"].get(self.domain, 0))


@dataclass(frozen=True)
class DealtByRecording:
    """All clips of tars, dealt into folds so that no recording is in two of them.

    `recording` is a regular expression whose first group, in a sample's `source_id`, names its recording.
    """

    pattern: str
    recording: str
    folds: int = 5

    def build(self) -> list[Sample]:
        """The clips; their split is the fold.

        Raises:
            ValueError: no shard matches, or a sample has no recording.
        """
        recordings = {}
        for path in sorted(glob.glob(str(data_path(self.pattern)))):  # noqa: PTH207  (the pattern may hold folders)
            with Path(path).open("rb") as file:
                for record in records(Path(path)):
                    words = record.members["json"]
                    file.seek(words.offset)
                    told = str(json.loads(file.read(words.size or 0)).get("source_id"))
                    found = re.match(self.recording, told)
                    if found is None:
                        raise ValueError(f"{words}: expected a source_id like {self.recording!r}, got {told!r}")
                    recordings[record.key] = found[1]
        return [self._dealt(sample, recordings[sample.key]) for sample in Tars(self.pattern).build()]

    def _dealt(self, sample: Sample, recording: str) -> Sample:
        number = int(hashlib.sha256(recording.encode()).hexdigest(), 16) % self.folds
        return replace(sample, split=f"fold{number + 1}")


def _val(source: str, domain: str | None = None) -> Tars:
    return Tars(f"pool/{source}-val-*.tar", domain=domain)


def _words(source: str, *languages: str) -> Spoken:
    """The speech in some languages, or in any, whose words are known in the language that is spoken."""
    return Spoken(_val(source), languages, others=not languages, transcribed=True)


def _train(source: str) -> Tars:
    return Tars(f"pool/{source}-train-*.tar")


BY_LABEL = ByTemplates(("{name}", "the sound of {name}"))
"""In English the captions of sampled tell the pitch of single clips."""

FITTING = Fitting(learning_rate=1e-3)
"""Unit vectors of small towers need larger steps than EVAR's 3840 features of wide ones."""

LABELLED = {"urbansound8k": 5, "kitchen20": 5, "sampled": 1, "arabic-speech-commands": 5}
"""Corpora with classes, and how many clips the most of shots are: of some drums there is one to learn from."""

FOLDED = {"urbansound8k": r"(\d+)-", "kitchen20": r"\d+-(\w+)-"}
"""Where the recording is named in a clip's `source_id`."""

ENGLISH = ByCaptions("eng_Latn")

DISTURBED = {
    "urbansound8k": ("sound", ENGLISH, "eng_Latn"),
    "sampled": ("music", BY_LABEL, "eng_Latn"),
    "arabic-speech-commands": ("speech", ByCaptions("arb_Arab"), "arb_Arab"),
}
"""Whose clips are disturbed, each in nine ways, so not all of them."""

BENCHMARKS = (
    Benchmark(
        "pool-sound-retrieval-1",
        _val("*", "sound"),
        Retrieval("label", languages=("eng_Latn",)),
        languages=("eng_Latn",),
        obtain=OBTAIN,
    ),
    Benchmark(
        "pool-music-retrieval-1",
        _val("*", "music"),
        Retrieval("label", languages=("eng_Latn",)),
        languages=("eng_Latn",),
        obtain=OBTAIN,
    ),
    *(
        Benchmark(
            f"pool-{source}-retrieval-{language}-1",
            _words(source, language),
            Retrieval("transcript"),
            languages=(language,),
            obtain=OBTAIN,
        )
        for source, languages in {
            "kerstin": ("deu_Latn",),
            "audio-cmn": ("zho_Hans",),
            "artikulate": ("fra_Latn", "pol_Latn"),
        }.items()
        for language in languages
    ),
    Benchmark(
        "pool-gcompris-retrieval-1", _words("gcompris-voices"), Retrieval("transcript"), obtain=OBTAIN
    ),  # all its languages together: the words of other languages are wrong answers too
    *(
        Benchmark(
            f"pool-{source}-zeroshot-{language}-1",
            _val(source),
            BY_LABEL if (source, language) == ("sampled", "eng_Latn") else ByCaptions(language),
            languages=(language,),
            obtain=OBTAIN,
        )
        for source in ("urbansound8k", "kitchen20", "sampled")
        for language in LANGUAGES
    ),
    Benchmark(
        "pool-donateacry-zeroshot-eng_Latn-1",
        _val("donateacry"),
        ByCaptions("eng_Latn"),
        languages=("eng_Latn",),
        obtain=OBTAIN,
    ),
    Benchmark("pool-arabic-kws-1", _val("arabic-speech-commands"), Keywords(), ("arb_Arab",), OBTAIN),
    Benchmark(
        "pool-arabic-kws-eng_Latn-1",  # the English word for the Arabic one that is spoken
        _val("arabic-speech-commands"),
        ByCaptions("eng_Latn"),
        languages=("eng_Latn",),
        obtain=OBTAIN,
    ),
    Benchmark("pool-gcompris-kws-1", _words("gcompris-voices"), Keywords(min_words=5), obtain=OBTAIN),
    *(
        benchmark
        for source, shots in LABELLED.items()
        for benchmark in (
            Benchmark(
                f"pool-{source}-linear-1",
                _val(source),
                LinearProbe(_train(source), features="vectors", fitting=FITTING),
                obtain=OBTAIN,
            ),
            Benchmark(f"pool-{source}-neighbours-1", _val(source), Neighbours(_train(source)), obtain=OBTAIN),
            Benchmark(
                f"pool-{source}-few-shot-1",
                _val(source),
                FewShot(_train(source), tuple(sorted({1, shots}))),
                obtain=OBTAIN,
            ),
        )
    ),
    *(
        benchmark
        for source, recording in FOLDED.items()
        for benchmark in (
            Benchmark(
                f"pool-{source}-folds-linear-1",
                DealtByRecording(f"pool/{source}-*.tar", recording),
                LinearProbe(None, features="vectors", fitting=FITTING),
                obtain=OBTAIN,
            ),
            Benchmark(
                f"pool-{source}-folds-neighbours-1",
                DealtByRecording(f"pool/{source}-*.tar", recording),
                Neighbours(),
                obtain=OBTAIN,
            ),
        )
    ),
    *(
        Benchmark(
            f"pool-{domain}-robustness-1",
            Part(_val(source), 100),
            Robustness(task=asked, metrics=("accuracy",)),
            languages=(language,),
            obtain=OBTAIN,
        )
        for source, (domain, asked, language) in DISTURBED.items()
    ),
    *(
        Benchmark(
            f"pool-sound-localisation{'' if hearing == 'windows' else f'-{hearing}'}-1",
            Part(_val("kitchen20"), 100),
            PlantedLocalisation(Part(_train("kitchen20"), 48), ENGLISH, hearing),
            languages=("eng_Latn",),
            obtain=OBTAIN,
        )
        for hearing in ("windows", "dense")
    ),
    Benchmark(
        "pool-sound-reliability-1",
        _val("*", "sound"),
        Reliability(languages=("eng_Latn",)),
        languages=("eng_Latn",),
        obtain=OBTAIN,
    ),
)
