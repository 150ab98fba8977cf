"""Which languages a model was trained on, as far as its recipe's data tell: those of the texts that it was given.

A frozen text tower has learned more languages before; a language is called given where sounds came with texts in it.
"""

from lapis.data.mixture import Mixture


def languages_given(mixture: Mixture.Config) -> frozenset[str]:
    """The languages of the texts that draws of a mixture may have.

    Raises:
        ValueError: a source's files are not there.
    """
    found: set[str] = set()
    for part in mixture.parts:
        for sample in part.source.build():
            found |= mixture.captions.clean(sample, reject=_ignore).keys()
    return frozenset(found)


def _ignore(reason: str) -> None:
    """Texts that training left out are not of interest here."""
