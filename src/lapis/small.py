"""The corpora that a recipe learns from in its small forms: the pocket corpus, or shards in the folder `pool`."""

from typing import Literal

from lapis.data.sources import SourceConfig, Tars
from lapis.data.spoken import Spoken
from lapis.datasets.pocket import Pocket
from lapis.evaluation.retrieval import Retrieval
from lapis.recipe import Check

Form = Literal["paper", "pool", "pocket"]
Domain = Literal["sound", "music", "speech"]
DOMAINS: tuple[Domain, ...] = ("sound", "music", "speech")


def source(form: Form, split: Literal["train", "val"], domain: Domain) -> SourceConfig:
    """The clips of a domain."""
    return Pocket(split, domain) if form == "pocket" else Tars(f"pool/*-{split}-*.tar", domain=domain)


def checks(form: Form) -> tuple[Check, ...]:
    """Of each domain: sounds by their class, speech by the words spoken, which in the pool stand among the captions."""
    speech = source(form, "val", "speech")
    if form == "pool":
        speech = Spoken(speech, languages=(), others=True, transcribed=True)
    return (
        Check("sound", source(form, "val", "sound"), Retrieval("label")),
        Check("music", source(form, "val", "music"), Retrieval("label")),
        Check("speech", speech, Retrieval("transcript")),
    )
