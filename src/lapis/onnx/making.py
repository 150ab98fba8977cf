"""From a joint model to a folder of ONNX graphs, compared with the model before anything can open it."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from lapis import calibration, doctor, weights
from lapis.files import atomic_write, sha256_of
from lapis.model import JointModel
from lapis.onnx import folder as folders
from lapis.onnx.folder import AUDIO_NAME, CARD_NAME, PARITY_NAME, TEXT_NAME, Description, Precision
from lapis.onnx.graph import import_onnx, write
from lapis.onnx.parity import SECONDS, Parity, measure
from lapis.onnx.quantise import quantised
from lapis.onnx.runtime import GOLDEN_NAME, OnnxEmbedder
from lapis.onnx.texts import text_graph
from lapis.onnx.towers import audio_graph
from lapis.values import check_choice


class ParityError(ValueError):
    """An export that does not answer as its model does; `parity` says where."""

    def __init__(self, message: str, parity: Parity) -> None:
        super().__init__(message)
        self.parity = parity


def export(
    model: JointModel,
    folder: Path | str,
    *,
    precision: Precision = "float32",
    audio_only: bool = False,
    licence: str = "",
    source: str = "",
    seconds: Sequence[float] = SECONDS,
    progress: Callable[[str], None] | None = None,
) -> Parity:
    """Write a model as ONNX graphs that `lapis.load` opens on ONNX Runtime.

    Args:
        model: a joint model of Lapis, of any precision; it is left as it is.
        folder: new or empty.
        precision: of the graphs: "float16" halves the weights, "int8" quarters them.
        audio_only: leave the text tower out.
        licence: of the weights, in words.
        source: where the weights come from.
        seconds: how long the sounds are that both forms are compared on, from short to long; some below 12.
        progress: called with a few words on what comes next.

    Raises:
        ValueError: the folder holds something, a tower has no form in ONNX, or the tokenizer's files cannot be had.
        ParityError: the graphs do not answer as the model does; the folder is left without `onnx.json`.
    """
    check_choice(precision, Precision, name="precision")
    import_onnx()
    folder, tell = Path(folder), progress or (lambda _: None)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already: choose a folder that is new or empty")
    identity, known = model.identity, model.calibration
    exact = _exact(model)
    texts = exact.text_encoder is not None and not audio_only
    folder.mkdir(parents=True, exist_ok=True)
    tell("graphs")
    config = exact.config
    files: list[Path] = []
    # The towers that cannot be had are found out before the long work.
    with torch.no_grad():
        if texts:
            assert exact.text_encoder is not None
            files += _written(text_graph(exact, half=precision == "float16"), folder / TEXT_NAME, precision)
            before = set(folder.rglob("*"))
            try:
                config = replace(config, text=exact.text_encoder.save_assets(folder))
            except OSError as error:
                raise ValueError(f"the files of the text tower cannot be had: {error}") from error
            files += sorted(path for path in set(folder.rglob("*")) - before if path.is_file())
        audio = audio_graph(exact.audio_encoder, exact.audio_projection, width=exact.width, half=precision == "float16")
        files += _written(audio, folder / AUDIO_NAME, precision)
        del audio
    config = config if texts else replace(config, text=None)
    checksums = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    description = Description(config, precision, identity, exact.sample_rate, checksums, licence, source)
    exported = OnnxEmbedder(folder.resolve(), description)
    tell("parity")
    parity = measure(exact, exported, precision=precision, texts=texts, seconds=seconds)
    with atomic_write(folder / PARITY_NAME, binary=False) as file:
        json.dump(parity.to_values(), file, indent=2)
    if not parity.holds:
        raise ParityError(
            f"{folder}: the export does not answer as its model does: cosine down to {parity.cosine:.6f}, "
            f"expected {parity.least} in {precision}; {PARITY_NAME} there says where. Nothing opens this folder",
            parity,
        )
    golden = doctor.record(exported, hears_only=not texts or exported.texts_are_elsewhere)
    checksums[GOLDEN_NAME] = weights.write(folder / GOLDEN_NAME, golden.to_tensors())
    if known is not None and known.identity == exported.identity:
        calibration.write(known, folder)
    with atomic_write(folder / CARD_NAME, binary=False) as file:
        file.write(_card(description, texts=texts))
    folders.write(description, folder)
    return parity


def _exact(model: JointModel) -> JointModel:
    """The model in float32 on the processor, ready to embed."""
    if (
        model.device.type == "cpu"
        and not model.training
        and {each.dtype for each in model.parameters()} <= {torch.float32}
    ):
        return model
    return copy.deepcopy(model).to("cpu", torch.float32).eval()


def _written(graph: object, path: Path, precision: Precision) -> list[Path]:
    return write(quantised(graph) if precision == "int8" else graph, path)


def _card(description: Description, *, texts: bool) -> str:
    said = [f"Licence of the weights: {description.licence}"] if description.licence else []
    said += [f"Made from: {description.source}"] if description.source else []
    told = (
        f"- `{TEXT_NAME}`: texts to `vectors`; its inputs are told by the graph, its tokenizer lies beside it\n"
        if texts
        else ""
    )
    return (
        f"""# An audio-text model as ONNX, exported by Lapis ({description.precision})

- `{AUDIO_NAME}`: `waveforms` (clips, samples), float32, mono at {description.sample_rate} Hz, completed to the longest,
  and `lengths` (clips), int64, to `vectors` (clips, {description.model.width}), float32, of unit length
{told}- `{PARITY_NAME}`: how near its answers are to those of the model it was made from

```python
import lapis

model = lapis.load("this folder")
vectors = model.embed_audio([waveform])
```

{chr(10).join(said)}
""".rstrip()
        + "\n"
    )
