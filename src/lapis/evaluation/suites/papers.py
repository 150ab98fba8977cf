"""Every benchmark of GLAP, SLAP and M2D-CLAP that a finished model can be measured on; names are those under which
`published` has the papers' figures. What is not measured here stands in `ELSEWHERE`.

Where papers ask in different words the plain name has EVAR's sentence (M2D-CLAP, and the best guess for SLAP), and
GLAP's stands beside it. Features of the linear probes are those of M2D where a model has them.
"""

import hashlib
from dataclasses import dataclass, replace

from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.datasets.aishell2 import Aishell2
from lapis.datasets.audiocaps import AudioCaps
from lapis.datasets.audioset import AudioSet
from lapis.datasets.auto_acd import AutoAcd
from lapis.datasets.clotho import Clotho
from lapis.datasets.crema_d import CremaD
from lapis.datasets.esc50 import Esc50
from lapis.datasets.fluent_speech_commands import FluentSpeechCommands
from lapis.datasets.fsd50k import Fsd50k
from lapis.datasets.gigaspeech import GigaSpeech
from lapis.datasets.gtzan import Gtzan
from lapis.datasets.languages import flores
from lapis.datasets.librispeech import LibriSpeech
from lapis.datasets.mswc import Mswc
from lapis.datasets.musiccaps import MusicCaps
from lapis.datasets.nsynth import Nsynth
from lapis.datasets.ravdess import Ravdess
from lapis.datasets.song_describer import SongDescriber
from lapis.datasets.speech_commands import SpeechCommands
from lapis.datasets.surge import Surge
from lapis.datasets.urbansound8k import UrbanSound8k
from lapis.datasets.vggsound import VggSound
from lapis.datasets.vocalsound import VocalSound
from lapis.datasets.voxceleb1 import VoxCeleb1
from lapis.datasets.voxforge import VoxForge
from lapis.evaluation.asking import ByLabels
from lapis.evaluation.benchmark import Benchmark, Beside
from lapis.evaluation.captioning import Captioning
from lapis.evaluation.features import FeatureKind
from lapis.evaluation.fine_tuning import FineTuning, Tuning
from lapis.evaluation.keywords import Keywords
from lapis.evaluation.labels import LANGUAGES
from lapis.evaluation.linear import Fitting, LinearProbe
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.subject import Made, Measuring
from lapis.layers.augment import SpecAugment
from lapis.layers.masking import Masking
from lapis.train.optim import AdamW, Lars

ENGLISH = ("eng_Latn",)
FEATURES: tuple[FeatureKind, ...] = ("frames", "tokens", "vectors")

MSWC_CODES = (
    *("ar", "as", "br", "ca", "cnh", "cs", "cv", "cy", "de", "dv", "el", "en", "eo", "es", "et", "eu", "fa", "fr"),
    *("fy-NL", "ga-IE", "gn", "ha", "ia", "id", "it", "ka", "ky", "lt", "lv", "mn", "mt", "nl", "or", "pl", "pt"),
    *("rm-sursilv", "rm-vallader", "ro", "ru", "rw", "sah", "sk", "sl", "sv-SE", "ta", "tr", "tt", "uk", "vi", "zh-CN"),
)


@dataclass(frozen=True)
class Transcribed:
    """The clips of a source in which something is said."""

    source: SourceConfig

    def build(self) -> list[Sample]:
        """Those that have a transcript."""
        return [sample for sample in self.source.build() if sample.transcript]


@dataclass(frozen=True)
class DealtBySpeaker:
    """The clips of sources that have no official split, dealt into folds so that no speaker is in two of them.

    A clip without a known speaker is a speaker of its own.
    """

    sources: tuple[SourceConfig, ...]
    folds: int = 5

    def build(self) -> list[Sample]:
        """The clips; their split is the fold."""
        return [self._dealt(sample) for source in self.sources for sample in source.build()]

    def _dealt(self, sample: Sample) -> Sample:
        speaker = f"{sample.language}/{sample.speaker or sample.key}"
        number = int(hashlib.sha256(speaker.encode()).hexdigest(), 16) % self.folds
        return replace(sample, split=f"fold{number + 1}")


@dataclass(frozen=True)
class Together:
    """The clips of several sources."""

    sources: tuple[SourceConfig, ...]

    def build(self) -> list[Sample]:
        """One source after another."""
        return [sample for source in self.sources for sample in source.build()]


