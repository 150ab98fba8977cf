"""`lapis watch`: what is heard in a stream, as it comes, or in the new files of a folder."""

import sys
from collections.abc import Callable
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from lapis.model import Embedder
    from lapis.search.index import Index
    from lapis.watching.follow import Account, Told


def watch(
    folder: Path | None = None,
    /,
    *,
    model: str,
    for_: Annotated[tuple[str, ...], Parameter(name="--for", negative=())] = (),
    microphone: str = "",
    stream: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    rate: int = 16_000,
    channels: int = 1,
    encoding: Literal["s16", "s32", "f32"] = "s16",
    delay_seconds: float = 2.0,
    window_seconds: float = 1.0,
    step_seconds: float = 0.2,
    threshold: float | None = None,
    all: Annotated[bool, Parameter(negative=())] = False,
    every_seconds: float = 1.0,
    settle_seconds: float = 2.0,
    index: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    device: str = "",
    dtype: str = "",
) -> None:
    """Listen for words in what a microphone or a pipe brings, or in files as they come into a folder.

    An event is told of as it begins, and once more when it has ended, with its probability where the model has a
    calibration (`lapis calibrate --frames`) and its cosine where it has none. Ctrl-C and SIGTERM end it well.

    Parameters
    ----------
    folder
        To follow, with its subfolders, network disks too.
    model
        A folder, a file of official weights, or a name of either, as `lapis.load` takes it.
    for_
        What to listen for; again for more: --for "dog bark" --for "glass breaking".
    microphone
        A name or number of a device, or default.
    stream
        Samples without a header: - for the standard input, or a file that grows.
    rate
        Of samples, in hertz.
    channels
        Of samples.
    encoding
        Of samples, little-endian.
    delay_seconds
        Of a stream, that may wait for the model; older sound is let go of, counted and told of.
    window_seconds
        Of a stream that is heard at once; the middle of it is what is told of.
    step_seconds
        From one window to the next.
    threshold
        The cosine from which on a text is heard, in place of the calibration's or the stream's own.
    all
        Let go of nothing: a recording is read as fast as the model hears, and times count from its beginning; of a
        folder, take what is there already.
    every_seconds
        Between two looks into the folder.
    settle_seconds
        For which a file must stay the same before it is read.
    index
        An index that is kept up to date with the folder: a folder, or an address such as s3://bucket/index.
    json
        Print JSON lines.
    device
        cpu or cuda; the GPU where there is one unless told.
    dtype
        Of the weights: float32, bfloat16 or float16; as they were saved unless told.
    """
    if sum((folder is not None, bool(microphone), bool(stream))) != 1:
        raise ValueError("expected a folder, --microphone or --stream, one of them")
    if index is not None and folder is None:
        raise ValueError("expected --index with a folder: sound of a stream is not kept")
    if not for_ and index is None:
        raise ValueError('expected what to listen for: --for "dog bark"')
    if not delay_seconds > 0:
        raise ValueError(f"--delay-seconds must be above 0, got {delay_seconds}")
    if folder is not None and not folder.is_dir():
        raise ValueError(f"expected a folder of sounds, and {folder} is not one")

    import numpy as np
    import torch

    from lapis.hub import load
    from lapis.train.interrupt import stop_on_signal
    from lapis.watching import capture
    from lapis.watching.capture import Buffer, Pcm
    from lapis.watching.live import Live, StreamListening

    listening = StreamListening(window_seconds=window_seconds, step_seconds=step_seconds, threshold=threshold)
    pcm = Pcm(rate, channels, encoding)
    fill = None
    if microphone:
        fill = capture.from_microphone(microphone, pcm=pcm)
    elif stream and stream != "-":
        fill = capture.from_file(capture.open_growing(Path(stream), pcm=pcm, from_beginning=all), pcm=pcm, grows=True)
    elif stream:
        standard_input: Any = sys.stdin.buffer
        fill = capture.from_file(standard_input, pcm=pcm)
    embedder = load(model, device=device or ("cuda" if torch.cuda.is_available() else "cpu"), dtype=dtype or None)
    with stop_on_signal() as stop:

        def stopped() -> bool:
            return stop.requested

        if folder is not None:
            table = None if index is None else _index(index, embedder, model=model)
            settings = {"every_seconds": every_seconds, "settle_seconds": settle_seconds, "known": not all}
            watcher = _Folder(embedder, for_, table, threshold, json)
            watcher.run(folder, stopped=stopped, settings=settings)
            return
        live = Live(embedder, texts=for_, listening=listening)
        embedder.embed_audio([np.zeros(embedder.sample_rate, np.float32)])  # the first time takes longest
        buffer = Buffer(max(1, round(delay_seconds * rate)), waits=all)
        assert fill is not None
        capture.start(fill, into=buffer)
        _stream(buffer, live, rate=rate, stopped=stopped, as_json=json, by_clock=not all)


def _stream(buffer: Any, live: Any, *, rate: int, stopped: Callable[[], bool], as_json: bool, by_clock: bool) -> None:
    from lapis.watching.follow import Account, Lost, follow

    account = Account()
    print("listening", file=sys.stderr, flush=True)
    for told in follow(buffer, live=live, sample_rate=rate, account=account, stopped=stopped):
        if isinstance(told, Lost):
            if as_json:
                print(dumps({"kind": "lost", "seconds": round(told.seconds, 3)}), flush=True)
            print(f"{told.seconds:.1f} s of sound were let go of: the model is too slow for them", file=sys.stderr)
        elif as_json:
            print(dumps(_event(told), ensure_ascii=False, allow_nan=False), flush=True)
        else:
            print(_line(told, by_clock=by_clock), flush=True)
    _summary(account, by_clock=by_clock)


