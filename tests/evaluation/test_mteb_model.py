"""A wrapped model runs real tasks of mteb offline, and gives the figures of our own protocols on the same data."""

import mteb
import numpy as np
import pytest
import soundfile
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering import AbsTaskClustering
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification
from mteb.models import EncoderProtocol, SearchProtocol
from pitch import CollapsedEmbedder, PitchEmbedder
from torch.utils.data import DataLoader

from datasets import Audio, Dataset, DatasetDict, Features, Value
from lapis import audio
from lapis.datasets.pocket import Pocket
from lapis.evaluation.metrics import retrieval_scores
from lapis.evaluation.mteb_model import MtebModel, Reader
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.zeroshot import ZeroShot
from tiny import model as tiny_model

FILE = {"bytes": Value("binary"), "path": Value("string")}


def described(name: str, **fields) -> TaskMetadata:
    filled = {"eval_langs": ["eng-Latn"], "modalities": ["audio", "text"], "description": "Made in a test."}
    return TaskMetadata(name=name, dataset={"path": "made/here", "revision": "1"}, **(filled | fields))


def sounds(samples, **columns) -> Dataset:
    """As a data set with sound is on the hub: the bytes of files, decoded when a row is taken."""
    files = [{"bytes": sample.audio.open(), "path": None} for sample in samples]
    kinds = {name: Value("string" if isinstance(of[0], str) else "int64") for name, of in columns.items()}
    made = Dataset.from_dict({**columns, "audio": files}, features=Features({**kinds, "audio": FILE}))
    return made.cast_column("audio", Audio())


class PocketRetrieval(AbsTaskRetrieval):
    """Clips of the pocket corpus by the English captions of their label."""

    metadata = described("PocketRetrieval", type="Any2AnyRetrieval", category="t2a", main_score="hit_rate_at_5")

    def load_data(self, **kwargs):
        samples = pocket()
        texts_of = captions(samples)
        texts = [(label, text) for label, of in texts_of.items() for text in of]
        named = [f"{label}/{number}" for number, (label, _) in enumerate(texts)]
        self.dataset = {
            "default": {
                "test": {
                    "corpus": sounds(samples, id=[sample.key for sample in samples]),
                    "queries": Dataset.from_dict({"id": named, "text": [text for _, text in texts]}),
                    "relevant_docs": {
                        name: {sample.key: 1 for sample in samples if sample.label == label}
                        for name, (label, _) in zip(named, texts)
                    },
                    "top_ranked": None,
                }
            }
        }
        self.data_loaded = True


class PocketZeroShot(AbsTaskZeroShotClassification):
    metadata = described("PocketZeroShot", type="AudioZeroshotClassification", category="a2t", main_score="accuracy")
    input_column_name = "audio"

    def get_candidate_labels(self):
        return [f"the sound of {name}" for name in labels(pocket())]

    def load_data(self, **kwargs):
        samples = pocket()
        numbers = [labels(samples).index(sample.label) for sample in samples]
        self.dataset = DatasetDict({"test": sounds(samples, label=numbers)})
        self.data_loaded = True


def pocket():
    """Four clips of each of six classes, by the order of the corpus."""
    samples = Pocket("test", "sound").build()
    chosen = sorted({str(sample.label) for sample in samples})[:6]
    return [of for label in chosen for of in [s for s in samples if s.label == label][:4]]


def labels(samples) -> list[str]:
    return sorted({str(sample.label) for sample in samples})


def captions(samples) -> dict[str, list[str]]:
    return {
        label: sorted({text for s in samples if s.label == label for text in s.captions["eng_Latn"]})
        for label in labels(samples)
    }


def scores(task, model) -> dict[str, float]:
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
    (found,) = result.task_results[0].scores["test"]
    return found


@pytest.fixture(scope="module")
def wrapped() -> MtebModel:
    return MtebModel(tiny_model(), name="lapis/tiny", languages=("eng_Latn", "zho_Hans"))


