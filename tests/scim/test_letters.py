"""Letter case does not matter in any alphabet, on either database and whatever its locale."""

from __future__ import annotations

import pytest

from tests.scim.client import Scim

GREEK = "αβγδεζηθικλμνξοπρστυφχψω"
CYRILLIC = "абвгдежзийклмнопрстуфхцчшщъыьэюя"


@pytest.mark.parametrize("name", ["Özgür", "Зоя", "ΌΜΗΡΟΣ", "Łucja", "Ærø", "Straße", "Nuñez"])
async def test_letters_of_any_alphabet_are_compared_without_case(scim: Scim, name: str) -> None:
    await scim.post_user(
        f"{name}@hoekstra.example",
        name={"familyName": name},
        emails=[{"value": f"{name}@hoekstra.example", "type": "work"}],
    )
    for form in (name, name.lower(), name.upper() if "ß" not in name else name):
        for wanted in (
            f'name.familyName eq "{form}"',
            f'name.familyName co "{form[1:]}"',
            f'name.familyName sw "{form[:3]}"',
            f'name.familyName ge "{form}"',
            f'userName eq "{form}@hoekstra.example"',
            f'userName sw "{form}"',
            f'emails[type eq "work"].value eq "{form}@hoekstra.example"',
            f'emails[type eq "work" and value co "{form[1:]}"]',
        ):
            assert await scim.names(wanted) == [f"{name}@hoekstra.example"], wanted
        assert await scim.names(f'name.familyName ne "{form}"') == []


async def test_a_value_of_many_letters_breaks_no_filter(scim: Scim) -> None:
    every = (GREEK + CYRILLIC).upper()
    await scim.post_user("all@hoekstra.example", title=every)
    assert await scim.names(f'title eq "{every}"') == ["all@hoekstra.example"]
    assert await scim.names(f'title co "{GREEK[:20]}"') == ["all@hoekstra.example"]
    many = " or ".join(f'title eq "{GREEK + CYRILLIC}{number}"' for number in range(100))
    assert await scim.names(many) == []
