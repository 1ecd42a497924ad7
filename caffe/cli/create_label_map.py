"""`create_label_map`: a label map from a plain list of names."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import text_format

from caffe.cli.flags import FlagParser, boolean, run
from caffe.data.image_list import raise_faults, read_lines
from caffe.data.label_map import LabelMap, LabelMapItem
from caffe.files import write_text

_EPILOG = """\
Each line of MAPFILE is a name, a name and its label, or a name, its label and a display name:
    cat 1 Cat
Without labels, names are numbered from 0, or from 1 after the background that -include_background adds.

    create_label_map -include_background names.txt labelmap.prototxt
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("create_label_map", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="create_label_map", description="Makes a LabelMap prototxt.", epilog=_EPILOG)
    parser.add_argument("names", metavar="MAPFILE", help="one class per line")
    parser.add_argument("output", metavar="OUTFILE", help="prototxt to write")
    parser.flag("delimiter", default=" ", help="characters that separate the fields of a line")
    parser.flag("include_background", type=boolean, default=False, help="add none_of_the_above as label 0")
    flags = parser.parse_args(argv)

    items = [LabelMapItem("none_of_the_above", 0, "background")] if flags.include_background else []
    faults = []
    lines = read_lines(flags.names)
    count = len(_fields(lines[0][1], flags.delimiter))
    for number, line in lines:
        fields = _fields(line, flags.delimiter)
        if not 1 <= len(fields) <= 3 or len(fields) != count:
            faults.append(f"{flags.names}:{number}: {len(fields)} fields, but the first line has {count} (1 to 3)")
        elif len(fields) > 1 and not fields[1].isdigit():
            faults.append(f"{flags.names}:{number}: label '{fields[1]}' is not a number")
        else:
            label = int(fields[1]) if len(fields) > 1 else len(items)
            items.append(LabelMapItem(fields[0], label, fields[-1] if len(fields) == 3 else fields[0]))
    raise_faults(faults, f"'{flags.names}'")
    message = LabelMap(items).to_proto()
    LabelMap.from_proto(message, flags.names)
    write_text(flags.output, text_format.MessageToString(message))


def _fields(line: str, delimiters: str) -> list[str]:
    for character in delimiters[1:]:
        line = line.replace(character, delimiters[0])
    return line.split(delimiters[0]) if delimiters else [line]


if __name__ == "__main__":
    raise SystemExit(main())
