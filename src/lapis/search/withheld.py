"""What is done about a sound that its store does not give.

A store that is away must not turn a corpus into errors, and one object that nobody may read must not stop the rest. So
what a store withholds waits for what comes after it: when the store gives that, the first is asked for once more and is
then at fault itself; when it gives nothing, the work stops there, and a later run goes on with it.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from lapis.data.storage import PassingError, StorageError
from lapis.search.clips import Clip
from lapis.search.reading import Sound
from lapis.search.stored import Stored

WITHHELD_CLIPS = 16
"""So many, with none between that the store gives, mean that it is away."""
WAITING_CLIPS = 64
"""Of which most lie on this machine, say: what they wait for may never come."""
OTHER_CLIPS = 4
"""So many are asked for where nothing comes any more that could tell."""


def given_back(
    sounds: Iterable[Sound], *, again: Callable[[Sound], Sound], others: Iterable[Clip] = ()
) -> Iterator[Sound]:
    """The sounds in their order; those that a store withheld are asked for again before they pass as errors.

    Args:
        sounds: in their order.
        again: asks once more for a sound.
        others: clips in stores that are not among the sounds; when the last sounds are withheld, they tell whether the
            store is away.

    Raises:
        StorageError: the store is away, or gives nothing to whoever asks; no sound from there on has been given.
    """
    waiting: list[Sound] = []
    num_withheld, has_answered = 0, False
    for sound in sounds:
        answers = _is_given(sound)
        has_answered |= answers
        if not waiting and sound.withheld is None:
            yield sound
            continue
        waiting.append(sound)
        num_withheld += sound.withheld is not None
        if answers or num_withheld == WITHHELD_CLIPS or len(waiting) == WAITING_CLIPS:
            may_refuse = has_answered and num_withheld < WITHHELD_CLIPS
            yield from _asked_again(waiting, again=again, is_well=answers, may_refuse=may_refuse)
            waiting.clear()
            num_withheld = 0
    is_well = bool(waiting) and any(_is_given(again(Sound(clip))) for clip in islice(others, OTHER_CLIPS))
    yield from _asked_again(waiting, again=again, is_well=is_well, may_refuse=has_answered)


def _asked_again(
    waiting: Iterable[Sound], *, again: Callable[[Sound], Sound], is_well: bool, may_refuse: bool
) -> Iterator[Sound]:
    for sound in waiting:
        told = sound if sound.withheld is None else again(sound)
        is_well |= _is_given(told)
        if told.withheld is not None:
            # What is refused, by a store that gives others, is a matter of that object; silence is one of the store.
            is_refused = may_refuse and not isinstance(told.withheld.__cause__, PassingError)
            if not (is_well or is_refused):
                raise StorageError(f"{told.withheld}; run again to go on from there") from told.withheld
        yield told


def _is_given(sound: Sound) -> bool:
    return isinstance(sound.clip.audio, Stored) and sound.withheld is None
