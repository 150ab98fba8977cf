"""Models made for translation (NLLB, M2M100, MADLAD, Marian), and how each is told the languages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lapis.data.answers import Answer
from lapis.data.captions import normalized
from lapis.data.translate.generating import FREE_TOKENS, TOKENS_A_TOKEN, ends_of, generate, most_tokens, padded
from lapis.data.translate.options import Options


@dataclass(frozen=True)
class Told:
    """How a model is told what to translate into what."""

    before: str = ""
    """Put before the text."""
    source: str | None = None
    """The tokenizer's name of the text's language."""
    first_token: int | None = None
    """With which the translation begins."""


class SequenceModel:
    """A model made for translation: an encoder of texts and a decoder of translations."""

    def __init__(self, model: Any, tokenizer: Any, options: Options, identity: Mapping[str, Any]) -> None:
        self._model, self._tokenizer, self._options, self.identity = model, tokenizer, options, identity
        self._most = most_tokens(model, tokenizer)

    def check(self, *, source: str, target: str) -> None:
        """See that the model has both languages."""
        self._told(source, target)

    def lengths(self, texts: Sequence[str], *, source: str) -> list[int]:
        """The number of tokens of each, those of the languages among them."""
        return [len(ids) for ids in self._tokenizer(list(texts), verbose=False)["input_ids"]]

    def translate(self, texts: Sequence[str], *, source: str, target: str) -> list[Answer]:
        """All at once."""
        told = self._told(source, target)
        if told.source is not None:
            self._tokenizer.src_lang = told.source
        ids = self._tokenizer([told.before + text for text in texts], verbose=False)["input_ids"]
        fits = [number for number, row in enumerate(ids) if len(row) <= self._most]
        answers = [Answer(())] * len(texts)
        if not fits:
            return answers
        rows, mask = padded([ids[number] for number in fits], pad=self._tokenizer.pad_token_id, left=False)
        given = {} if told.first_token is None else {"forced_bos_token_id": told.first_token}
        longest = min(self._most, TOKENS_A_TOKEN * rows.shape[1] + FREE_TOKENS)
        made = generate(self._model, rows, mask, longest=longest, beams=self._options.beams, **given)
        ends = ends_of(self._model)
        for number, row in zip(fits, made.tolist(), strict=True):
            # The first token starts the decoder, and is the end token of some models; M2M100's tokenizer would write
            # the language out.
            said = row[1 if told.first_token is None else 2 :]
            text = self._tokenizer.decode(said, skip_special_tokens=True)
            answers[number] = Answer((normalized(text),), finished=bool(ends & set(said)))
        return answers

    def _told(self, source: str, target: str) -> Told:
        """By what the tokenizer has for languages."""
        known = self._vocabulary
        ways = (
            (lambda code: code, True),  # NLLB, and SONAR's heirs
            (lambda code: f"__{self._code(code)}__", True),  # M2M100
            (lambda code: f"<2{self._code(code)}>", False),  # MADLAD
            (lambda code: f">>{code}<<", False),  # Marian into several languages
            (lambda code: f">>{code.replace('zho', 'cmn')}<<", False),
            (lambda code: f">>{code.partition('_')[0]}<<", False),
            (lambda code: f">>{self._code(code)}<<", False),
        )
        for token_of, is_first in ways:
            if (token := token_of(target)) in known:
                if not is_first:
                    return Told(before=f"{token} ")
                if token_of(source) not in known:
                    raise ValueError(f"the model has no language {source}, only {target}")
                name = source if token == target else self._code(source)
                return Told(source=name, first_token=known[token])
        pair = getattr(self._tokenizer, "source_lang", None), getattr(self._tokenizer, "target_lang", None)
        if self._model.config.model_type == "marian" and None not in pair:
            if (self._is(pair[0], source)) and (self._is(pair[1], target)):
                return Told()
            raise ValueError(f"the model translates {pair[0]} to {pair[1]}, not {source} to {target}")
        raise ValueError(f"the model has no language {target}: expected NLLB, M2M100, MADLAD, or Marian of this pair")

    def _code(self, language: str) -> str:
        return self._options.codes.get(language, language.partition("_")[0])

    def _is(self, name: Any, language: str) -> bool:
        return name in (language, self._code(language), language.partition("_")[0])

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        return dict(self._tokenizer.get_vocab()) | dict(getattr(self._tokenizer, "lang_token_to_id", {}))
