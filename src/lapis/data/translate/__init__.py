"""Captions translated: models, what is wrong with a translation, the job."""
