"""Telephone prompts of Asterisk in five languages, with their exact words, split by prompt."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = {"en": "eng_Latn", "es": "spa_Latn", "fr": "fra_Latn", "it": "ita_Latn", "ru": "rus_Cyrl"}
NAMES = {"en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "ru": "Russian"}
ALLISON = "Allison Smith"
SPEAKERS = {"en": ALLISON, "es": ALLISON, "fr": "June Wallack", "it": "Carlo Flora", "ru": "ivrvoice.ru"}
WOMEN = {"en", "es", "fr", "ru"}  # the sex of the Italian speaker is not certain
TEST_SHARE, VALIDATION_SHARE = 0.11, 0.05

# How each description language says "a woman / a person speaks {language}", in the order of LANGUAGES.
DESCRIPTIONS = {
    "eng_Latn": (
        "A woman speaking {}.",
        "A person speaking {}.",
        ("English", "Spanish", "French", "Italian", "Russian"),
    ),
    "deu_Latn": (
        "Eine Frau spricht {}.",
        "Eine Person spricht {}.",
        ("Englisch", "Spanisch", "Französisch", "Italienisch", "Russisch"),
    ),
    "fra_Latn": (
        "Une femme parle {}.",
        "Une personne parle {}.",
        ("anglais", "espagnol", "français", "italien", "russe"),
    ),
    "spa_Latn": (
        "Una mujer habla en {}.",
        "Una persona habla en {}.",
        ("inglés", "español", "francés", "italiano", "ruso"),
    ),
    "ita_Latn": (
        "Una donna parla in {}.",
        "Una persona parla in {}.",
        ("inglese", "spagnolo", "francese", "italiano", "russo"),
    ),
    "rus_Cyrl": (
        "Женщина говорит по-{}.",
        "Человек говорит по-{}.",
        ("английски", "испански", "французски", "итальянски", "русски"),
    ),
    "zho_Hans": ("一位女士在说{}。", "有人在说{}。", ("英语", "西班牙语", "法语", "意大利语", "俄语")),
    "jpn_Jpan": (
        "女性が{}を話しています。",
        "人が{}を話しています。",
        ("英語", "スペイン語", "フランス語", "イタリア語", "ロシア語"),
    ),
}

# The Spanish word list is written without most accents; these words can be restored without doubt.
ACCENTED_WORDS = """
    número extensión contraseña contraseñas buzón teléfono opción décimo grabación después reproducción información
    configuración demostración conexión código último también sexto séptimo identificación duodécimo undécimo
    vigésimo trigésimo próximo transferencia búsqueda duración introducción exclamación numérico
    veintidós veintitrés veintiséis miércoles sábado líder línea jamás estándar rápidamente atención máximo
    mínimos dólar dólares millón operación presentación útil según propósito físico técnica ocupación válido
    inválida inválidos inválido vacías menú más será tendrá unirá unirán comenzará navegará ayudarán atrás Japón