def _asked(
    name: str,
    source: SourceConfig,
    protocol: Measuring | Made,
    language: str = "eng_Latn",
    *,
    published: str = "",
    split: str = "",
) -> Benchmark:
    beside = Beside(published, split) if published else None
    return Benchmark(name, source, protocol, languages=(language,), published=beside)


FIVE = Retrieval(languages=ENGLISH)
"""Every caption a query, five a clip in AudioCaps' and Clotho's tests."""

RETRIEVAL = (
    _asked("audiocaps-retrieval-1", AudioCaps("test"), FIVE, published="audiocaps-retrieval", split="test"),
    _asked("audiocaps-retrieval-one-1", AudioCaps("test"), Retrieval(languages=ENGLISH, max_captions=1)),
    _asked("clotho-retrieval-1", Clotho("evaluation"), FIVE, published="clotho-retrieval", split="test"),
    _asked("clotho-retrieval-one-1", Clotho("evaluation"), Retrieval(languages=ENGLISH, max_captions=1)),
    _asked("auto_acd-retrieval-1", AutoAcd("test"), FIVE),
    _asked("musiccaps-retrieval-1", MusicCaps("eval"), FIVE, published="musiccaps-retrieval", split="eval"),
    _asked("song_describer-retrieval-1", SongDescriber("full"), FIVE),
    _asked(
        "librispeech-retrieval-1",
        LibriSpeech("test-other"),
        Retrieval("transcript"),
        published="librispeech-retrieval",
        split="test-other",
    ),
    _asked("librispeech-retrieval-clean-1", LibriSpeech("test-clean"), Retrieval("transcript")),
    _asked(
        "gigaspeech-retrieval-1",
        Transcribed(GigaSpeech("TEST")),
        Retrieval("transcript"),
        published="gigaspeech-retrieval",
        split="test",
    ),
    _asked("gigaspeech-retrieval-dev-1", Transcribed(GigaSpeech("DEV")), Retrieval("transcript")),
    _asked(
        "aishell2-retrieval-1",
        Aishell2("test"),
        Retrieval("transcript"),
        "zho_Hans",
        published="aishell2-retrieval",
        split="test",
    ),
)

ZEROSHOT = (
    _asked("esc50-zeroshot-1", Esc50(), ByLabels("esc50", ("evar",)), published="esc50-zeroshot"),
    _asked("esc50-zeroshot-glap-1", Esc50(), ByLabels("esc50", ("glap",)), published="esc50-zeroshot"),
    _asked("esc50-zeroshot-ensemble-1", Esc50(), ByLabels("esc50", ("evar", "glap", "lapis"))),
    _asked(
        "urbansound8k-zeroshot-1",
        UrbanSound8k(),
        ByLabels("urbansound8k", ("evar",)),
        published="urbansound8k-zeroshot",
    ),
    _asked(
        "urbansound8k-zeroshot-glap-1",
        UrbanSound8k(),
        ByLabels("urbansound8k", ("glap",)),
        published="urbansound8k-zeroshot",
    ),
    _asked(
        "urbansound8k-zeroshot-wavcaps-1",
        UrbanSound8k(),
        ByLabels("urbansound8k", ("wavcaps",)),
        published="urbansound8k-zeroshot",
    ),
    _asked("gtzan-zeroshot-1", Gtzan("test"), ByLabels("gtzan", ("evar",)), published="gtzan-zeroshot"),
    _asked("gtzan-zeroshot-glap-1", Gtzan("all"), ByLabels("gtzan", ("glap",)), published="gtzan-zeroshot"),
    # EVAR measures the test clips of a list of its own: these are all clips, so nothing published stands beside them.
    _asked("crema_d-zeroshot-all-1", CremaD(), ByLabels("crema_d", ("evar",))),
    _asked("ravdess-zeroshot-1", Ravdess("speech"), ByLabels("ravdess", ("lapis",)), published="ravdess-zeroshot"),
    _asked("nsynth-zeroshot-1", Nsynth("test"), ByLabels("nsynth", ("evar",)), published="nsynth-zeroshot"),
    _asked(
        "vocalsound-zeroshot-1", VocalSound("test"), ByLabels("vocalsound", ("glap",)), published="vocalsound-zeroshot"
    ),
    _asked("vggsound-zeroshot-1", VggSound("test"), ByLabels("vggsound", ("wavcaps",)), published="vggsound-zeroshot"),
    _asked(
        "fsd50k-zeroshot-1",
        Fsd50k("test"),
        ByLabels("fsd50k", ("evar",), kind="multi-label"),
        published="fsd50k-zeroshot",
    ),
    _asked(
        "fsd50k-zeroshot-glap-1",
        Fsd50k("test"),
        ByLabels("fsd50k", ("glap",), kind="multi-label"),
        published="fsd50k-zeroshot",
    ),
    _asked(
        "audioset-zeroshot-1",
        AudioSet("eval"),
        ByLabels("audioset", ("evar",), kind="multi-label"),
        published="audioset-zeroshot",
    ),
    *(
        _asked(
            f"{dataset}-zeroshot-{language}-1",
            source,
            ByLabels(dataset, ("lapis",), language),
            language,
            published=f"{dataset}-zeroshot" + ("" if language == "eng_Latn" else f"-{language}"),
        )
        for dataset, source in (("esc50", Esc50()), ("urbansound8k", UrbanSound8k()), ("gtzan", Gtzan("all")))
        for language in LANGUAGES
    ),
)

