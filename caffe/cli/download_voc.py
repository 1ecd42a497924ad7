"""`download_voc`: downloads and unpacks the PASCAL VOC archives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from caffe.cli.flags import FlagParser, boolean, run
from caffe.data.build.download import Archive, download, unpack

SERVER = "http://host.robots.ox.ac.uk/pascal/VOC"
#: with their published MD5 sums
ARCHIVES = {
    "2007": [
        Archive("voc2007/VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64"),
        Archive("voc2007/VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f"),
    ],
    "2012": [Archive("voc2012/VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd")],
}
_EPILOG = """\
Downloads 2.9 GB, and needs as much again to unpack. An interrupted download resumes where it stopped. Every archive's
MD5 sum is checked before it is unpacked. To work offline, put archives that you already have into FOLDER.
The result is FOLDER/VOCdevkit/VOC2007 and VOC2012, the input of create_list:

    download_voc ~/data
    create_list ~/data/VOCdevkit data/VOC0712
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("download_voc", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(
        prog="download_voc",
        description="Downloads PASCAL VOC 2007 (trainval, test) and 2012 (trainval).",
        epilog=_EPILOG,
    )
    parser.add_argument("folder", metavar="FOLDER", help="where archives and VOCdevkit go, e.g. ~/data")
    parser.flag("years", default="2007,2012", help="2007, 2012 or both")
    parser.flag("server", default=SERVER, help="where the archives are")
    parser.flag("unpack", type=boolean, default=True, help="unpack the archives")
    flags = parser.parse_args(argv)
    folder = Path(flags.folder).expanduser()
    years = [year.strip() for year in flags.years.split(",")]
    for year in years:
        if year not in ARCHIVES:
            parser.error(f"-years must be 2007, 2012 or both, not '{year}'")
    for archive in [archive for year in years for archive in ARCHIVES[year]]:
        path = download(archive, flags.server, folder)
        if flags.unpack:
            unpack(path, folder)
    if flags.unpack:
        print(f"Next: create_list {folder / 'VOCdevkit'} data/VOC0712")


if __name__ == "__main__":
    raise SystemExit(main())
