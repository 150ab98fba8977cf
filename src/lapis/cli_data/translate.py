"""`lapis data translate`: captions into other languages."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lapis.cli_data.shared import Flag, Settings, find_source, stages, stoppable

if TYPE_CHECKING:
    from lapis.data.asking import Asked


def translate(
    source: str,
    /,
    *,
    to: str,
    model: str,
    out: Path,
    set: Settings = (),
    source_language: Annotated[str, Parameter(name="--from")] = "eng_Latn",
    back: float | None = None,
    beams: int = 1,
    batch_tokens: int = 4096,
    device: str = "cpu",
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    revision: str | None = None,
    prompt: Path | None = None,
    restart: Flag = False,
) -> None:
    """Translate the captions of a source; stopped and run again, it goes on where it was.

    Good translations are in captions.jsonl, which `lapis.data.captioned.Captioned` reads beside the source; all others
    in problems.jsonl, with the reason. The exit status is 1 if clips of the source cannot be read.

    Parameters
    ----------
    source
        As for `lapis data prepare`.
    to
        Languages, as FLORES-200 codes with commas between them: deu_Latn,fra_Latn.
    model
        Folder of a model, or its name on the hub: NLLB, M2M100, MADLAD, Marian, or any language model.
    out
        Folder of the table.
    set
        Choices of the source, as field=value.
    source_language
        Of the captions that are translated.
    back
        Translate each translation back, and leave it out if its chrF to the caption (0 to 100) is less than this.
    beams
        Of the search; 1 is greedy.
    batch_tokens
        Tokens of a batch, padding counted.
    device
        cpu, cuda or mps.
    precision
        Of the weights.
    revision
        Of a model of the hub.
    prompt
        File with what a language model is told, with {source}, {target} and {text} in it.
    restart
        Throw away the answers of another job in this folder.
    """
    from lapis.data.storage import local_path
    from lapis.data.translate.checks import Checks
    from lapis.data.translate.job import translate as translate_source
    from lapis.data.translate.models import load_translator
    from lapis.data.translate.options import PROMPT, Options
    from lapis.datasets.languages import short_codes

    out = local_path(out, what="--out")
    config = find_source(source, set)
    told = PROMPT if prompt is None else prompt.read_text(encoding="utf-8")
    checks = Checks(least_back=back)
    options = Options(beams, device, precision, revision, told, short_codes())
    with stoppable(), stages() as progress:
        done = translate_source(
            config,
            translator=load_translator(model, options),
            to=[language.strip() for language in to.split(",") if language.strip()],
            out=out,
            source=source_language,
            checks=checks,
            batch_tokens=batch_tokens,
            restart=restart,
            progress=progress,
        )
    for language, clips in sorted(done.have.items()):
        print(f"{clips:,} clips have captions in {language} already and were not asked about")
    print_asked(done.asked, what="texts to translate")
    if done.asked.unreadable:
        sys.exit(1)


def print_asked(report: "Asked", *, what: str) -> None:
    """What became of the questions."""
    from lapis.data.answers import PROBLEMS_NAME
    from lapis.data.captioned import TABLE_NAME

    known = f", {report.known:,} of them answered before" if report.known else ""
    print(f"{report.clips:,} clips, {report.questions:,} {what}{known}")
    for reason, count in report.left_out.items():
        print(f"left out: {count:,} x {reason}")
    if report.left_out or report.unreadable:
        print(f"each in {report.out / PROBLEMS_NAME}", file=sys.stderr)
    if report.unreadable:
        print(f"{report.unreadable:,} clips or shards cannot be read", file=sys.stderr)
    print(f"{report.captions:,} captions in {report.out / TABLE_NAME}")
