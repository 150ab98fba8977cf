"""Scores of written captions against references, each of the values that the caption evaluation kit gives."""
