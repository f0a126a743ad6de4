"""The beginning of a file's name, which may say who is in it: ``anna_0001``, ``user12_ok_3``."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from detectime.labels.class_names import simplify_name
from detectime.labels.grouping.files import Files, Keys, find_unique, fit_files
from detectime.labels.grouping.numbers import drop_times
from detectime.labels.layout import SPLITS

_CAMERA_WORDS = frozenset(
    (
        "img image images frame frames photo photos picture pictures pic dsc dscn dscf pxl mvimg cimg mg sam hpim gopr "
        "dji burst cover screenshot screen shot capture captured webcam snapshot snap win pro wa whatsapp at am pm "
        "untitled download file output copy of kopie new cropped crop resized edited aug augmented bild foto "
        "rgb color colour depth sample samples data dataset gesture gestures sign "
        "left right lefthand righthand hand hands camera cam jpg jpeg png mp4 mov avi mkv webm m4v"
    ).split()
)
"""Words in file names that say nothing about who is in the picture."""

_RECORDING_WORDS = frozenset(
    (
        "video vid clip movie mov mvi session take rec recording seq sequence scene hand camera cam part run trial"
    ).split()
)
"""Words whose number names a recording if another number follows, and counts pictures otherwise."""

_PERSON_WORDS = frozenset(
    (
        "user person people subject subj sub participant signer actor speaker student performer volunteer face id uid "
        "p s u pers human man woman proband"
    ).split()
)
"""Words whose number names a person."""

_NUMBERED_PERSON = (
    rf"(?i)(?:^|[^a-z])(?:{'|'.join(sorted(_PERSON_WORDS | _RECORDING_WORDS))})[^0-9a-z]*[0-9]+[^0-9a-z]*$"
)
_TOKEN = re.compile(r"[^\W_]+")
_LETTERS_AND_NUMBER = re.compile(r"([^\W\d_]+)(\d+)")
_CAMERA_COUNTER = 6  # digits from which a number after a single letter is that of a camera, as in P1010023


def group_by_prefix(files: Files, is_asked: bool) -> Keys | None:
    """Group files by the name before its last number, without the class and without words that say nothing.

    Parameters
    ----------
    files
        The files.
    is_asked
        Whether the user asked for this kind: one file with a prefix is enough then.

    Returns
    -------
    Keys
        None if too few files have a prefix, or share it.

    Examples
    --------
    >>> group_by_prefix(Files(["ok/anna_1.jpg", "ok/anna (2).jpg"], ["ok", "ok"]), False).names.to_pylist()
    ['anna', 'anna']
    """
    stems = pc.if_else(pa.array(files.is_random), "", _drop_last_number(files.stems))
    codes, unique = find_unique(pa.table({"stem": stems, "class": files.classes}))
    stems, classes = unique["stem"].to_pylist(), unique["class"].to_pylist()
    prefixes = [_find_prefix(stem, name) for stem, name in zip(stems, classes, strict=True)]
    names = pa.array(prefixes, pa.large_string()).take(pa.array(codes))
    # Copies of one picture share its name whether or not it says who is in it.
    is_first = ~files.name_own().to_pandas().duplicated()
    return Keys(names) if fit_files(names.filter(pa.array(is_first)), is_asked, shared=True) else None


def _drop_last_number(stems: pa.Array) -> pa.Array:
    """Shorten numbers that only count pictures, so that there are far fewer different names."""
    stems = pc.replace_substring_regex(stems, r"^[0-9]+$", "")
    names_person = pc.match_substring_regex(stems, _NUMBERED_PERSON)
    return pc.if_else(names_person, stems, pc.replace_substring_regex(stems, r"(?s)([ _(.-])[0-9]+(\)?)$", r"\10\2"))


def _find_prefix(stem: str, class_name: str) -> str | None:
    """Return the part of a name that says who is in the picture; None if there is none."""
    if not stem:
        return None
    text = unicodedata.normalize("NFC", drop_times(stem))
    tokens = _drop_class(_TOKEN.findall(text), class_name)
    for position, token in enumerate(tokens):
        named = _find_numbered(tokens, position)
        if named is not None:
            return named
        if token.casefold() in _PERSON_WORDS and position + 1 < len(tokens) and tokens[position + 1].isdigit():
            return f"{token}_{tokens[position + 1]}"
    tokens = [token for token in tokens if not _is_camera_word(token)]
    is_counted = False
    while tokens and tokens[-1].isdigit():
        tokens.pop()
        is_counted = True
    if tokens and not is_counted and (found := _LETTERS_AND_NUMBER.fullmatch(tokens[-1])):
        tokens[-1] = found[1]
    tokens = _drop_class(tokens, class_name)
    while tokens and tokens[0].isdigit():
        del tokens[0]
    name = "_".join(tokens)
    # Codes such as 0001x01 are of a picture, not of a person.
    is_class = simplify_name(name) in _list_class_parts(class_name)
    return name if name[:1].isalpha() and not is_class else None


@functools.cache
def _list_class_parts(class_name: str) -> set[str]:
    """Return the words of a class, and how those at its beginning are joined: ``thumbs``, ``up``, ``thumbsup``."""
    words = [simplify_name(word) for word in re.split(r"[\W_]+", class_name) if word]
    return {*words, *("".join(words[:count]) for count in range(1, len(words) + 1))}


def _find_numbered(tokens: Sequence[str], position: int) -> str | None:
    """Return the person, or the recording, that a word and a number name: ``user12``, or ``video_3`` before another."""
    found = _LETTERS_AND_NUMBER.fullmatch(tokens[position])
    word, number, after = tokens[position], "", position + 1
    if found:
        word, number = found[1], found[2]
    elif after < len(tokens) and tokens[after].isdigit():
        number, after = tokens[after], after + 1
    word = word.casefold()
    is_counter = len(word) == 1 and len(number) >= _CAMERA_COUNTER
    if word in _PERSON_WORDS and number and not is_counter and found:
        return tokens[position]
    if word in _RECORDING_WORDS and number and any(any(map(str.isdigit, token)) for token in tokens[after:]):
        return "_".join(tokens[position:after])
    return None


def _is_camera_word(token: str) -> bool:
    """Whether a word says nothing about who is in the picture, by itself or before a number."""
    word, number = token.casefold(), ""
    if found := _LETTERS_AND_NUMBER.fullmatch(token):
        word, number = found[1].casefold(), found[2]
    words = _CAMERA_WORDS | _RECORDING_WORDS | SPLITS
    return word in words or f"{word}{number}" in words or (len(word) == 1 and len(number) >= _CAMERA_COUNTER)


def _drop_class(tokens: list[str], class_name: str) -> list[str]:
    """Leave out the tokens that spell the class, also before a number, as in ``A3000`` of the class ``A``."""
    simple = simplify_name(class_name)
    for start in range(len(tokens)):
        text = ""
        for end in range(start, len(tokens)):
            text += tokens[end].casefold()
            if text == simple:
                return [*tokens[:start], *tokens[end + 1 :]]
            number = text.removeprefix(simple)
            if number != text and number.isdigit():
                return [*tokens[:start], number, *tokens[end + 1 :]]
            if len(text) > len(simple):
                break
    return tokens
