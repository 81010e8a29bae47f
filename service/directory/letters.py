"""Letters beyond ASCII that differ in case alone: what a database's own ``lower`` may not know. Pure."""

from __future__ import annotations


def folded_letters(text: str) -> dict[str, str]:
    """The other forms of this text's letters beyond ASCII, each with the one that stands for it.

    A letter that folds to several (``ß``) is left as it is.
    """
    found: dict[str, str] = {}
    for letter in dict.fromkeys(text):
        if letter.isascii():
            continue
        folded = letter.casefold()
        if len(folded) > 1 or folded.isascii():
            continue
        forms = {form: folded for form in (letter, folded.upper()) if len(form) == 1}
        forms.pop(folded, None)
        found |= forms
    return found
