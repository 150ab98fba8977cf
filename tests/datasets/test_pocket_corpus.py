"""The pocket corpus in data/pocket is complete, freely licensed, decodable and split without leaks."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

FOLDER = Path(__file__).parents[2] / "data" / "pocket"
SIZE_LIMIT = 20_000_000
SAMPLE_RATE = 16_000
ALLOWED_LICENCE = re.compile(r"CC0-1\.0|CC-BY-\d\.\d|CC-BY-SA-\d\.\d(-US)?|MIT")
FIELDS = {
    "attribution",
    "captions",
    "domain",
    "label",
    "language",
    "licence",
    "seconds",
    "source",
    "source_id",
    "speaker",
    "split",
    "transcript",
}
SPLITS = ("train", "val", "test")


@dataclass
class Sample:
    """What the tests need of one clip; the waveform itself is not kept."""

    key: str
    meta: dict[str, Any]
    shard_split: str
    decoded_seconds: float
    rate: int
    channels: int
    finite: bool
    level_db: float
    digest: bytes

    @property
    def recording(self) -> tuple[str, str]:
        """Return the recording the clip was cut from."""
        return self.meta["source"], self.meta["source_id"].partition("#t=")[0]


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    """Read the manifest."""
    return json.loads((FOLDER / "manifest.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def samples(manifest: dict[str, Any]) -> list[Sample]:
    """Decode every clip once."""
    found = []
    for shard in manifest["shards"]:
        with tarfile.open(FOLDER / shard["file"]) as archive:
            parts: dict[str, dict[str, bytes]] = defaultdict(dict)
            for member in archive:
                stream = archive.extractfile(member)
                assert stream is not None, f"expected only plain files in {shard['file']}"
                key, suffix = member.name.split(".")
                parts[key][suffix] = stream.read()
        for key, part in parts.items():
            audio, rate = soundfile.read(io.BytesIO(part["opus"]), dtype="float32", always_2d=True)
            wave = audio[:, 0]
            level = 20 * np.log10(np.sqrt(np.mean(wave.astype(np.float64) ** 2)) + 1e-12)
            digest = hashlib.sha256(np.round(wave * 500).astype(np.int16).tobytes()).digest()
            sample = Sample(
                key,
                json.loads(part["json"]),
                shard["split"],
                len(wave) / rate,
                rate,
                audio.shape[1],
                bool(np.isfinite(wave).all()),
                float(level),
                digest,
            )
            found.append(sample)
    return found


def plain(words: str) -> str:
    """Reduce words to letters and spaces, to compare texts."""
    return re.sub(r"[\W_]+", " ", words.lower()).strip()


def prompt_key(sample: Sample) -> str:
    """Return the key of a telephone prompt, which is the same in every language."""
    return sample.meta["source_id"].rsplit(".", 1)[0].split("/sounds/", 1)[1].split("/", 1)[1]


def classes_of(samples: list[Sample], domain: str) -> dict[str, list[Sample]]:
    """Group the clips of a domain by class."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.meta["domain"] == domain:
            groups[sample.meta["label"]].append(sample)
    return groups


def test_total_size_is_small() -> None:
    total = sum(path.stat().st_size for path in FOLDER.glob("*.tar"))
    assert 0 < total <= SIZE_LIMIT


def test_tars_match_the_manifest(manifest: dict[str, Any]) -> None:
    assert {path.name for path in FOLDER.glob("*.tar")} == {shard["file"] for shard in manifest["shards"]}
    for shard in manifest["shards"]:
        data = (FOLDER / shard["file"]).read_bytes()
        assert len(data) == shard["bytes"]
        assert hashlib.sha256(data).hexdigest() == shard["sha256"]


def test_tar_headers_do_not_depend_on_the_build(manifest: dict[str, Any]) -> None:
    for shard in manifest["shards"]:
        with tarfile.open(FOLDER / shard["file"]) as archive:
            assert all((member.mtime, member.uid, member.gid) == (0, 0, 0) for member in archive)


def test_counts_match_the_manifest(manifest: dict[str, Any], samples: list[Sample]) -> None:
    assert len(samples) == manifest["total"]["clips"] == sum(shard["clips"] for shard in manifest["shards"])
    assert sum(sample.decoded_seconds for sample in samples) == pytest.approx(manifest["total"]["seconds"], abs=1.0)
    assert len({sample.key for sample in samples}) == len(samples)


def test_fields(samples: list[Sample]) -> None:
    for sample in samples:
        meta = sample.meta
        assert set(meta) == FIELDS
        assert meta["domain"] in ("sound", "music", "speech")
        assert meta["split"] == sample.shard_split
        assert meta["captions"] and all(text.strip() for texts in meta["captions"].values() for text in texts)
        assert all(texts for texts in meta["captions"].values())


