"""A JSON file's fields are what they have to be, or the file, the field and what stands there are named."""

import json

import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.base.fields import Fields, read_fields, shown

WHOLE = {"name": "N", "count": 3, "share": 0.5, "grey": {"mean": 128, "std": 40.5}, "size": [None, 4, 5.5], "kind": "a",
         "parts": [{"x": 1}, {"x": 2}], "nothing": None}


def test_fields_are_read_as_they_stand():
    fields = Fields(WHOLE, "x.json")
    assert (fields.text("name"), fields.whole("count", 1), fields.number("share", 0, 1)) == ("N", 3, 0.5)
    assert fields.fields("grey").number("std", above=0) == 40.5
    assert fields.sizes("size", 3) == [None, 4, 5.5]
    assert fields.one_of("kind", ["a", "b"]) == "a"
    assert [part.whole("x") for part in fields.objects("parts")] == [1, 2]
    assert fields.has("name") and not fields.has("nothing") and not fields.has("absent")
    # A whole number stays one, so that a file copied from another has its bytes.
    assert json.dumps(fields.fields("grey").number("mean")) == "128"


@pytest.mark.parametrize("read, sentence", [
    (lambda f: f.text("absent"), "x.json: lacks the field absent;"),
    (lambda f: f.fields("grey").number("absent"), "x.json: lacks the field grey.absent;"),
    (lambda f: f.text("count"), "x.json: its field count is 3, where a text is needed;"),
    (lambda f: f.number("name"), "x.json: its field name is 'N', where a number is needed;"),
    (lambda f: f.number("share", 1, 2), "its field share is 0.5, where a number from 1 to 2 is needed"),
    (lambda f: f.number("count", 4), "its field count is 3, where a number from 4 on is needed"),
    (lambda f: f.number("count", above=3), "its field count is 3, where a number above 3 is needed"),
    (lambda f: f.whole("share"), "its field share is 0.5, where a whole number from 0 on is needed"),
    (lambda f: f.whole("count", 4), "its field count is 3, where a whole number from 4 on is needed"),
    (lambda f: f.fields("size"), "its field size is .null|its field size is .None, 4, 5.5., where an object with named"),
    (lambda f: f.list("grey"), "its field grey is an object, where a list is needed"),
    (lambda f: f.sizes("size", 2), "where a list of 2 is needed"),
    (lambda f: f.one_of("kind", ["b", "c"]), "its field kind is 'a', where b or c is needed"),
    (lambda f: f.objects("size"), r"its field size\[0\] is null, where an object"),
])
def test_what_cannot_be_is_named(read, sentence):
    with pytest.raises(UserError, match=sentence):
        read(Fields(WHOLE, "x.json"))


@pytest.mark.parametrize("value", [True, None, "1", [1], {}, 10 ** 400])
def test_these_are_no_numbers(value):
    fields = Fields({"x": value, "s": [1, value]}, "x.json")
    with pytest.raises(UserError, match="x.json: its field x is .*, where a number"):
        fields.number("x")
    if value is not None:
        with pytest.raises(UserError, match=r"its field s\[1\] is .*, where a number above 0"):
            fields.sizes("s", 2)


@pytest.mark.parametrize("text, sentence", [
    ("[1]", r"x.json: its content is \[1\], where an object with named fields is needed"),
    ('{"a": NaN}', "x.json: is not valid JSON .NaN is no number"), ('{"a": 1', "x.json: is not valid JSON"),
    ('{"a": ' + "[" * 100_000, "x.json: is not valid JSON .nested without end"), ("\udcff", "x.json: is not valid JSON"),
])
def test_a_file_of_another_form_is_refused(tmp_path, text, sentence):
    (tmp_path / "x.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=sentence):
        read_fields(tmp_path / "x.json")
    with pytest.raises(UserError, match="is a folder, not a file"):
        read_fields(tmp_path)


def test_long_values_are_cut_short():
    assert len(shown("x" * 10_000)) == 40 and shown(list(range(100))) == "a list" and shown("short") == "'short'"
