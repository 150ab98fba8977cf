"""Which languages a model was trained on, as far as its recipe's data tell: those of the texts that it was given.

A frozen text tower has learned more languages before; a language is called given where sounds came with texts in it.
"""

from lapis.data.captions import ignore
from lapis.data.leaks.exclusion import read_exclusion
from lapis.data.mixture import Leaf, Mixture
from lapis.data.usable import OnDemand


def languages_given(mixture: Mixture.Config) -> frozenset[str]:
    """The languages of the texts that draws of a mixture, and of those within it, may have.

    Raises:
        ValueError: a source's files are not there, or it is one that training does not look through either.
    """
    return frozenset[str]().union(*(_languages(leaf) for leaf in mixture.leaves()))


def _languages(leaf: Leaf) -> set[str]:
    source, captions = leaf.source.build(), leaf.config.captions
    if isinstance(source, OnDemand) and (len(source) > leaf.config.scanned or (len(source) and source.ranges(0))):
        raise ValueError(f"{leaf.source} has {len(source):,} samples, which would all have to be read")
    exclusion = None if leaf.part.exclude is None else read_exclusion(leaf.part.exclude)
    found: set[str] = set()
    for place in range(len(source)):
        sample = source[place]
        if exclusion is None or exclusion.reason(sample) is None:
            found |= captions.clean(sample, reject=ignore).keys()
    return found
