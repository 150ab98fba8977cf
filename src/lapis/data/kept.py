"""Decoded sound that stays in memory for the next epoch, up to so many bytes."""

import threading

from lapis.shapes import Waveform


class Kept:
    """Sounds by name. The first that come are kept, since each epoch asks for all once."""

    def __init__(self, most_bytes: int) -> None:
        self._free_bytes = most_bytes
        self._sounds: dict[str, Waveform] = {}
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        return name in self._sounds

    def get(self, name: str) -> Waveform | None:
        """The sound, if it was kept."""
        return self._sounds.get(name)

    def keep(self, name: str, waveform: Waveform) -> None:
        """Keep a copy of it where there is room."""
        with self._lock:
            if waveform.nbytes <= self._free_bytes and name not in self._sounds:
                self._free_bytes -= waveform.nbytes
                self._sounds[name] = waveform.copy()

    def __getstate__(self) -> dict[str, object]:
        """Another process keeps its own, as many bytes as are free here."""
        return {"free_bytes": self._free_bytes}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(state["free_bytes"])
