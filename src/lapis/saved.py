"""A model as a folder: what it is in words, its weights, its texts' tokenizer, and its answers when it was saved.

Where it learned to say captions too, the decoder that says them lies beside it and is opened only when asked for.
`config.json` is written last and names the checksum of every other file that decides an answer, so that a folder is
either whole or refused. It opens without a network, and in sentence-transformers too.
"""

import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lapis import __version__, calibration, doctor, weights
from lapis.captioner import Captioner
from lapis.files import atomic_write, sha256_of
from lapis.model import JointModel, Logits
from lapis.objectives.caption import Caption
from lapis.sentence_files import write_files
from lapis.values import from_values, to_values

LIBRARY = "lapis"
FORMAT = 1
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
GOLDEN_NAME = "golden.safetensors"
CAPTIONER_NAME = "captioner.safetensors"
CARD_NAME = "README.md"


@dataclass(frozen=True)
class Description:
    """What `config.json` says of a saved model."""

    model: JointModel.Config
    files: Mapping[str, str]
    """The SHA-256 of each file that decides an answer, by its path below the folder."""
    licence: str = ""
    source: str = ""
    golden_absent: str = ""
    """Why no answers to sentences were recorded, where none were."""
    captioner: Caption.Config | None = None
    """Of the decoder of captions, where the folder has one."""
    logits: Logits | None = None
    """How the loss of the run that made the model turned cosines into logits, where that is known."""


def save(
    model: JointModel,
    folder: Path | str,
    *,
    captioner: Captioner | None = None,
    licence: str = "",
    source: str = "",
) -> None:
    """Write a model as a folder that `open` reads anywhere; a card that is there already stays.

    Its calibration goes along. One that was fitted to other weights is left out with a warning, and so is such a one
    in the folder, which it would mislead.

    Args:
        model: the model.
        folder: made if need be; what else lies in it is left alone.
        captioner: this model's, whose decoder is to lie beside it.
        licence: of the weights, in words.
        source: where the weights come from.

    Raises:
        ValueError: the text tower's files cannot be had.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config, files = _save_assets(model, folder)
    files[WEIGHTS_NAME] = weights.write(folder / WEIGHTS_NAME, model.state_dict(), metadata={"format": "pt"})
    golden, golden_absent = _recorded(model)
    files[GOLDEN_NAME] = weights.write(folder / GOLDEN_NAME, golden.to_tensors())
    if captioner is not None:
        files[CAPTIONER_NAME] = weights.write(folder / CAPTIONER_NAME, captioner.decoder.state_dict())
    _save_calibration(model, folder)
    write_files(folder, width=model.width)
    if not (folder / CARD_NAME).exists():
        with atomic_write(folder / CARD_NAME, binary=False) as file:
            file.write(_card(model, licence=licence, source=source))
    content = {
        "library": LIBRARY,
        "format": FORMAT,
        "lapis_version": __version__,
        "model": to_values(config),
        "files": files,
        "licence": licence,
        "source": source,
        "golden_absent": golden_absent,
        "captioner": None if captioner is None else to_values(captioner.config),
        "logits": None if model.logits is None else to_values(model.logits),
    }
    with atomic_write(folder / CONFIG_NAME, binary=False) as file:
        json.dump(content, file, indent=2, ensure_ascii=False)


def is_saved(folder: Path) -> bool:
    """Whether a folder says of itself that Lapis saved a model there."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        return False
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    return isinstance(content, dict) and content.get("library") == LIBRARY


