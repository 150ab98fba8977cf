"""`lapis data bench`: where reading time goes, and what to change."""

import json as json_lines
from dataclasses import asdict
from typing import TYPE_CHECKING

from lapis.cli_data.shared import Flag, Settings, console, find_mixture, find_source

if TYPE_CHECKING:
    from lapis.data.reading_time import ReadingTime


def bench(
    mixture: str,
    /,
    *,
    set: Settings = (),
    workers: int | None = None,
    threads: bool | None = None,
    sample_rate: int = 16_000,
    batches: int = 50,
    most_seconds: float = 60.0,
    json: Flag = False,
) -> None:
    """Read batches as in training, and say where the time goes: storage, decode, resample, transfer, features.

    Parameters
    ----------
    mixture
        A recipe, its choices behind commas; the recipe.json of a run; a JSON file of a mixture; or a source as for
        `lapis data prepare`.
    set
        Choices of a source, as field=value.
    workers
        That read; the recipe's number, or 2, unless told.
    threads
        Whether they are threads of one process; as in the recipe, or not, unless told.
    sample_rate
        Of the model, in hertz; a recipe knows its own.
    batches
        To read.
    most_seconds
        To go on at most.
    json
        Print JSON.
    """
    from itertools import islice

    import torch

    from lapis.data.batching import Batch, Budget
    from lapis.data.captions import Captions
    from lapis.data.loader import Loader, Reading
    from lapis.data.mixture import Mixture, Part
    from lapis.data.reading_time import measure
    from lapis.layers.spectrogram import LogMel
    from lapis.recipe import Recipe, names

    is_mixture = mixture.endswith(".json") or (mixture.partition(",")[0] in names() and not set)
    if batches < 1 or most_seconds <= 0:
        raise ValueError(f"expected batches and seconds above zero, got {batches} and {most_seconds}")
    # Sounds without words are read as others are.
    config = (
        find_mixture(mixture)
        if is_mixture
        else Mixture.Config((Part(find_source(mixture, set)),), captions=Captions(needed=False))
    )
    budget, reading, seed, log_mel = Budget(), Reading(), 0, None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(config, Recipe):
        recipe, config = config, config.data
        budget, reading, seed = recipe.budget, recipe.reading, recipe.seed
        front_end = getattr(recipe.model.audio, "front_end", None)
        if front_end is not None:
            sample_rate, log_mel = front_end.sample_rate, LogMel(front_end).to(device)
    # Sound that is kept for the next epoch would be read in no time.
    reading = Reading(
        workers=reading.workers if workers is None else workers,
        threads=reading.threads if threads is None else threads,
    )
    opened = config.build(seed=seed)

    def features(batch: Batch) -> None:
        assert log_mel is not None, "asked for only where there is one"
        with torch.inference_mode():
            log_mel(batch.to(device).waveforms)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    found = measure(
        Loader(opened, budget=budget, sample_rate=sample_rate, reading=reading),
        workers=reading.workers,
        sample_rate=sample_rate,
        is_local=not opened.ranges(islice(opened.draws(0), 100)),
        batches=batches,
        most_seconds=most_seconds,
        features=None if log_mel is None else features,
    )
    if json:
        told = asdict(found) | {"bottleneck": found.bottleneck, "advice": found.advice()}
        print(json_lines.dumps(told, ensure_ascii=False, indent=2))
    else:
        _print(found, device=device.type)


def _print(found: "ReadingTime", *, device: str) -> None:
    from rich.table import Table

    print(
        f"{found.clips:,} clips, {found.audio_seconds:,.0f} s of sound in {found.batches:,} batches, {found.workers} "
        f"workers: {found.clips_per_second:,.0f} clips/s, {found.audio_seconds / found.wall_seconds:,.0f} s of sound/s"
    )
    shown = Table("", "seconds", "ms a clip", "share")
    total = sum(found.seconds.values())
    for name, seconds in found.seconds.items():
        title = f"features ({device})" if name == "features" else name
        share = f"{seconds / total:.1%}"
        shown.add_row(title, f"{seconds:,.2f}", f"{1000 * seconds / found.clips:,.3f}", share)
    console().print(shown)
    most = f"{found.clips_per_second:,.0f} clips/s"
    print(f"a run that takes more than {most} waits for data, most of all for: {found.bottleneck}")
    for sentence in found.advice():
        print(sentence)
