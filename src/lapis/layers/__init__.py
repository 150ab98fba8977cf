"""Bricks: attention, transformer, spectrogram, patches. Floor 2."""
