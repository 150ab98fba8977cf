"""Corpora, one file each, found by module name. Floor 3."""
