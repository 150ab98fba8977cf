"""Small corpora in their true layout: tables with content, sound files that are empty, since nobody reads them."""

from pathlib import Path

from lapis.data.sample import Location, Sample


def plant(root: Path, tables: dict[str, str], sounds: tuple[str, ...] = ()) -> None:
    for name, content in tables.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="")
    for name in sounds:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def speech(root: Path, path: str, key: str, text: str, *, language: str = "eng_Latn", **fields) -> Sample:
    """A sample of speech whose caption is its transcript."""
    return Sample(
        key=key,
        audio=Location(root / path),
        captions={language: (text,)},
        domain="speech",
        language=language,
        transcript=text,
        **fields,
    )
