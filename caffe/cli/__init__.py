"""The commands, each a module with a `main`. Imported first of all by each, so it prepares the process for them."""

from __future__ import annotations

from caffe.cli.startup import prepare

prepare()
