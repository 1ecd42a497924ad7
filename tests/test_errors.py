"""Messages stay readable, whatever a file put into them."""

from __future__ import annotations

from caffe.errors import CaffeError, counted


def test_messages_are_cut_where_nobody_would_read_on() -> None:
    path = "/a" * 450
    assert str(CaffeError(f"{path}: no such file")) == f"{path}: no such file"
    assert (
        str(CaffeError(f"not a number: '{'7' * 400_000}', line 3")) == f"not a number: '{'7' * 199}…{'7' * 18}', line 3"
    )
    long = str(CaffeError("word " * 4000))
    assert long.startswith("word " * 1600)
    assert long.endswith("… and 12,000 characters more")


def test_no_character_that_a_terminal_would_interpret() -> None:
    assert str(CaffeError("a\x1b[31m\tb\nc\u202e")) == "a?[31m\tb\nc?"


def test_one_thing_is_singular() -> None:
    assert [counted(number, "image") for number in (0, 1, 2400)] == ["0 images", "1 image", "2,400 images"]
    assert [counted(number, "box", "boxes") for number in (1, 2)] == ["1 box", "2 boxes"]
