"""What a filter means, and which ones are refused; no database is asked here."""

from __future__ import annotations

import pytest

from scim.errors import ScimError
from scim.filter import DEEPEST, LONGEST, MOST_TERMS, parse_filter, parse_path
from scim.schema import ENTERPRISE, ResourceType, load_catalogue
from service.directory.predicates import (
    And,
    Compare,
    Constant,
    Entry,
    Not,
    Or,
    Predicate,
    Present,
    Target,
)

USER: ResourceType = load_catalogue().user


def parsed(text: str, *, tolerant: bool = True) -> Predicate:
    return parse_filter(text, USER, tolerant=tolerant)


def is_(name: str, value: str | bool) -> Compare:
    kind = "boolean" if isinstance(value, bool) else "string"
    exact = name == "externalId"
    return Compare(target=Target(keys=(name,), kind=kind, exact=exact), operator="eq", value=value)


A, B, C = is_("userName", "a"), is_("title", "b"), is_("nickName", "c")


def test_and_binds_tighter_than_or_and_not_tightest() -> None:
    text = 'userName eq "a" or title eq "b" and nickName eq "c"'
    assert parsed(text) == Or((A, And((B, C))))
    assert parsed(f'not (userName eq "a") and ({text})') == And((Not(A), Or((A, And((B, C))))))


def test_long_chains_are_read_without_recursion() -> None:
    chain = parsed(" or ".join(['userName eq "a"'] * MOST_TERMS))
    assert chain == Or((A,) * MOST_TERMS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'title eq "a\"b\\c\u00e9"', 'a"b\\cé'),
        ('title EQ "50%_x"', "50%_x"),
        ('TITLE eQ "a.b:c"', "a.b:c"),
        ("title eq 42", "42"),
    ],
)
def test_strings_are_json_strings(text: str, value: str) -> None:
    assert parsed(text) == is_("title", value)


@pytest.mark.parametrize("text", ["active eq true", "active eq True", 'active eq "TRUE"'])
def test_booleans_are_typed_however_they_are_written(text: str) -> None:
    assert parsed(text) == is_("active", True)


def test_keywords_may_begin_a_name() -> None:
    with pytest.raises(ScimError, match="trueName"):
        parsed('trueName eq "x"')
    with pytest.raises(ScimError, match="nullable"):
        parsed("nullable pr")


def test_null_means_absent() -> None:
    present = Present(target=Target(keys=("title",), kind="string"))
    assert parsed("title eq null") == Not(present)
    assert parsed("title ne NULL") == present


@pytest.mark.parametrize("name", ["meta.resourceType", "meta.version", "meta.created", "schemas"])
def test_what_every_resource_has_is_never_null(name: str) -> None:
    assert parsed(f"{name} eq null") == Constant(False)
    assert parsed(f"{name} ne null") == parsed(f"{name} pr") == Constant(True)
    with pytest.raises(ScimError):
        parsed(f"{name} gt null")


def test_not_equal_is_the_opposite_of_equal() -> None:
    assert parsed('userName ne "a"') == Not(A)


def test_bare_complex_attribute_means_its_value() -> None:
    value = Target(keys=("emails",), many=True, sub="value", kind="string")
    assert parsed('emails co "x"') == Compare(target=value, operator="co", value="x")
    manager = Target(keys=(ENTERPRISE, "manager", "value"), kind="string", exact=True)
    assert parsed('manager eq "7"') == Compare(target=manager, operator="eq", value="7")


def test_brackets_speak_of_one_entry() -> None:
    work = is_("type", "work")
    value = Compare(target=Target(keys=("value",), kind="string"), operator="eq", value="x")
    assert parsed('emails[type eq "work"]') == Entry(keys=("emails",), where=work)
    entra = Entry(keys=("emails",), where=And((work, value)))
    assert parsed('emails[type eq "work"].value eq "x"') == entra


def test_names_are_found_with_and_without_their_urn() -> None:
    department = Target(keys=(ENTERPRISE, "department"), kind="string")
    expected = Compare(target=department, operator="eq", value="x")
    for name in (
        f"{ENTERPRISE}:department",
        f"{ENTERPRISE.upper()}:Department",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0User:department",
        "department",
    ):
        assert parsed(f'{name} eq "x"') == expected
    assert parsed('urn:ietf:params:scim:schemas:core:2.0:User:userName eq "a"') == A
    with pytest.raises(ScimError):
        parsed('department eq "x"', tolerant=False)


def test_email_means_the_addresses_where_an_organization_is_tolerant() -> None:
    value = Target(keys=("emails",), many=True, sub="value", kind="string")
    for text in ('email Co "x"', 'active eq true and EMAIL co "x"'):
        found = parsed(text)
        term = found.terms[1] if isinstance(found, And) else found
        assert term == Compare(target=value, operator="co", value="x")
    for text in ('email co "x"', 'email co "x" and active eq true'):
        with pytest.raises(ScimError):
            parsed(text, tolerant=False)
    for text in ("email.value pr", 'urn:unknown:Schema:email eq "x"', 'emails[email eq "x"]'):
        with pytest.raises(ScimError):
            parsed(text)