"""
# Brackets mark tones and notes; a question mark inside a text stands for a letter that was lost.
NOT_PLAIN = re.compile(r"[\[\]<>{}()\ufffd*=_/]|\?(?!$)")
WITHOUT_ACCENTS = str.maketrans("áéíóúñ", "aeioun")
SPANISH_ACCENTS = {word.translate(WITHOUT_ACCENTS).lower(): word for word in ACCENTED_WORDS.split()}


@dataclass(frozen=True)
class Prompt:
    """One recorded prompt: its language, key (path without extension), file and words."""

    language: str
    key: str
    path: Path
    words: str


def restore_accents(text: str) -> str:
    """Put the accents back on Spanish words that lack them in the published list."""

    def restored(match: re.Match[str]) -> str:
        word = match.group()
        known = SPANISH_ACCENTS.get(word.lower())
        if known is None:
            return word
        return known.capitalize() if word[0].isupper() else known

    return re.sub(r"[A-Za-zÁÉÍÓÚÑáéíóúñ]+", restored, text)


def read_words(listing: Path, language: str) -> dict[str, str]:
    """Read `key: words` lines; leave out notes, tones and prompts that are not plain words."""
    text = gzip.decompress(listing.read_bytes()).decode("utf-8", "replace").lstrip("\ufeff")
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, words = line.partition(":")
        words = re.sub(r"\s+", " ", words.strip(" \t\"'.…")).strip()
        if line.startswith(";") or not separator or not words or NOT_PLAIN.search(words):
            continue
        ending = line.rstrip(' "')[-1]
        words += ending if ending in ".?!" and not words.endswith(("?", "!")) else ""
        found[key.strip()] = restore_accents(words) if language == "es" else words
    return found


def plain(words: str) -> str:
    """Reduce words to what two readings of the same text share."""
    return re.sub(r"[\W_]+", " ", words.lower()).strip()


def read_tones(listing: Path) -> set[str]:
    """Return the keys whose text is a note in brackets: tones and noises, whatever other languages write there."""
    text = gzip.decompress(listing.read_bytes()).decode("utf-8", "replace")
    return {match.group(1) for match in re.finditer(r"^([^;:\s]+):\s*[\[(<]", text, re.MULTILINE)}


def read_prompts(folders: dict[str, Path]) -> list[Prompt]:
    """Pair recordings with their words in every language, in a fixed order."""
    listings = {
        language: next(folders[f"asterisk-core-sounds-{language}"].rglob("core-sounds-*.txt.gz"))
        for language in LANGUAGES
    }
    tones = set().union(*(read_tones(listing) for listing in listings.values()))
    prompts: list[Prompt] = []
    for language, listing in listings.items():
        words = read_words(listing, language)
        root = next(folders[f"asterisk-core-sounds-{language}-g722"].glob("usr/share/asterisk/sounds/*"))
        for path in sorted(root.rglob("*.g722")):
            key = path.relative_to(root).with_suffix("").as_posix()
            if key in words and key not in tones and not key.startswith("silence/"):
                prompts.append(Prompt(language, key, path, words[key]))
    return prompts


def assign_splits(prompts: list[Prompt]) -> dict[str, str]:
    """Give every key a split; keys whose words are equal in any language stay together."""
    parent = {prompt.key: prompt.key for prompt in prompts}

    def find(key: str) -> str:
        while parent[key] != key:
            key = parent[key]
        return key

    same_words: dict[tuple[str, str], list[str]] = defaultdict(list)
    for prompt in prompts:
        same_words[prompt.language, plain(prompt.words)].append(prompt.key)
    for keys in same_words.values():
        for key in keys[1:]:
            first, second = sorted((find(keys[0]), find(key)))
            parent[second] = first
    splits = {}
    for key in parent:
        value = int(hashlib.sha256(find(key).encode()).hexdigest()[:8], 16) / 2**32
        held_out = "test" if value < TEST_SHARE else "val" if value < TEST_SHARE + VALIDATION_SHARE else "train"
        splits[key] = held_out
    return splits


def captions(prompt: Prompt, english: dict[str, str]) -> dict[str, list[str]]:
    """Return the words first, their English where known, and descriptions in eight languages."""
    index = list(LANGUAGES).index(prompt.language)
    found: dict[str, list[str]] = {LANGUAGES[prompt.language]: [prompt.words]}
    spelling = prompt.key.startswith("phonetic/")  # every language has its own spelling alphabet
    if prompt.language != "en" and prompt.key in english and not spelling:
        found["eng_Latn"] = [english[prompt.key]]
    for code, (woman, person, names) in DESCRIPTIONS.items():
        sentence = (woman if prompt.language in WOMEN else person).format(names[index])
        found.setdefault(code, []).append(sentence)
    return found


def class_names() -> dict[str, dict[str, str]]:
    """Return, for every class of speech, a sentence in each description language, whoever speaks."""
    spoken = DESCRIPTIONS["eng_Latn"][2]
    return {
        f"{name} speech": {code: person.format(names[index]) for code, (_, person, names) in DESCRIPTIONS.items()}
        for index, name in enumerate(spoken)
    }
