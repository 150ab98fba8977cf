"""Protocols over an `Embedder`: retrieval and zero-shot classification. Floor 5."""