def test_retrieval_gives_our_own_figures(wrapped):
    found = scores(PocketRetrieval(), wrapped)
    ours = Retrieval("label", languages=("eng_Latn",)).run(wrapped.embedder, clips=pocket()).text_to_audio
    assert found["hit_rate_at_1"] == pytest.approx(ours.recall_at_1, abs=1e-5)
    assert found["hit_rate_at_5"] == pytest.approx(ours.recall_at_5, abs=1e-5)
    assert found["hit_rate_at_10"] == pytest.approx(ours.recall_at_10, abs=1e-5)
    assert 0 < ours.recall_at_1 < ours.recall_at_5 < 1
    assert found["map_at_10"] == pytest.approx(ours.mean_average_precision_at_10, abs=1e-5)
    # What mteb calls recall is the share of the relevant that were found, four a query here.
    assert found["recall_at_5"] < found["hit_rate_at_5"]


def test_zero_shot_gives_our_own_figure(wrapped):
    samples = pocket()
    found = scores(PocketZeroShot(), wrapped)
    ours = ZeroShot({name: (f"the sound of {name}",) for name in labels(samples)}).run(wrapped.embedder, clips=samples)
    assert found["accuracy"] == pytest.approx(ours.accuracy)
    assert found["recall"] == pytest.approx(ours.balanced_accuracy)


class Tones(AbsTaskRetrieval):
    """Twelve tones in files of two rates, more relevant ones a query than are looked at."""

    metadata = described("Tones", type="Any2AnyRetrieval", category="t2a", main_score="hit_rate_at_5")
    relevant = ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10")

    def load_data(self, **kwargs):
        ids = [f"{number:02d}" for number in range(12)]
        tones = [tone(500.0 + 100 * number, rate=8000 if number % 2 else 22_050) for number in range(12)]
        corpus = Dataset.from_dict({"id": ids, "audio": tones})
        queries = Dataset.from_dict({"id": ["q"], "text": ["500"]})
        of = {"corpus": corpus, "queries": queries, "relevant_docs": {"q": dict.fromkeys(self.relevant, 1)}}
        self.dataset = {"default": {"test": {**of, "top_ranked": None}}}
        self.data_loaded = True


def tone(hertz: float, *, rate: int = 8000, seconds: float = 0.5) -> dict:
    return {"array": 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate), "sampling_rate": rate}


def test_where_mean_average_precision_differs():
    """With more relevant candidates than ten mteb divides by all of them, we by ten."""
    found = scores(Tones(), MtebModel(PitchEmbedder(), name="lapis/pitch"))
    assert found["hit_rate_at_1"] == 1
    assert found["map_at_10"] == pytest.approx(10 / 11, abs=1e-5)
    ours = retrieval_scores(np.linspace(1, 0, 12)[None], relevant=np.arange(12)[None] < 11)
    assert ours.mean_average_precision_at_10 == 1


@pytest.mark.parametrize(("relevant", "hit"), [("11", 1.0), ("00", 0.0)])
def test_where_ties_differ(relevant, hit, monkeypatch):
    """Of equal candidates mteb takes the one whose name is last; for us a tie counts against the model."""
    monkeypatch.setattr(Tones, "relevant", (relevant,))
    found = scores(Tones(), MtebModel(CollapsedEmbedder(), name="lapis/collapsed"))
    assert found["hit_rate_at_1"] == hit
    wanted = np.arange(12)[None] == int(relevant)
    assert retrieval_scores(np.ones((1, 12)), relevant=wanted).recall_at_1 == 0


class ToneClasses(AbsTaskClassification):
    metadata = described(
        "ToneClasses", type="AudioClassification", category="a2c", modalities=["audio"], main_score="accuracy"
    )
    input_column_name = "audio"
    samples_per_label = 3
    n_experiments = 2

    def load_data(self, **kwargs):
        low, high = [tone(600.0 + 40 * number) for number in range(4)], [tone(3000.0 + 40 * n) for n in range(4)]
        made = Dataset.from_dict({"audio": low + high, "label": [0] * 4 + [1] * 4})
        self.dataset = DatasetDict({"train": made, "test": made})
        self.data_loaded = True


class ToneClusters(AbsTaskClustering):
    metadata = described(
        "ToneClusters", type="AudioClustering", category="a2c", modalities=["audio"], main_score="v_measure"
    )
    input_column_name = "audio"
    label_column_name = "label"
    max_fraction_of_documents_to_embed = None
    n_clusters = 2

    load_data = ToneClasses.load_data


@pytest.mark.parametrize(("task", "score"), [(ToneClasses, "accuracy"), (ToneClusters, "v_measure")])
def test_tasks_that_need_no_text(task, score):
    assert scores(task(), MtebModel(PitchEmbedder(), name="lapis/pitch"))[score] == pytest.approx(1)


