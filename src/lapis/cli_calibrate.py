"""`lapis calibrate`: gives a model's scores a meaning, and says how well it holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapis.calibration import Calibration
    from lapis.data.sample import Sample
    from lapis.data.sources import SourceConfig
    from lapis.evaluation.reliability import ReliabilityResult
    from lapis.model import Embedder

MOST_MIXTURES = 8
"""On which it is measured how events are found: 16 minutes of sound, heard six times."""


def calibrate(
    model: str,
    /,
    *,
    clips: str = "",
    check: str = "",
    language: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    false_alarms: float | None = None,
    probability: float | None = None,
    frames: Annotated[bool, Parameter(negative=())] = False,
    out: Path | None = None,
    cache: bool = True,
    device: str = "",
) -> None:
    """Fit what a model's scores mean on clips that it has not learned from, and keep it beside its weights.

    `lapis.load` finds it in the model's folder and nowhere else.

    Parameters
    ----------
    model
        A folder, a file of official weights, or a name of either, as `lapis.load` takes it.
    clips
        Labelled clips with captions: a table (.csv, .jsonl, .parquet) or a pattern of .tar shards; the val split of the
        pocket corpus unless told. They should come from elsewhere than those of training, as those will that are asked
        about later.
    check
        Other such clips, on which it is measured, none of them among `clips`; the test split of the pocket corpus
        where `clips` is not told.
    language
        Of the captions, as FLORES-200 codes; all of them unless told.
    false_alarms
        The share of unrelated pairs of text and sound that may count as heard; 0.01 unless told.
    probability
        From which on a text counts as heard, in place of a share of false alarms.
    frames
        Fit to instants too, for `lapis locate` and `lapis watch`: on mixtures of the clips, which need a label each.
    out
        The folder to write to, where the model is none. From there Python takes it:
        `model.calibration = lapis.calibration.read(folder)`.
    cache
        Keep embeddings for the next run, and use those of earlier ones.
    device
        cpu or cuda; the GPU where there is one unless told.
    """
    import torch

    from lapis import calibration
    from lapis.calibration import Decision
    from lapis.datasets.pocket import Pocket
    from lapis.evaluation.cache import EmbeddingCache
    from lapis.evaluation.calibrating import among_the_fit, fit
    from lapis.evaluation.reliability import Reliability, pairs_of
    from lapis.evaluation.results import data_checksum
    from lapis.files import cache_folder
    from lapis.hub import find, load

    if false_alarms is not None and probability is not None:
        raise ValueError("expected --false-alarms or --probability, one of the two")
    decision = Decision("false alarms", 0.01 if false_alarms is None else false_alarms)
    if probability is not None:
        decision = Decision("probability", probability)
    path = find(model).path
    folder = out or path
    if not folder.is_dir():
        raise ValueError(f"expected a folder to write the calibration to, and {folder} is not one: add --out")
    held_out = _source(clips) if clips else Pocket("val")
    other = _source(check) if check else None if clips else Pocket("test")
    embedder = load(path, device=device or ("cuda" if torch.cuda.is_available() else "cpu"))
    keep = EmbeddingCache(cache_folder("embeddings") if cache else None)
    embeddings = keep(embedder, held_out.build())
    tested = keep(embedder, other.build()) if other is not None else None
    found = fit(
        pairs_of(embedder, clips=embeddings, languages=language or None),
        identity=embedder.identity,
        data=clips or "the val split of the pocket corpus",
        decision=decision,
        checksum=data_checksum(embeddings.samples),
        languages=language,
        clips=embeddings.samples,
    )
    measured = None
    if tested is not None:
        if same := among_the_fit(tested.samples, fitted=found.fitted):
            raise ValueError(
                f"{len(same)} of {len(tested.samples)} clips of --check are among those of the fit, {same[0].key} for "
                f"one: what is measured on them is too good; expected other clips"
            )
        measured = Reliability(found, languages=language or None).run(embedder, clips=tested)
    if frames:
        found, instants = _with_frames(
            found, embedder, fit_to=embeddings.samples, check=tested.samples if tested else (), languages=language
        )
    else:
        found, instants = _with_earlier_frames(found, folder)
    written = calibration.write(found, folder)
    _print(found, unreadable=[str(failure) for failure in embeddings.failures])
    if measured is not None:
        _print_measured(measured)
    for line in instants:
        print(line)
    print(written)
    if folder.resolve() != path.resolve():
        print(
            f"lapis.load does not look there: put it into the model's folder, or set "
            f"model.calibration = lapis.calibration.read({str(folder)!r})"
        )


def _with_earlier_frames(found: "Calibration", folder: Path) -> "tuple[Calibration, list[str]]":
    """The calibration with what an earlier one in this folder says of instants, if it is of the same weights."""
    from dataclasses import replace

    from lapis import calibration

    try:
        earlier = calibration.read(folder, identity=found.identity)
    except ValueError:  # It is damaged or of other weights; one that can be read takes its place.
        return found, []
    if earlier is None or not earlier.frames:
        return found, []
    return replace(found, frames=earlier.frames), [
        f"instants, {of.hearing}: as fitted earlier to {of.data}; --frames fits them anew" for of in earlier.frames
    ]


def _with_frames(
    found: "Calibration",
    embedder: "Embedder",
    *,
    fit_to: "Sequence[Sample]",
    check: "Sequence[Sample]",
    languages: tuple[str, ...],
) -> "tuple[Calibration, list[str]]":
    """The calibration with what instants mean, and what is to be told of it."""
    from dataclasses import replace

    from lapis.calibration import Calibrated
    from lapis.evaluation.frame_calibrating import captions_of, fit_frames, found_in, mixtures
    from lapis.search.frames import hears_densely

    texts = captions_of(fit_to, languages=languages)
    scenes = mixtures(fit_to, seed=1, num_texts=sum(map(len, texts.values())))
    data = f"{len(scenes)} mixtures of clips of {found.fitted.data}"
    ways = ("dense", "windows") if hears_densely(embedder) else ("windows",)
    of = [fit_frames(embedder, scenes=scenes, texts=texts, hearing=way, data=data) for way in ways]
    whole = replace(found, frames=tuple(of))
    lines = [f"instants, {way.hearing}: events of {way.data} are found with an F1 of {way.event_f1:.1%}" for way in of]
    if not check or not isinstance(embedder, Calibrated):
        return whole, lines
    others, asked, kept = (
        mixtures(check, seed=2)[:MOST_MIXTURES],
        captions_of(check, languages=languages),
        embedder.calibration,
    )
    num_texts = sum(map(len, asked.values()))
    lines.append(
        f"locate on {len(others)} mixtures of the clips of --check, {num_texts} texts asked of each; F1 of events and "
        f"segments of 1 s, of all texts together:"
    )
    rows = [("by the recording alone", None), ("calibrated to clips", found), ("calibrated to instants", whole)]
    for name, meaning in rows:
        embedder.calibration = meaning
        for way in ways:
            measured = found_in(embedder, scenes=others, texts=asked, hearing=way)
            lines.append(
                f"  {way:7}  {name:22}  events {measured.event_f1:5.1%}, segments {measured.segment_f1:5.1%}; "
                f"{measured.spans:.0f} spans a mixture, where there are {measured.events:.0f}"
            )
    embedder.calibration = kept
    return whole, lines


def _source(place: str) -> "SourceConfig":
    """A table or shards; a path is below the working folder, as everywhere on the command line."""
    from lapis.data.sources import Table, Tars

    absolute = str(Path(place).absolute())
    return Table(absolute) if Path(place).suffix in (".csv", ".jsonl", ".parquet") else Tars(absolute)


def _print(of: "Calibration", *, unreadable: list[str]) -> None:
    from lapis.calibration import percent

    for reason in unreadable:
        print(f"unreadable: {reason}")
    fitted = of.fitted
    print(
        f"fitted on {fitted.pairs}: {fitted.num_texts} captions and {fitted.num_clips} clips, "
        f"{fitted.num_matches:,} of {fitted.num_pairs:,} pairs match ({percent(of.prior, digits=3)})"
    )
    print("log loss on captions of classes left out of the fit:")
    for way, loss in sorted(fitted.losses.items(), key=lambda item: item[1]):
        print(f"  {loss:.5f}  {way}{'  (taken)' if way == fitted.chosen else ''}")
    print(f"a text counts as heard where {of.decision.rule}; of the fit's matching pairs {fitted.matches_heard:.1%} do")


def _print_measured(of: "ReliabilityResult") -> None:
    from lapis.calibration import percent

    print(f"{of.protocol} {of.chosen}")
    print("  said    came true   pairs")
    for point in of.bins:
        print(f"  {point.probability:7.3%} {point.matching:8.3%} {point.count:9,}")
    for name, figure in of.figures.items():
        within = "" if figure.interval is None else f" ({figure.interval[0]:.4f} to {figure.interval[1]:.4f})"
        others = ", ".join(f"{other} {values[name]:.4f}" for other, values in of.baselines.items())
        print(f"{name} {figure.value:.4f}{within}; {others}")
    print(f"ECE of so many pairs where nothing is wrong: {of.error_if_perfect():.4f}")
    if of.figures["Brier score"].value > of.baselines["share of matches"]["Brier score"]:
        print(
            "By the Brier score that is worse than to say the share of matches of every pair: are the clips of the fit "
            "nearer to those of training than these are?"
        )
    print(
        f"heard: {of.heard_matching:.1%} of the matching pairs, {percent(of.heard_unrelated, digits=3)} of the others"
    )
