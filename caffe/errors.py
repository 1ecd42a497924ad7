"""The errors for the user: messages that say what is wrong, where, and what to do."""

import re


class CaffeError(ValueError):
    """Something in the user's files, flags or data. The command line prints its message alone and exits with 1.

    Names and values from a file are part of messages. Characters in them that a terminal would interpret become `?`,
    and what is too long to be read is cut.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(_cut(_plain(text)) if isinstance(text, str) else text for text in arguments))


class ProtoError(CaffeError):
    """A prototxt, caffemodel, solverstate or record that cannot be read: names the file and the place in it."""

    #: fields that the message does not have, as Message.field, if they are all that is wrong
    unknown_fields: tuple[str, ...] = ()


class NetError(CaffeError):
    """A net that cannot be built or run: names the layer."""


class DataError(CaffeError):
    """A data source, annotation or image that cannot be used: names the file or record."""


class WriteError(CaffeError):
    """A file that the system would not let us write: a full disk, a directory that is gone. Names the file."""


class EndOfData(DataError):
    """A data source that does not start over has no batch left."""


#: characters of a word, which may be a path, and of a message
_LONGEST_WORD, _LONGEST = 1000, 8000


def _cut(text: str) -> str:
    """The text with very long words cut, and after so many characters."""
    if len(text) > _LONGEST_WORD:
        text = re.sub(rf"\S{{{_LONGEST_WORD + 1},}}", lambda word: f"{word[0][:200]}…{word[0][-20:]}", text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… and {len(text) - _LONGEST:,} characters more"


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text) if not text.isprintable() else text


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: 1 image, 2,400 images. `plural` is the noun's, if it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def shown(text: str, limit: int = 60) -> str:
    """A file's own text for a message: cut to `limit`, and without characters that a terminal would interpret."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(character if character.isprintable() else "?" for character in text)
