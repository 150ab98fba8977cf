"""A model over HTTP: vectors as OpenAI's clients ask for them, search, times, classes and captions (docs/serve.md)."""
