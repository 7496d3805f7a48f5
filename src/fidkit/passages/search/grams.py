"""Pieces of what is written without spaces between words, for an index that knows words.

Chinese and Japanese are cut into every two characters that stand side by side, Thai, Lao, Burmese and Khmer
into every three letters. A question is cut alike, so that whatever is a word of both has its pieces in both.
"""

from __future__ import annotations

import re
import unicodedata

from fidkit.passages.scripts import CHARACTERS, SYLLABLES, UNSPACED

# Some languages may be written with marks of no width where words end.
_NO_WIDTH = "\u200b\u200c\u200d"
# Patterns are compiled when one is looked for, which takes milliseconds: most questions have no use for them.
_RUN = f"[{SYLLABLES}{CHARACTERS}][{SYLLABLES}{CHARACTERS}{_NO_WIDTH}]*"
_OF_ONE_KIND = f"[{CHARACTERS}]+|[{SYLLABLES}]+"
_SYLLABLE = f"[{SYLLABLES}]"
_FIRST_HAN = "\u3400"
# What makes a question of it says nothing about the answer, as with the words in English.
_ASKING = (
    "什么时候 什麼時候 为什么 為什麼 什么 什麼 怎么样 怎么 怎麼 哪里 哪裡 哪儿 哪个 哪個 哪 多少 谁 誰 吗 嗎 "
    "呢 请问 請問 でしたか ましたか でしょうか ですか ますか どこ いつ なぜ どうして どの どれ どんな だれ "
    "いくつ いくら 何 อะไร ใคร ที่ไหน เมื่อไหร่ เมื่อไร เมื่อใด ทำไม อย่างไร เท่าไร เท่าไหร่ กี่ ไหน "
    "ဘယ် ဘာ တွေလဲ သလဲ လဲ ហេតុអ្វី អ្វី នរណា ប៉ុន្មាន ណា"
)
_NOT_SEARCHED = "|".join(unicodedata.normalize("NFKC", _ASKING).split())


def parted(text: str) -> tuple[str, list[str]]:
    """A text with spaces around what is written without, and the runs of that; accents are in their letters.

    Where an accent is a character of its own, an index would end the word in front of it.
    """
    if text.isascii():
        return text, []
    text = unicodedata.normalize("NFC", text)
    if not UNSPACED.search(text):
        return text, []
    return re.sub(_RUN, r" \g<0> ", text), re.findall(_RUN, text)


def grams_of(run: str) -> list[str]:
    """The pieces of a run that a passage is found by."""
    return [gram for part in _parts(run) for gram in (*_pieces(part), *_alone(part, everywhere=True))]


def asked_of(runs: list[str]) -> list[str]:
    """The pieces of a question's runs; a Chinese character counts by itself where no other is beside it."""
    said = [part for run in runs for part in re.split(_NOT_SEARCHED, _plain(run)) if part] or runs
    parts = [part for run in said for part in _parts(run)]
    return [gram for part in parts for gram in (*_pieces(part), *_alone(part, everywhere=False))]


def _plain(run: str) -> str:
    """In one writing: of full width, and without marks of no width."""
    plain = "".join(character for character in run if character not in _NO_WIDTH)
    return unicodedata.normalize("NFKC", plain)


def _parts(run: str) -> list[str]:
    return re.findall(_OF_ONE_KIND, _plain(run))


def _pieces(part: str) -> list[str]:
    size = 3 if re.match(_SYLLABLE, part) else 2
    return [part[at : at + size] for at in range(max(1, len(part) - size + 1))]


def _alone(part: str, *, everywhere: bool) -> list[str]:
    """Chinese characters by themselves: all of them, or those between others of another script."""
    if len(part) < 2:
        return []
    return [
        character
        for at, character in enumerate(part)
        if _is_han(character)
        and (everywhere or not (_is_han(part[at - 1 : at]) or _is_han(part[at + 1 : at + 2])))
    ]


def _is_han(character: str) -> bool:
    return character >= _FIRST_HAN and not "\uff66" <= character <= "\uff9f"