def test_schemas_follow_from_the_resource() -> None:
    assert parsed(f'schemas eq "{USER.core.id}"') == Or((Constant(True),))
    present = Present(target=Target(keys=(ENTERPRISE,)))
    assert parsed(f'schemas eq "{ENTERPRISE}"') == Or((Constant(False), present))


@pytest.mark.parametrize(
    "text",
    [
        'nosuch eq "x"',
        'not (nosuch eq "x")',
        'nosuch eq "x" and userName eq "y"',
        'userName eq "y" or nosuch pr',
        'emails[nosuch eq "x"]',
        'name.nosuch eq "x"',
        'urn:unknown:Schema:userName eq "x"',
        'password eq "x"',
    ],
)
def test_unknown_attribute_is_refused_never_dropped(text: str) -> None:
    with pytest.raises(ScimError) as refused:
        parsed(text)
    assert refused.value.scim_type == "invalidFilter"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "userName",
        "userName eq",
        'userName eq "x',
        'userName like "x"',
        "userName eq 'x'",
        'userName eq "x" and',
        '(userName eq "x"',
        'userName eq "\\x"',
        r'userName eq "\ud800"',
        r'userName eq "\u0000"',
        "active gt true",
        'active co "t"',
        'meta.created co "2026"',
        'meta.created gt "yesterday"',
        "userName gt null",
        "userName eq true",
        'name eq "x"',
        'emails[type eq "work"].value',
        'emails[emails[type eq "a"]]',
        'userName[type eq "a"]',
        '"x" eq userName',
        "()",
        "(" * (DEEPEST + 1) + 'userName eq "a"' + ")" * (DEEPEST + 1),
        "(" * 3000,
        'userName eq "' + "x" * LONGEST + '"',
        " or ".join(['title eq "a"'] * (MOST_TERMS + 1)),
        " or ".join(["a pr"] * 900),
        "userName eq " + "9" * 5000,
    ],
)
def test_malformed_filter_is_refused(text: str) -> None:
    with pytest.raises(ScimError) as refused:
        parsed(text)
    assert refused.value.status == 400
    assert refused.value.scim_type == "invalidFilter"


def test_parentheses_in_values_do_not_count_as_depth() -> None:
    assert parsed(f'userName eq "{"(" * 100}"') == is_("userName", "(" * 100)


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ('emails[type eq "work"]', 'emails[(type eq "work")]'),
        ('EMAILS[ Value EQ "A@b" ]', 'emails[(value eq "A@b")]'),
        (f'{USER.core.id}:emails[type eq ""]', 'emails[(type eq "")]'),
        ('nobody[value eq "x"]', 'nobody[(value eq "x")]'),
    ],
)
def test_a_path_with_one_equality_means_what_the_grammar_says(short: str, whole: str) -> None:
    target, same = (parse_path(text, USER, tolerant=True) for text in (short, whole))
    assert (target is None) == (same is None)
    if target is not None and same is not None:
        assert (target.path, target.where) == (same.path, same.where)
        assert (target.read, same.read) == (0, len(whole))


@pytest.mark.parametrize(
    ("text", "scim_type"),
    [
        ('userName[value eq "x"]', "invalidPath"),
        ('name[givenName eq "x"]', "invalidPath"),
        ('emails[nothing eq "x"]', "invalidFilter"),
        ('emails[primary eq "x"]', "invalidFilter"),
    ],
)
def test_a_path_with_one_wrong_equality_is_refused(text: str, scim_type: str) -> None:
    with pytest.raises(ScimError) as refused:
        parse_path(text, USER, tolerant=True)
    assert refused.value.scim_type == scim_type


@pytest.mark.parametrize("word", ["lena", "lena+eu@x.example", "00417", "nullable", "-", "7b9a-11"])
def test_a_word_without_quotes_is_compared_where_it_can_be_nothing_else(word: str) -> None:
    assert parsed(f"userName Eq {word} ") == parsed(f'userName eq "{word}"')
    with pytest.raises(ScimError):
        parsed(f"userName eq {word}", tolerant=False)


@pytest.mark.parametrize(
    "text",
    [
        "userName ne lena",
        "userName eq lena holt",
        "userName eq lena or title pr",
        "userName eq lena)",
        "(userName eq lena)",
        "userName eq lena\\",
        "userName eq null1 null",
        "userName eq 1.5",
        "userName eq true",
        "active eq yes",
        "nosuch eq lena",
        "password eq lena",
        "emails[type eq work]",
    ],
)
def test_a_word_without_quotes_is_refused_wherever_it_could_be_something_else(text: str) -> None:
    with pytest.raises(ScimError) as refused:
        parsed(text)
    assert refused.value.scim_type == "invalidFilter"