CAPTIONING = (
    _asked("audiocaps-captioning-1", AudioCaps("test"), Captioning(), published="audiocaps-captioning", split="test"),
    _asked("clotho-captioning-1", Clotho("evaluation"), Captioning(), published="clotho-captioning", split="test"),
)

KEYWORDS = (
    _asked(
        "speech_commands-v1-kws-1",
        SpeechCommands("test", "0.01"),
        ByLabels("speech_commands", ("glap",), without=("backward", "follow", "forward", "learn", "visual")),
        published="speech_commands-v1-kws",
    ),
    _asked(
        "speech_commands-v2-kws-1",
        SpeechCommands("test", "0.02"),
        ByLabels("speech_commands", ("glap",)),
        published="speech_commands-v2-kws",
    ),
    _asked(
        "fluent_speech_commands-zeroshot-1",
        FluentSpeechCommands("test"),
        Keywords(),
        published="fluent_speech_commands-zeroshot",
    ),
    *(
        _asked(
            f"mswc-kws-{flores(code)}{'-' + code[3:] if code.startswith('rm-') else ''}-1",
            Mswc("test", code),
            Keywords(),
            flores(code),
        )
        for code in MSWC_CODES
    ),
)

# EVAR's linear probes let no test clip decide, so its figures do not stand beside lines as released.
LINEAR = (
    Benchmark("esc50-linear-1", Esc50(), LinearProbe(None, features=FEATURES), published=Beside("esc50-linear")),
    Benchmark(
        "urbansound8k-linear-1",
        UrbanSound8k(),
        LinearProbe(None, features=FEATURES),
        published=Beside("urbansound8k-linear"),
    ),
    Benchmark(
        "esc50-linear-as-released-1", Esc50(), LinearProbe(None, features=FEATURES, fitting=Fitting(as_released=True))
    ),
    Benchmark(
        "urbansound8k-linear-as-released-1",
        UrbanSound8k(),
        LinearProbe(None, features=FEATURES, fitting=Fitting(as_released=True)),
    ),
    Benchmark(
        "speech_commands-v2-linear-1",
        SpeechCommands("test"),
        LinearProbe(SpeechCommands("train"), SpeechCommands("validation"), features=FEATURES),
        published=Beside("speech_commands-v2-linear"),
    ),
    Benchmark(
        "voxceleb1-linear-1",
        VoxCeleb1("test"),
        LinearProbe(VoxCeleb1("train"), VoxCeleb1("dev"), features=FEATURES),
        published=Beside("voxceleb1-linear"),
    ),
    Benchmark(
        "gtzan-linear-1",
        Gtzan("test"),
        LinearProbe(Gtzan("train"), Gtzan("valid"), features=FEATURES),
        published=Beside("gtzan-linear"),
    ),
    Benchmark(
        "nsynth-linear-1",
        Nsynth("test"),
        LinearProbe(Nsynth("train"), Nsynth("valid"), features=FEATURES),
        published=Beside("nsynth-linear"),
    ),
    Benchmark(
        "surge-linear-1",
        Surge("test"),
        LinearProbe(Surge("train"), Surge("valid"), features=FEATURES),
        published=Beside("surge-linear"),
    ),
    # EVAR ships lists of its own for these two, which are not here: other folds, so nothing published stands beside.
    Benchmark("crema_d-linear-speakers-1", DealtBySpeaker((CremaD(),)), LinearProbe(None, features=FEATURES)),
    Benchmark(
        "voxforge-linear-speakers-1",
        DealtBySpeaker(tuple(VoxForge(code) for code in ("de", "en", "es", "fr", "it", "ru"))),
        LinearProbe(None, features=FEATURES),
    ),
)