def test_what_mteb_is_told(wrapped):
    meta = wrapped.mteb_model_meta
    assert (meta.name, meta.embed_dim, meta.modalities) == ("lapis/tiny", 8, ["audio", "text"])
    assert meta.languages == ["eng-Latn", "zho-Hans"] and wrapped.sampling_rate == 16_000
    assert meta.n_parameters == sum(weight.numel() for weight in wrapped.embedder.parameters())
    assert isinstance(wrapped, EncoderProtocol) and not isinstance(wrapped, SearchProtocol)
    again = MtebModel(tiny_model(), name="lapis/tiny").mteb_model_meta
    other = MtebModel(tiny_model(seed=1), name="lapis/tiny", license="mit").mteb_model_meta
    assert len(meta.revision) == 40 and again.revision == meta.revision != other.revision
    assert (other.license, other.languages) == ("mit", None)
    hears = MtebModel(tiny_model(text=None), name="lapis/hears")
    assert hears.mteb_model_meta.modalities == ["audio"]
    with pytest.raises(ValueError, match="organization/model_name"):
        MtebModel(tiny_model(), name="tiny")
    with pytest.raises(ValueError, match="text"):
        mteb.evaluate(hears, PocketZeroShot(), cache=None)


def encoded(model, rows: Dataset, **kwargs) -> np.ndarray:
    loader = DataLoader(rows, batch_size=2)
    return model.encode(loader, task_metadata=None, hf_split="test", hf_subset="default", **kwargs)


def test_sound_is_read_as_our_protocols_read_it(tmp_path, wrapped):
    stereo = np.stack([tone(700.0, rate=22_050)["array"], tone(900.0, rate=22_050)["array"]])
    path = tmp_path / "a.flac"
    soundfile.write(path, stereo.T, 22_050, subtype="PCM_24")
    ours = audio.read(path, sample_rate=16_000)
    read = Reader(16_000)
    for sound in (
        {"bytes": path.read_bytes(), "path": "elsewhere.flac"},
        {"bytes": None, "path": str(path)},
        {"array": stereo, "sampling_rate": 22_050},
        {"array": stereo.astype(np.float32).mean(0).tolist(), "sampling_rate": 22_050},
    ):
        (found,) = read([{"audio": sound}])
        np.testing.assert_allclose(found, ours, atol=1e-6)
    with pytest.raises(ValueError, match="has no sound"):
        read([{"audio": None}])
    rows = Dataset.from_dict({"audio": [{"array": stereo, "sampling_rate": 22_050}] * 3})
    expected = wrapped.embedder.embed_audio([ours])
    np.testing.assert_allclose(encoded(wrapped, rows), np.repeat(expected, 3, axis=0), atol=1e-5)


def test_texts_and_texts_beside_sound(wrapped):
    texts = ["a dog", "", "rain"]
    alone = encoded(wrapped, Dataset.from_dict({"text": texts}))
    np.testing.assert_allclose(alone[[0, 2]], wrapped.embedder.embed_text(["a dog", "rain"]), atol=1e-6)
    assert not alone[1].any()
    assert not wrapped.similarity(alone[1:2], alone).any()
    beside = encoded(wrapped, Dataset.from_dict({"text": texts, "audio": [tone(700.0)] * 3}))
    heard = encoded(wrapped, Dataset.from_dict({"audio": [tone(700.0)] * 3}))
    np.testing.assert_allclose(beside[1], heard[1], atol=1e-6)
    both = alone[0] + heard[0]
    np.testing.assert_allclose(beside[0], both / np.linalg.norm(both), atol=1e-6)


def test_what_it_refuses(wrapped):
    class Broken(PitchEmbedder):
        def embed_text(self, texts):
            return np.full((len(texts), 2), np.nan, np.float32)

    texts = Dataset.from_dict({"text": ["500"]})
    with pytest.raises(ValueError, match="vector of text 0 is not finite"):
        encoded(MtebModel(Broken(), name="lapis/broken"), texts)
    with pytest.raises(ValueError, match="precision must be float32, got 'int8'"):
        encoded(wrapped, texts, precision="int8")
    with pytest.raises(ValueError, match=r"column of audio or text, got \['image'\]"):
        encoded(wrapped, Dataset.from_dict({"image": ["x"]}))
