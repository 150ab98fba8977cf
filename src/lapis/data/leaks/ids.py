"""Which recording of YouTube or Freesound a clip is from, as its corpus, its key or the name of its file tells.

A clip's `source` may say it outright (`youtube:...`, `freesound:...`); an address says it; and otherwise corpora have
habits. A name alone is taken for an id only where it cannot well be anything else, or where the clip's source or folder
names a corpus that is made of such recordings: a false id would throw good clips away.
"""

import re
from collections.abc import Iterator

from lapis.data.keys import in_utf8
from lapis.data.sample import Sample

_YOUTUBE = r"[\w-]{10}[AEIMQUYcgkosw048]"
"""An id is a number of 64 bits in 11 digits of base 64, so that the last digit is one of 16."""
_ADDRESS = re.compile(
    r"(?:youtube(?:-nocookie)?\.com/(?:watch\?(?:\S*&)?v=|shorts/|live/|embed/|v/)|youtu\.be/)([A-Za-z0-9_-]{11})"
)
_TIMES = r"(?:[_-]\d+(?:\.\d+)?){0,2}"
"""What stands behind an id in the name of a clip: `_30_40`, `_000030`, `_30000_40000`."""
_CLIP = re.compile(rf"Y?(?P<plain>{_YOUTUBE}){_TIMES}|\[(?P<brackets>{_YOUTUBE})\](?:-\[[\d.-]+\])?")
_OF_YOUTUBE = re.compile(r"youtube|audio_?-?set|audio_?-?caps|vgg_?-?sound|yodas|musiccaps|voxceleb", re.IGNORECASE)

_FREESOUND_ADDRESS = re.compile(r"freesound\.org/(?:s|people/[^/\s]+/sounds|apiv2/sounds)/(\d+)")
_DOWNLOADED = re.compile(r"([1-9]\d*)__[^/]+")
"""As Freesound names a file: `<id>__<user>__<title>`."""
_ESC50 = re.compile(r"[1-5]-([1-9]\d*)-[A-Z]-\d{1,2}")
_URBANSOUND8K = re.compile(r"([1-9]\d*)-\d-\d{1,3}-\d{1,3}")
_NUMBER = re.compile(r"[1-9]\d*")
_OF_FREESOUND = re.compile(r"free_?-?sound|fsd(?:50k|kaggle|noisy)|\bfsd\b", re.IGNORECASE)


def ids_of(sample: Sample) -> frozenset[str]:
    """The recordings that a clip is known to be from: `youtube:...`, `freesound:...`, and `source:source_id`."""
    return frozenset(map(in_utf8, _ids(sample)))


def _ids(sample: Sample) -> Iterator[str]:
    source, given = sample.source or "", sample.source_id or ""
    scheme, _, rest = source.partition(":")
    if scheme.lower() in ("youtube", "freesound") and (rest or given):
        yield f"{scheme.lower()}:{rest or given}"
    if source and given:
        yield f"{source}:{given}"
    context = f"{source} {given} {sample.key} {sample.audio}"
    of_youtube, of_freesound = bool(_OF_YOUTUBE.search(context)), bool(_OF_FREESOUND.search(context))
    for text in (source, given, sample.key, str(sample.audio)):
        yield from (f"youtube:{video}" for video in _ADDRESS.findall(text))
        yield from (f"freesound:{number}" for number in _FREESOUND_ADDRESS.findall(text))
    for name in {_stem(given), _stem(sample.key), _stem(str(sample.audio))}:
        yield from _named(name, of_youtube=of_youtube, of_freesound=of_freesound)


def _named(name: str, *, of_youtube: bool, of_freesound: bool) -> Iterator[str]:
    """The ids in the name of a clip."""
    if clip := _CLIP.fullmatch(name):
        video = clip["plain"] or clip["brackets"]
        # Of ids one in 150 has no capital or no small letter; words and running numbers hardly ever have both.
        if of_youtube or clip["brackets"] or _looks_random(video):
            yield f"youtube:{video}"
    for habit in (_DOWNLOADED, _ESC50, _URBANSOUND8K):
        if found := habit.fullmatch(name):
            yield f"freesound:{found[1]}"
    if of_freesound and _NUMBER.fullmatch(name):
        yield f"freesound:{name}"


def _looks_random(video: str) -> bool:
    """Whether capitals and small letters are mixed as in no word, name or running number."""
    inner = video[1:]
    return bool(re.search(r"[a-z]", video) and re.search(r"[A-Z]", inner) and re.search(r"[\d_-]|[a-z][A-Z]", inner))


def _stem(name: str) -> str:
    """The last part of a path, or of a member in an archive, without the suffix of a sound."""
    last = re.split(r"[/\\:]", name)[-1]
    return re.sub(r"\.(?:wav|flac|mp3|m4a|mp4|ogg|opus|webm|aiff?|json)$", "", last, flags=re.IGNORECASE)