def _silenced(frames: int, bands: int) -> SpecAugment.Config:
    """One stretch of time and one of bands, however short the clip is."""
    return SpecAugment.Config(time_masks=1, time_frames=frames, time_share=1.0, band_masks=1, bands=bands)


# The settings of M2D's scripts for fine-tuning; docs/evaluation.md says what is otherwise.
ESC50_TUNING = Tuning(
    clip_seconds=5.0,
    masking=Masking(0.5, "structured"),
    augment=_silenced(48, 15),
    resize=True,
    divided=True,
    frames=501,
    frozen_patches=True,
)
FINE_TUNING = (
    Benchmark(
        "audioset-2m-finetune-1",
        AudioSet("eval"),
        FineTuning(
            Together((AudioSet("balanced_train"), AudioSet("unbalanced_train"))),
            kind="multi-label",
            tuning=Tuning(
                learning_rate=2.0,
                optimizer=Lars(momentum=0.9, weight_decay=0.0),
                epochs=70,
                warmup_epochs=15,
                clips=64,
                mixup=0.5,
                masking=Masking(0.5, "structured"),
                augment=_silenced(192, 30),
                frames=1001,
                balanced_draws=200_000,
                held_out=0.01,  # 20,000 clips are enough to decide, and are asked 70 times
            ),
        ),
        published=Beside("audioset-2m-finetune"),
    ),
    Benchmark(
        "audioset-20k-finetune-1",
        AudioSet("eval"),
        FineTuning(
            AudioSet("balanced_train"),
            kind="multi-label",
            tuning=Tuning(
                clips=64,
                mixup=0.3,
                masking=Masking(0.5, "structured"),
                augment=_silenced(192, 30),
                resize=True,
                frames=1001,
            ),
        ),
        published=Beside("audioset-20k-finetune"),
    ),
    # The published ones are of the best epoch on the test clips, as the second line is; their sources say so.
    Benchmark("esc50-finetune-1", Esc50(), FineTuning(None, tuning=ESC50_TUNING), published=Beside("esc50-finetune")),
    Benchmark(
        "esc50-finetune-as-released-1",
        Esc50(),
        FineTuning(None, tuning=replace(ESC50_TUNING, as_released=True)),
        published=Beside("esc50-finetune"),
    ),
    Benchmark(
        "speech_commands-v2-finetune-1",
        SpeechCommands("test"),
        FineTuning(
            SpeechCommands("train"),
            SpeechCommands("validation"),
            tuning=Tuning(
                clip_seconds=1.0,
                mixup=0.3,
                masking=Masking(0.5, "structured"),
                augment=_silenced(48, 30),
                resize=True,
                divided=True,
            ),
        ),
        published=Beside("speech_commands-v2-finetune"),
    ),
    Benchmark(
        "voxceleb1-finetune-1",
        VoxCeleb1("test"),
        FineTuning(
            VoxCeleb1("train"),
            VoxCeleb1("dev"),
            tuning=Tuning(
                learning_rate=5e-4,
                optimizer=AdamW(betas=(0.9, 0.95), epsilon=1e-8, weight_decay=1e-4),
                epochs=50,
                clips=64,
                clip_seconds=8.2,
                augment=_silenced(48, 30),
                divided=True,
                frames=821,
            ),
        ),
        published=Beside("voxceleb1-finetune"),
    ),
)

BENCHMARKS = (*RETRIEVAL, *ZEROSHOT, *CAPTIONING, *KEYWORDS, *LINEAR)

ELSEWHERE = {
    **{of.name: "it trains the whole tower, for hours or days: the suite papers-finetuning" for of in FINE_TUNING},
    "crema_d-zeroshot": "EVAR's split is a list of its own; crema_d-zeroshot-all has all clips",
    "crema_d-linear": "EVAR's split is a list of its own; crema_d-linear-speakers deals speakers into folds",
    "voxforge-linear": "EVAR's split is a list of its own; voxforge-linear-speakers deals speakers into folds",
    "vctk-retrieval": "no reader of VCTK is here; GLAP's figure on it is not known",
}
"""Benchmarks of the papers that this suite does not measure, and why."""
