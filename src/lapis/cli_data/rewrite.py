"""`lapis data rewrite`: captions made by a language model behind an address."""

import sys
from pathlib import Path

from lapis.cli_data.shared import Flag, Settings, find_source, stages, stoppable
from lapis.cli_data.translate import print_asked


def rewrite(
    source: str,
    /,
    *,
    endpoint: str,
    model: str,
    out: Path,
    set: Settings = (),
    task: str = "paraphrase",
    count: int = 1,
    language: str = "eng_Latn",
    prompt: Path | None = None,
    key_variable: str = "OPENAI_API_KEY",
    temperature: float = 0.0,
    max_tokens: int = 512,
    concurrency: int = 8,
    attempts: int = 8,
    restart: Flag = False,
) -> None:
    """Have captions said in other words, or labels in sentences, by an OpenAI-compatible server.

    Stopped and run again, it goes on where it was. Good captions are in captions.jsonl, which
    `lapis.data.captioned.Captioned` reads beside the source; all others in problems.jsonl, with the reason. The exit
    status is 1 if there was no answer to some texts, or clips of the source cannot be read.

    Parameters
    ----------
    source
        As for `lapis data prepare`.
    endpoint
        Address of the server up to the version: http://127.0.0.1:8000/v1.
    model
        The server's name for it.
    out
        Folder of the table.
    set
        Choices of the source, as field=value.
    task
        paraphrase captions, or describe the labels of clips that have no caption.
    count
        Captions of each text.
    language
        Of the captions, as a FLORES-200 code.
    prompt
        File with what the model is told, with {text}, {count} and {language} in it.
    key_variable
        Environment variable that holds the key.
    temperature
        0 for the likeliest words.
    max_tokens
        Of an answer.
    concurrency
        Requests at a time.
    attempts
        For each text, where the server fails.
    restart
        Throw away the answers of another job in this folder.
    """
    from dataclasses import replace

    from lapis.data.endpoint import Endpoint
    from lapis.data.rewriting import Rewriting
    from lapis.data.rewriting import rewrite as rewrite_source
    from lapis.data.storage import local_path

    out = local_path(out, what="--out")
    config = find_source(source, set)
    told = "" if prompt is None else prompt.read_text(encoding="utf-8")
    wanted = Rewriting(task, language, count, told)  # type: ignore[arg-type]  (it looks at the task itself)
    server = Endpoint(endpoint, model, key_variable, temperature, max_tokens)
    server = replace(server, patience=replace(server.patience, attempts=attempts))
    with stoppable(), stages() as progress:
        report = rewrite_source(
            config,
            endpoint=server,
            out=out,
            rewriting=wanted,
            concurrency=concurrency,
            restart=restart,
            progress=progress,
        )
    print_asked(report, what="texts to rewrite")
    if report.unanswered or report.unreadable:
        sys.exit(1)
