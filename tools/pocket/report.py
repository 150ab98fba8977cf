"""Write data/pocket/README.md from the clips that were built."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audio import SAMPLE_RATE

if TYPE_CHECKING:
    from build import Clip

INTRODUCTION = """# Pocket corpus

A small corpus of freely licensed sound, music and speech with captions in eight languages, made for tests, examples
and the first training runs of Lapis. It fits in the repository ({megabytes:.1f} MB), so nothing has to be downloaded.

`pocket-{{train,val,test}}-00000N.tar` are WebDataset tars in an order shuffled once. A sample is `<key>.opus` (Ogg
Opus, mono, made from 16 kHz audio) and `<key>.json`. `captions` maps FLORES-style language codes to lists of
sentences: two of the class's English sentences and one in German, French, Spanish, Italian, Russian, Chinese and
Japanese; for speech the exact words in the spoken language come first, the English wording of the same prompt where
it is known, and a description such as "A woman speaking French." `classes.json` gives the plain class names for
zero-shot prompts, and `manifest.json` the size and sha256 of every tar.
"""

SPLITS = """## Splits

- **Sound**: by package wherever the table says so: the test clips come from packages that no training clip of the class
  comes from. Validation holds out whole recordings of the training packages (about 7 %).
  Recordings longer than 3.5 s are cut into 2.5 s pieces, which stay in one split.
- **Music**: training hears notes, chords and short phrases rendered from the Fluid R3 soundfont, some recorded piano
  notes (Salamander), guitar strums and drum kits; the test is recorded notes and strokes of other instruments in other
  packages. Validation is rendered single notes at keys that no single training note has (phrases may pass through
  them), and held-out recordings of the training packages.
- **Speech**: by prompt. A prompt has the same split in all five languages, and prompts with equal words in any language
  are kept together, so that no test sentence is heard in training. The speakers are the same in all splits.
- Near copies (normalised cross-correlation above 0.8) between splits were removed from training, and near copies
  within a class of sound events from test and validation.
"""

KNOWN = """## Known weak points

- Class captions say what kind of sound a clip holds, not what is special about it. Labels of sound events come from
  file names of games and were checked by measurement (level, length, spectrum, duplicates), not by listening to every
  clip.
- One speaker per language (English and Spanish share one), telephone prompts only. The Spanish word list is published
  without most accents; accents of unambiguous words were restored by rule.
- The recordings do not say whether the Italian speaker is a man or a woman, so its captions say "a person".
- Many clips are shorter than a second. Some test classes have only a handful of clips.
"""

REBUILD = """## Rebuilding

`python tools/pocket/build.py` downloads the packages (3.9 GB) into `~/.cache/lapis-pocket`, checks their sha256 and
writes this folder again. It needs ffmpeg with libopus, fluidsynth, apt-get for Debian 12 and npm, and numpy and
soundfile. The same versions of ffmpeg, libopus and fluidsynth give the same bytes.
"""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def source_table(clips: list[Clip]) -> str:
    """Count clips and minutes by source, domain, split and licence."""
    groups: dict[tuple[str, ...], list[Clip]] = defaultdict(list)
    for clip in clips:
        groups[clip.source, clip.domain, clip.split, clip.rights.licence].append(clip)
    rows = [
        (*key, len(group), f"{sum(len(clip.wave) for clip in group) / SAMPLE_RATE / 60:.1f}")
        for key, group in sorted(groups.items())
    ]
    return table(("source", "domain", "split", "licence", "clips", "minutes"), rows)


def short_sources(clips: Iterable[Clip]) -> str:
    """List the packages of some clips in a short form."""
    names = sorted({clip.source for clip in clips})
    return ", ".join(name.replace("tonejs-instrument-", "tonejs-").removesuffix("-mp3") for name in names) or "-"


def class_table(clips: list[Clip], domain: str) -> str:
    """List the classes of a domain with their clips and packages per split."""
    rows = []
    for label in sorted({clip.label for clip in clips if clip.domain == domain}):
        members = [clip for clip in clips if clip.label == label]
        parts = {split: [clip for clip in members if clip.split == split] for split in ("train", "val", "test")}
        training = {clip.source for clip in parts["train"] + parts["val"]}
        other = "yes" if training.isdisjoint(clip.source for clip in parts["test"]) else "no"
        recordings = len({clip.recording for clip in parts["train"]})
        counts = (f"{len(parts['train'])} ({recordings})", len(parts["val"]), len(parts["test"]))
        rows.append((label, *counts, short_sources(parts["train"]), short_sources(parts["test"]), other))
    header = ("class", "train (recordings)", "val", "test", "training packages", "test packages", "other package")
    return table(header, rows)


def credits_list(clips: list[Clip]) -> str:
    """Name every author once per source and licence."""
    authors: dict[tuple[str, str], set[str]] = defaultdict(set)
    for clip in clips:
        family = re.sub(r"^(tonejs-instrument)-.*|^(audio-samples-piano).*", r"\1\2-\*", clip.source)
        authors[family, clip.rights.licence].add(clip.rights.attribution)
    lines = []
    for (source, licence), names in sorted(authors.items()):
        listed = "; ".join(sorted(names))
        lines.append(f"- **{source}**, {licence}: {listed}")
    return "\n".join(lines) + "\n"


LICENCE_LINKS = """\
The clips were cut, trimmed, converted to 16 kHz mono, levelled and encoded: the change made to every work. Licence
texts: [CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/), [CC BY
3.0](https://creativecommons.org/licenses/by/3.0/), [CC BY-SA 2.0](https://creativecommons.org/licenses/by-sa/2.0/),
[CC BY-SA 3.0](https://creativecommons.org/licenses/by-sa/3.0/), [CC BY-SA 3.0
US](https://creativecommons.org/licenses/by-sa/3.0/us/), [CC BY-SA
4.0](https://creativecommons.org/licenses/by-sa/4.0/), [MIT](https://opensource.org/license/mit). Each clip's
`licence` and `attribution` fields come from the notices inside its package.
"""


MIT_NOTICE = """\
For the parts under the MIT licence (Fluid R3, copyright 2000-2002, 2008 Frank Wen; Sonic Pi, copyright 2016 Samuel
Aaron): Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions: The above copyright notice
and this permission notice shall be included in all copies or substantial portions of the Software. THE SOFTWARE IS
PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT
HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def write_readme(clips: list[Clip], manifest: dict, output: Path) -> None:
    """Write the README of the corpus folder."""
    licences = Counter(clip.rights.licence for clip in clips)
    parts = [
        INTRODUCTION.format(megabytes=manifest["total"]["bytes"] / 1e6),
        "## What is in it\n",
        source_table(clips),
        SPLITS,
        "## Classes of sound events\n",
        class_table(clips, "sound"),
        "## Instruments\n",
        class_table(clips, "music"),
        "## Speech\n",
        class_table(clips, "speech"),
        KNOWN,
        REBUILD,
        "## Licences and attribution\n",
        LICENCE_LINKS,
        table(("licence", "clips"), sorted(licences.items())),
        credits_list(clips),
        MIT_NOTICE,
    ]
    (output / "README.md").write_text("\n".join(part.rstrip("\n") + "\n" for part in parts), "utf-8")
