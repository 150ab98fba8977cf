"""Any language model as a translator, asked in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from lapis.data.answers import Answer
from lapis.data.captions import normalized
from lapis.data.translate.generating import FREE_TOKENS, TOKENS_A_TOKEN, ends_of, generate, most_tokens, padded
from lapis.data.translate.names import english_name
from lapis.data.translate.options import Options


class LanguageModel:
    """Any language model, asked in words."""

    def __init__(self, model: Any, tokenizer: Any, options: Options, identity: Mapping[str, Any]) -> None:
        self._model, self._tokenizer, self._options, self.identity = model, tokenizer, options, identity
        self._most = most_tokens(model, tokenizer)
        if "{text}" not in options.prompt:
            raise ValueError(f"prompt: expected {{text}} in it, got {options.prompt!r}")

    def check(self, *, source: str, target: str) -> None:
        """See that both languages can be named."""
        self._prompt("", source=source, target=target)

    def lengths(self, texts: Sequence[str], *, source: str) -> list[int]:
        """The number of tokens of each; the prompt's are the same for all."""
        return [len(ids) for ids in self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]

    def translate(self, texts: Sequence[str], *, source: str, target: str) -> list[Answer]:
        """All at once; of what is said the first line."""
        ids = [self._ids(self._prompt(text, source=source, target=target)) for text in texts]
        longest = TOKENS_A_TOKEN * max(self.lengths(texts, source=source)) + FREE_TOKENS
        fits = [number for number, row in enumerate(ids) if len(row) + longest <= self._most]
        answers = [Answer(())] * len(texts)
        if not fits:
            return answers
        ends, pad = ends_of(self._model), self._tokenizer.pad_token_id
        pad = min(ends) if pad is None else pad
        rows, mask = padded([ids[number] for number in fits], pad=pad, left=True)
        # Without beams a model that does not end its turn is stopped at the end of the line.
        stop = {"stop_strings": ["\n"], "tokenizer": self._tokenizer} if self._options.beams == 1 else {}
        made = generate(self._model, rows, mask, longest=longest, beams=self._options.beams, pad_token_id=pad, **stop)
        for number, row in zip(fits, made[:, rows.shape[1] :].tolist(), strict=True):
            said = self._tokenizer.decode(row, skip_special_tokens=True).lstrip()
            line, ended, _ = said.partition("\n")
            answers[number] = Answer((normalized(line),), finished=bool(ended) or bool(ends & set(row)))
        return answers

    def _prompt(self, text: str, *, source: str, target: str) -> str:
        names = {"{source}": english_name(source), "{target}": english_name(target), "{text}": text}
        prompt = self._options.prompt
        for place, words in names.items():
            prompt = prompt.replace(place, words)
        return prompt

    def _ids(self, prompt: str) -> list[int]:
        if not self._tokenizer.chat_template:
            return self._tokenizer(prompt, verbose=False)["input_ids"]
        said = [{"role": "user", "content": prompt}]
        # Templates of models that think aloud before they answer heed the last word; others do not know it.
        whole = self._tokenizer.apply_chat_template(
            said, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return self._tokenizer(whole, add_special_tokens=False, verbose=False)["input_ids"]
