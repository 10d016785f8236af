"""Whether the asker has an answer already: the tag is compared with what `If-None-Match` lists, as RFC 9110 says."""

import pytest

from freshline.runs.entity_tags import is_known, tag_of

TAG = tag_of(b"content")


def test_tag_is_that_of_the_content_alone():
    assert tag_of(b"content") == TAG
    assert tag_of(b"other") != TAG
    assert TAG[0] == TAG[-1] == '"'


@pytest.mark.parametrize(
    "lines",
    [
        [TAG],
        [f"W/{TAG}"],
        ["*"],
        [" * "],
        [f'"other", {TAG}'],
        [f'"other",{TAG},W/"third"'],
        [f'W/"other" ,\t W/{TAG} '],
        [f', ,"a,b", "",{TAG},'],
        ['"other"', TAG],
    ],
)
def test_tag_that_is_listed_is_known(lines):
    assert is_known(TAG, lines)
    assert is_known(f"W/{TAG}", lines)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        ['"other"'],
        [TAG.strip('"')],
        [f"w/{TAG}"],
        [f"x{TAG}"],
        [f"{TAG}x"],
        [f'"other" {TAG}'],
        [f'{TAG[:-1]}and more"'],
        ['"*", "other"'],
        ["*, *"],
        ['"' + ',"' * 30_000],
    ],
)
def test_tag_that_is_not_listed_is_not_known(lines):
    assert not is_known(TAG, lines)
