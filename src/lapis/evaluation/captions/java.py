"""The two programs of the caption evaluation kit that are run, not written again: Stanford's tokeniser and SPICE.

Both need Java and the package pycocoevalcap; SPICE also needs Stanford's models, which that package does not bring.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lapis.evaluation.captions.meteor_data import kit_folder
from lapis.evaluation.captions.overlap import Scored
from lapis.evaluation.captions.tokens import PUNCTUATION, Tokens

TOKENISER = "tokenizer/stanford-corenlp-3.4.1.jar"
SPICE = "spice/spice-1.0.jar"
SPICE_MODELS = ("spice/lib/stanford-corenlp-3.6.0.jar", "spice/lib/stanford-corenlp-3.6.0-models.jar")
MEMORY = "8G"
"""That SPICE may take, as the kit gives it."""
_UTF8 = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8")


def why_no_stanford() -> str | None:
    """What Stanford's tokeniser lacks here, if anything."""
    return _lacking(TOKENISER)


def why_no_spice() -> str | None:
    """What SPICE lacks here, if anything."""
    return _lacking(SPICE, *SPICE_MODELS)


def stanford_tokens(captions: Sequence[str]) -> list[Tokens]:
    """The words of each caption by the program that the kit runs.

    Raises:
        ValueError: Java or the program is not here, or it fails.
    """
    if lacking := why_no_stanford():
        raise ValueError(f"Stanford's tokeniser needs {lacking}")
    lines = [" ".join(caption.split()) for caption in captions]
    given = "".join(f"{line}\n" for line in lines)
    arguments = ("edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase")
    said = _run("-cp", str(_kit() / TOKENISER), *arguments, given=given).split("\n")[:-1]
    if len(said) != len(lines):
        raise ValueError(f"Stanford's tokeniser gave {len(said)} lines for {len(lines)} captions")
    return [tuple(word for word in line.split(" ") if word and word not in PUNCTUATION) for line in said]


def spice(candidates: Sequence[Tokens], *, references: Sequence[Sequence[Tokens]]) -> Scored:
    """SPICE (arXiv 1607.08822): agreement of scene graphs, the mean over clips and of each clip.

    Raises:
        ValueError: Java, the program or its models are not here, or it fails.
    """
    if lacking := why_no_spice():
        raise ValueError(f"SPICE needs {lacking}")
    clips = [
        {"image_id": number, "test": " ".join(candidate), "refs": [" ".join(text) for text in texts]}
        for number, (candidate, texts) in enumerate(zip(candidates, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "captions.json", Path(folder) / "scores.json"
        asked.write_text(json.dumps(clips))
        _run(f"-Xmx{MEMORY}", "-jar", str(_kit() / SPICE), str(asked), "-out", str(answered), "-silent")
        return read_spice(answered, num_clips=len(clips))


def read_spice(path: Path, *, num_clips: int) -> Scored:
    """The scores in SPICE's answer; a clip for which it has no figure scores zero.

    Raises:
        ValueError: the answer is not one for clips 0 to `num_clips`.
    """
    found = {int(clip["image_id"]): clip["scores"]["All"]["f"] for clip in json.loads(path.read_text())}
    if sorted(found) != list(range(num_clips)):
        raise ValueError(f"{path}: expected scores of {num_clips} clips, got {len(found)}")
    clips = np.array([found[number] for number in range(num_clips)], dtype=np.float64)
    clips = np.nan_to_num(clips, nan=0.0)
    return Scored(float(clips.mean()), clips)


def _kit() -> Path:
    folder = kit_folder()
    if folder is None:
        raise ValueError("the caption evaluation kit is not installed: pip install 'lapis-audio[captions]'")
    return folder


def _lacking(*files: str) -> str | None:
    if shutil.which("java") is None:
        return "Java, and there is no java on the path"
    folder = kit_folder()
    if folder is None:
        return "an extra: pip install 'lapis-audio[captions]'"
    absent = [file for file in files if not (folder / file).is_file()]
    return f"{absent[0]} in the folder of pycocoevalcap" if absent else None


def _run(*arguments: str, given: str = "") -> str:
    done = subprocess.run(["java", *_UTF8, *arguments], input=given, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        reason = next(iter(done.stderr.strip().splitlines()), f"it ended with {done.returncode}")
        raise ValueError(f"java {' '.join(arguments[-4:])} failed: {reason}")
    return done.stdout
