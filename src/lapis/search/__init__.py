"""A table of vectors, and finding sounds in it. Floor 5."""