def _event(told: "Told") -> dict[str, Any]:
    heard = told.heard
    return {
        "kind": "begin" if told.ends is None else "event",
        "text": heard.text,
        "score": heard.score,
        "probability": heard.probability,
        "begin_seconds": round(heard.begin_seconds, 3),
        "end_seconds": None if heard.end_seconds is None else round(heard.end_seconds, 3),
        "begins": told.begins.isoformat(timespec="milliseconds"),
        "ends": None if told.ends is None else told.ends.isoformat(timespec="milliseconds"),
        "delay_seconds": round(told.delay_seconds, 3),
    }


def _line(told: "Told", *, by_clock: bool) -> str:
    heard = told.heard
    meant = heard.score if heard.probability is None else heard.probability
    if by_clock:
        begins, ends = (None if at is None else at.strftime("%H:%M:%S.%f")[:-5] for at in (told.begins, told.ends))
    else:
        begins, ends = (None if at is None else _position(at) for at in (heard.begin_seconds, heard.end_seconds))
    return f"{heard.text} {meant:.2f} {begins} – {ends or '...'}"


def _position(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def _summary(account: "Account", *, by_clock: bool) -> None:
    share = account.lost_seconds / account.seconds if account.seconds else 0.0
    told = f"{account.seconds:.1f} s came, {account.lost_seconds:.1f} s of them ({share:.1%}) were not heard; "
    told += f"{account.events} events"
    if account.delays and by_clock:
        delays = sorted(account.delays)
        told += f", told {delays[len(delays) // 2]:.2f} s after they began in the middle and {delays[-1]:.2f} s at most"
    print(told, file=sys.stderr)


def _index(folder: str, embedder: "Embedder", *, model: str) -> "Index":
    from lapis.search.index import Index

    return Index.create_or_open(
        folder,
        embedder_identity=embedder.identity,
        model=str(Path(model).resolve()) if Path(model).exists() else model,
        width=embedder.width,
    )


class _Folder:
    """Reads files as they become ready."""

    def __init__(
        self,
        embedder: "Embedder",
        texts: tuple[str, ...],
        table: "Index | None",
        threshold: float | None,
        as_json: bool,
    ) -> None:
        self.embedder, self.texts, self.table, self.as_json = embedder, texts, table, as_json
        self.threshold, self.identity = threshold, embedder.identity
        self.files = self.events = self.failed = 0

    def run(self, folder: Path, *, stopped: Callable[[], bool], settings: dict[str, Any]) -> None:
        """Until one is told to stop."""
        from lapis.watching.folder import ready_files

        print(f"watching {folder}", file=sys.stderr, flush=True)
        for paths in ready_files(folder, stopped=stopped, **settings):
            for path in paths:
                if stopped():
                    break
                self.files += 1
                if self.texts:
                    self._locate(path)
            if paths and self.table is not None and not stopped():
                self._add(folder, set(paths))
        print(f"{self.files} files, {self.failed} of them unreadable; {self.events} events", file=sys.stderr)

    def _locate(self, path: Path) -> None:
        from lapis.search.localise import Rule, locate

        try:
            rule = Rule(threshold=self.threshold)
            found = locate(path, texts=self.texts, embedder=self.embedder, rule=rule, identity=self.identity)
        except (OSError, ValueError) as error:
            self.failed += 1
            self._fail(path, str(error))
            return
        for of in found.found:
            for span in of.spans:
                self.events += 1
                if self.as_json:
                    event = {
                        "kind": "event",
                        "path": str(path),
                        "text": of.text,
                        "score": span.score,
                        "probability": span.probability,
                        "begin_seconds": round(span.begin_seconds, 3),
                        "end_seconds": round(span.end_seconds, 3),
                    }
                    print(dumps(event, ensure_ascii=False, allow_nan=False), flush=True)
                else:
                    meant = span.score if span.probability is None else span.probability
                    place = f"{_position(span.begin_seconds)} – {_position(span.end_seconds)}"
                    print(f"{path}: {of.text} {meant:.2f} {place}", flush=True)

    def _add(self, folder: Path, ready: set[Path]) -> None:
        assert self.table is not None
        report = self.table.update(folder, embedder=self.embedder)
        whole = {path.resolve() for path in ready}
        for path, reason in report.failed:
            # What is still being written is no failure: it comes again when it is ready.
            if not self.texts and path in whole:
                self.failed += 1
                self._fail(path, reason)
        if self.as_json:
            told = {"added": report.added, "changed": report.changed, "removed": report.removed}
            print(dumps({"kind": "index", **told, "windows": report.windows}), flush=True)
        else:
            print(f"index: {report.added} added, {report.changed} changed, {report.removed} removed", flush=True)

    def _fail(self, path: Path, reason: str) -> None:
        if self.as_json:
            print(dumps({"kind": "unreadable", "path": str(path), "error": reason}, ensure_ascii=False), flush=True)
        print(f"unreadable: {reason if str(path) in reason else f'{path}: {reason}'}", file=sys.stderr)