def describe(folder: Path | str) -> Description:
    """What the folder of a saved model says of it; only `config.json` is read.

    Raises:
        ValueError: it is not the folder of a saved model, or of another format, or names parts unknown here.
    """
    path = Path(folder) / CONFIG_NAME
    if not is_saved(path.parent):
        raise ValueError(f"{folder}: expected the folder of a model that Lapis saved")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {content.get('format')!r}, and this version of Lapis reads format {FORMAT}: "
            f"it was saved by Lapis {content.get('lapis_version', 'of no version')}, which opens it"
        )
    files = content.get("files")
    if not isinstance(files, dict) or WEIGHTS_NAME not in files:
        raise ValueError(f"{path}: expected the checksums of the files under 'files', {WEIGHTS_NAME} among them")
    try:
        model, captioner, logits = (from_values(content.get(name)) for name in ("model", "captioner", "logits"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(model, JointModel.Config):
        raise ValueError(f"{path}: expected a joint model under 'model', got {type(model).__name__}")
    if not (captioner is None or (isinstance(captioner, Caption.Config) and CAPTIONER_NAME in files)):
        raise ValueError(f"{path}: expected a captioner and the checksum of {CAPTIONER_NAME}, or null")
    if not (logits is None or isinstance(logits, Logits)):
        raise ValueError(f"{path}: expected a scale and a bias under 'logits', or null, got {type(logits).__name__}")
    said = {name: str(content.get(name, "")) for name in ("licence", "source", "golden_absent")}
    return Description(model, files, captioner=captioner, logits=logits, **said)


def open(
    folder: Path | str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    verify: bool = True,
) -> JointModel:
    """The model of a folder, ready to embed.

    Args:
        folder: that `save` wrote.
        device: where it shall work.
        dtype: of its weights; as they were saved unless told.
        verify: compare every file with its checksum first.

    Raises:
        ValueError: the folder is not that of a saved model, or a file is missing, damaged or another one.
    """
    folder = Path(folder).resolve()
    description = describe(folder)
    if verify:
        _verify(folder, description.files)
    config = description.model
    if config.text is not None:
        config = replace(config, text=config.text.located_in(folder))
    model = _without_values(config)
    weights.load_strictly(model, weights.read(folder / WEIGHTS_NAME), source=str(folder / WEIGHTS_NAME))
    model.logits = description.logits
    return model.eval().requires_grad_(False).to(device=device, dtype=dtype)


def decoder(folder: Path | str) -> tuple[Caption.Config, weights.Tensors]:
    """What built the decoder of captions of a saved model, and its weights, their checksum compared.

    Raises:
        ValueError: the folder is not that of a saved model, none lies in it, or it is missing or another one.
    """
    folder = Path(folder)
    description = describe(folder)
    if description.captioner is None:
        raise ValueError(
            f"{folder} has no decoder of captions: train a recipe with the objective Caption, such as slap; runs of "
            f"before decoders were kept have none"
        )
    _verify(folder, {CAPTIONER_NAME: description.files[CAPTIONER_NAME]})
    return description.captioner, weights.read(folder / CAPTIONER_NAME)


def captioner(folder: Path | str, *, model: JointModel, dtype: torch.dtype | None = None) -> Captioner:
    """What writes captions with the model that was opened from `folder`.

    Args:
        folder: that `save` wrote, with a captioner.
        model: of the same folder.
        dtype: of the decoder's weights; as they were saved unless told.

    Raises:
        ValueError: no whole decoder lies in the folder, or it is another model's.
    """
    config, tensors = decoder(folder)
    opened = Captioner.from_tensors(model, config=config, tensors=tensors, source=str(Path(folder) / CAPTIONER_NAME))
    opened.decoder.eval().to(device=model.device, dtype=dtype)
    return opened


def golden(folder: Path | str) -> doctor.Golden | None:
    """What the model answered to the doctor's probes when it was saved, or None where that was not recorded."""
    path = Path(folder) / GOLDEN_NAME
    if not path.is_file():
        return None
    try:
        return doctor.Golden.from_tensors(weights.read(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _save_assets(model: JointModel, folder: Path) -> tuple[JointModel.Config, dict[str, str]]:
    """The config that finds the text tower's files below `folder`, and their checksums."""
    if model.text_encoder is None:
        return model.config, {}
    files: dict[str, str] = {}
    # Aside first, so that what the tower wrote is known from what lay in the folder before.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".assets.") as temporary:
        aside = Path(temporary)
        try:
            text = model.text_encoder.save_assets(aside)
        except OSError as error:
            raise ValueError(f"the files of the text tower cannot be had, to be saved with it: {error}") from error
        for path in sorted(path for path in aside.rglob("*") if path.is_file()):
            name = path.relative_to(aside)
            files[name.as_posix()] = sha256_of(path)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            path.replace(folder / name)
    return replace(model.config, text=text), files


def _save_calibration(model: JointModel, folder: Path) -> None:
    """Put the model's calibration beside its weights, and take away one of others that lies there."""
    path = folder / calibration.NAME
    if model.calibration is None and not path.is_file():
        return
    identity = model.identity  # a digest of all weights
    if model.calibration is not None and model.calibration.identity == identity:
        calibration.write(model.calibration, folder)
        return
    if model.calibration is not None:
        warnings.warn(
            f"{folder}: saved without the model's calibration, which was fitted to other weights "
            f"({model.calibration.identity}) than these ({identity}): run lapis calibrate again",
            doctor.ModelWarning,
            stacklevel=3,
        )
    try:
        calibration.read(folder, identity=identity)
    except ValueError as error:
        path.unlink()
        warnings.warn(f"taken away: {error}", doctor.ModelWarning, stacklevel=3)


def _recorded(model: JointModel) -> tuple[doctor.Golden, str]:
    """The model's answers to the probes, and why there are none to sentences: a text tower may be out of reach."""
    if model.text_encoder is None:
        return doctor.record(model, hears_only=True), ""
    try:
        return doctor.record(model), ""
    except (ValueError, OSError) as error:
        return doctor.record(model, hears_only=True), str(error)


def _verify(folder: Path, files: Mapping[str, str]) -> None:
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing: {CONFIG_NAME} names it")
        if (came := sha256_of(path)) != expected:
            raise ValueError(f"{path} does not hold what {CONFIG_NAME} says: sha256 {expected} expected, {came} came")


def _without_values(config: JointModel.Config) -> JointModel:
    """The model without memory for its weights, unless a part of it computes what no file holds."""
    model = config.build_empty()
    stored = model.state_dict()
    if any(buffer.is_meta and name not in stored for name, buffer in model.named_buffers()):
        return config.build()
    return model


def _card(model: JointModel, *, licence: str, source: str) -> str:
    texts = "sounds and texts" if model.text_encoder is not None else "sounds"
    said = [f"Licence of the weights: {licence}"] if licence else []
    said += [f"Made from: {source}"] if source else []
    return (
        f"""---
library_name: lapis
pipeline_tag: feature-extraction
tags: [audio, embeddings, lapis, sentence-transformers]
---

# An audio-text model saved by Lapis

Turns {texts} into unit vectors of width {model.width}; sound is mono at {model.sample_rate} Hz.

```python
import lapis

model = lapis.load("this folder, or the name of its repository")
vectors = model.embed_audio([waveform])
```

{chr(10).join(said)}
""".rstrip()
        + "\n"
    )
