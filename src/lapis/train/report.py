"""What a run tells while it runs: a bar on a terminal, JSON lines, trackers, and a picture at the end.

`log.jsonl` holds a line a step (`losses`) and a line a validation (`validation`). After a resume, lines of steps that
will be taken again are removed, so that the file reads as if the run had never stopped.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lapis import distributed
from lapis.files import atomic_write
from lapis.train.line import Line
from lapis.train.trackers import TensorBoard, Tracker, open_tracker


def progress_bar(console: Console) -> Progress:
    """Of steps, with their time and a `text` beside; nothing where the console is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=console,
        disable=not console.is_terminal,
    )


class Report:
    """The report of one run, in its folder; silent in all processes but the first."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        steps: int,
        console: Console | None = None,
        track: str = "",
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        """With `track`, a service of `trackers` shows the numbers too, and the recipe's plain values beside them."""
        self._track, self._recipe = track, recipe or {}
        self._folder, self._name, self._steps = folder, name, steps
        self._console = console or Console(stderr=True)
        self._speaks = distributed.rank() == 0
        self._dropped: Counter[str] = Counter()

    @contextmanager
    def following(self, step: int) -> Iterator[None]:
        """Files and bar are open while the block runs, and closed whatever ends it; the run goes on from `step`."""
        if not self._speaks:
            yield
            return
        self._begin(step)
        try:
            yield
        finally:
            self._bar.stop()
            self._lines.close()
            for tracker in self._trackers:
                tracker.close()

    def _begin(self, step: int) -> None:
        try:
            import matplotlib  # noqa: F401  (needed at the end: better to miss it now)
            import tensorboard  # noqa: F401  (torch's writer asks for it with a message of its own)
        except ImportError as error:
            raise ValueError("the report of a run needs an extra: pip install 'lapis-audio[train]'") from error

        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "log.jsonl"
        _cut(path, last_step=step)
        self._lines = path.open("a", encoding="utf-8")
        self._trackers: list[Tracker] = [TensorBoard(self._folder, step=step)]
        if self._track:
            self._trackers.append(
                open_tracker(self._track, folder=self._folder, name=self._name, step=step, recipe=self._recipe)
            )
        self._bar = progress_bar(self._console)
        self._bar.start()
        self._task = self._bar.add_task(self._name, total=self._steps, completed=step, text="")

    def step(self, step: int, line: Line) -> None:
        """One step was taken."""
        if not self._speaks:
            return
        for drop in line.dropped:
            self._dropped[f"{drop.name}: {drop.reason}"] += 1
        self._write({"step": step} | line.to_dict())
        numbers = {f"loss/{name}": loss for name, loss in line.losses.items()}
        numbers |= {f"measure/{name}": measure for name, measure in line.measures.items()}
        numbers |= {"learning_rate": line.learning_rate, "gradient_norm": line.gradient_norm}
        numbers |= {f"speed/{name}": speed for name, speed in line.speeds().items() if isinstance(speed, float)}
        self._show(numbers, step=step)
        text = "  ".join(f"{name} {loss:.3f}" for name, loss in line.losses.items())
        self._bar.update(self._task, completed=step, text=f"{text}  {_told(line)}")

    def validation(self, step: int, *, scores: Mapping[str, float]) -> None:
        """The model was measured on held-out data."""
        if not self._speaks:
            return
        self._write({"step": step, "validation": dict(scores)})
        self._show({f"validation/{name}": score for name, score in scores.items()}, step=step)
        self._console.print(f"step {step}  " + "  ".join(f"{name} {score:.3f}" for name, score in scores.items()))

    def end(self, *, stopped: bool) -> None:
        """Draw the picture, and say what was left out."""
        if not self._speaks:
            return
        draw_curves(read_log(self._folder / "log.jsonl"), path=self._folder / "curves.png", title=self._name)
        if self._dropped:
            self._console.print(f"{sum(self._dropped.values())} draws could not be read, for example:")
            for reason, count in self._dropped.most_common(5):
                self._console.print(f"  {count} x {reason}", markup=False)
        if stopped:
            self._console.print(f"stopped and saved; go on with --resume --out {self._folder}", markup=False)

    def _show(self, numbers: Mapping[str, float], *, step: int) -> None:
        for tracker in self._trackers:
            tracker.log(numbers, step=step)

    def _write(self, line: Mapping[str, Any]) -> None:
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()


def _told(line: Line) -> str:
    """The speeds as a person reads them, and what holds them back."""
    told = f"{line.clips / line.step_seconds:.0f} clips/s, {line.audio_seconds / line.step_seconds:.0f} s of sound/s"
    told += f", {line.tokens / line.step_seconds:,.0f} tokens/s"
    told += "" if line.speed_share is None else f", {line.speed_share:.0%} of the device"
    data = f"data ({line.data_bottleneck})" if line.bottleneck == "data" else "data"
    parts = {data: line.wait_seconds, "exchange": line.exchange_seconds}
    return told + "".join(f", {seconds / line.step_seconds:.0%} {name}" for name, seconds in parts.items())


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a `log.jsonl`; a last line that was cut by a crash is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _cut(path: Path, *, last_step: int) -> None:
    kept = [line for line in read_log(path) if line["step"] <= last_step]
    with atomic_write(path, binary=False) as file:
        file.writelines(json.dumps(line) + "\n" for line in kept)


def draw_curves(log: list[dict[str, Any]], *, path: Path, title: str) -> None:
    """Draw losses and validation scores over the steps into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    steps = [line for line in log if "losses" in line]
    checks = [line for line in log if "validation" in line]
    for name in sorted({name for line in steps for name in line["losses"]}):
        left.plot([line["step"] for line in steps], [line["losses"][name] for line in steps], label=name, linewidth=0.8)
    for name in sorted({name for line in checks for name in line["validation"]}):
        measured = [line for line in checks if name in line["validation"]]
        right.plot(
            [line["step"] for line in measured], [line["validation"][name] for line in measured], ".-", label=name
        )
    left.set(title=f"{title}: losses", xlabel="step")
    right.set(title="held-out scores", xlabel="step", ylim=(0, 1))
    for axes in (left, right):
        if axes.lines:
            axes.legend(fontsize="small")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)