def test_licences_and_attribution(samples: list[Sample]) -> None:
    for sample in samples:
        assert ALLOWED_LICENCE.fullmatch(sample.meta["licence"]), sample.meta["licence"]
        assert sample.meta["attribution"].strip()


def test_audio_is_sound(samples: list[Sample]) -> None:
    for sample in samples:
        assert (sample.rate, sample.channels) == (SAMPLE_RATE, 1)
        assert sample.finite
        assert sample.level_db > -56, (sample.key, sample.level_db)
        assert 0.15 <= sample.decoded_seconds <= 8.1
        assert abs(sample.decoded_seconds - sample.meta["seconds"]) <= 0.05


def test_splits_share_no_recording(samples: list[Sample]) -> None:
    splits: dict[tuple[str, str], set[str]] = defaultdict(set)
    audio: dict[bytes, set[str]] = defaultdict(set)
    for sample in samples:
        splits[sample.recording].add(sample.meta["split"])
        audio[sample.digest].add(sample.meta["split"])
    assert [name for name, found in splits.items() if len(found) > 1] == []
    assert [found for found in audio.values() if len(found) > 1] == []


def test_speech_splits_share_no_prompt_and_no_text(samples: list[Sample]) -> None:
    speech = [sample for sample in samples if sample.meta["domain"] == "speech"]
    for read in (prompt_key, lambda sample: (sample.meta["language"], plain(sample.meta["transcript"]))):
        values = {split: {read(sample) for sample in speech if sample.meta["split"] == split} for split in SPLITS}
        assert values["train"].isdisjoint(values["test"] | values["val"])
        assert values["val"].isdisjoint(values["test"])


def test_speech_is_transcribed(samples: list[Sample]) -> None:
    speech = [sample for sample in samples if sample.meta["domain"] == "speech"]
    assert len({sample.meta["language"] for sample in speech}) == 5
    for sample in speech:
        meta = sample.meta
        assert meta["captions"][meta["language"]][0] == meta["transcript"]
        assert len(meta["captions"]) >= 7
        assert re.search(r"\w", meta["transcript"]) and not re.search(r"[\[\]<>{}()]", meta["transcript"])


@pytest.mark.parametrize("domain", ["sound", "music"])
def test_classes_are_described_in_many_languages(samples: list[Sample], domain: str) -> None:
    named = json.loads((FOLDER / "classes.json").read_text("utf-8"))
    groups = classes_of(samples, domain)
    assert set(groups) == {label for label, entry in named.items() if entry["domain"] == domain}
    for label, members in groups.items():
        texts: dict[str, set[str]] = defaultdict(set)
        for sample in members:
            for code, sentences in sample.meta["captions"].items():
                texts[code].update(sentences)
        assert len(texts["eng_Latn"]) >= 3, label
        assert len(set(texts) - {"eng_Latn"}) >= 6, label
        assert {"zho_Hans", "jpn_Jpan"} <= set(texts), label
        assert set(texts) == set(named[label]["names"]), label


def test_languages_spoken_are_named_for_zero_shot(samples: list[Sample]) -> None:
    named = json.loads((FOLDER / "classes.json").read_text("utf-8"))
    groups = classes_of(samples, "speech")
    assert set(groups) == {label for label, entry in named.items() if entry["domain"] == "speech"}
    assert all(len(set(entry["names"].values())) == 8 for entry in named.values() if entry["domain"] == "speech")


@pytest.mark.parametrize("domain", ["sound", "music"])
def test_every_class_can_be_learned_and_tested(samples: list[Sample], domain: str) -> None:
    for label, members in classes_of(samples, domain).items():
        counts = {split: sum(sample.meta["split"] == split for sample in members) for split in SPLITS}
        assert counts["train"] >= 3 and counts["test"] >= 1, (label, counts)


def test_readme_says_which_test_clips_come_from_other_packages(samples: list[Sample]) -> None:
    readme = (FOLDER / "README.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in readme.splitlines() if line[:1] == "|"]
    answers = {row[0]: row[-1] for row in rows if len(row) == 7 and row[-1] in ("yes", "no")}
    groups = classes_of(samples, "sound") | classes_of(samples, "music")
    assert set(groups) <= set(answers)
    for label, members in groups.items():
        test = {sample.meta["source"] for sample in members if sample.meta["split"] == "test"}
        other = {sample.meta["source"] for sample in members if sample.meta["split"] != "test"}
        assert answers[label] == ("yes" if test.isdisjoint(other) else "no"), label
    assert sum(answers[label] == "yes" for label in groups) >= 0.9 * len(groups)
