"""Leaks from test into training: shared recordings, equal sound, sound that was encoded anew or cut, equal captions."""
