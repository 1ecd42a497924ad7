"""Pictures of nets (pycaffe's `caffe.draw`): layers and blobs as a graph that Graphviz lays out.

The graph's text is made here. Pictures need Graphviz's `dot` program; `.dot`, `.gv` and `.raw` files need nothing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

from caffe.errors import CaffeError, NetError
from caffe.files import replacing
from caffe.proto import caffe_pb2

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": "#6495ED", "style": "filled"}
#: layers that work in place
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}
_COLORS = {"Convolution": "#FF5050", "Deconvolution": "#FF5050", "Pooling": "#FF9900", "InnerProduct": "#CC33FF"}

#: file types that hold the graph's text
TEXT_FORMATS = ("raw", "dot", "gv")


def get_pooling_types_dict() -> dict[int, str]:
    """The names of the pooling methods by number."""
    return {value: name for name, value in caffe_pb2.PoolingParameter.PoolMethod.items()}


def get_edge_label(layer: Any) -> str:
    """The text on the arrows to a layer's tops: the batch size or the number of outputs."""
    if layer.type in ("Data", "AnnotatedData"):
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return ""


def get_layer_label(layer: Any, rankdir: str) -> str:
    """The text in a layer's box, one line per part, or a single line if the graph runs vertically (TB, BT)."""
    parts = [layer.name]
    if layer.type in ("Convolution", "Deconvolution"):
        p = layer.convolution_param
        kernel = "x".join(map(str, p.kernel_size)) or f"{p.kernel_h}x{p.kernel_w}"
        stride = "x".join(map(str, p.stride)) or (f"{p.stride_h}x{p.stride_w}" if p.HasField("stride_h") else "1")
        pad = "x".join(map(str, p.pad)) or (f"{p.pad_h}x{p.pad_w}" if p.HasField("pad_h") else "0")
        parts += [f"({layer.type})", f"kernel size: {kernel}", f"stride: {stride}", f"pad: {pad}"]
    elif layer.type == "Pooling":
        p = layer.pooling_param
        parts += [f"({get_pooling_types_dict()[p.pool]} {layer.type})", f"kernel size: {p.kernel_size}"]
        parts += [f"stride: {p.stride}", f"pad: {p.pad}"]
    else:
        parts.append(f"({layer.type})")
    return (" " if rankdir in ("TB", "BT") else "\n").join(parts)


def choose_color_by_layertype(layertype: str) -> str:
    """The fill color of a layer's box."""
    return _COLORS.get(layertype, LAYER_STYLE_DEFAULT["fillcolor"])


def _in_phase(layer: Any, phase: int | None) -> bool:
    if phase is None:
        return True
    if layer.include and layer.exclude:
        raise NetError(f"layer '{layer.name}' has both include and exclude rules; give it one kind")
    if layer.include:
        return any(not rule.HasField("phase") or rule.phase == phase for rule in layer.include)
    return not any(rule.HasField("phase") and rule.phase == phase for rule in layer.exclude)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _record(text: str) -> str:
    """A label for a box of the record shape, in which some characters are separators."""
    for character in "{}|<>":
        text = text.replace(character, f"\0{character}")
    return _quoted(text).replace("\0", "\\")


def _statements(caffe_net: Any, rankdir: str, label_edges: bool, phase: int | None) -> Iterator[str]:
    blobs: set[str] = set()

    def blob_node(name: str) -> Iterator[str]:
        if name not in blobs:
            blobs.add(name)
            yield f"{_quoted(name + '_blob')} [label={_quoted(name)}{_style(BLOB_STYLE)}]"

    for layer in caffe_net.layer:
        if not _in_phase(layer, phase):
            continue
        node = _quoted(f"{layer.name}_{layer.type}")
        if len(layer.bottom) == len(layer.top) == 1 and layer.bottom[0] == layer.top[0]:
            style = NEURON_LAYER_STYLE
        else:
            style = {**LAYER_STYLE_DEFAULT, "fillcolor": choose_color_by_layertype(layer.type)}
        yield f"{node} [label={_record(get_layer_label(layer, rankdir))}{_style(style)}]"
        for bottom in layer.bottom:
            yield from blob_node(bottom)
            yield f"{_quoted(bottom + '_blob')} -> {node}"
        label = get_edge_label(layer) if label_edges else ""
        for top in layer.top:
            yield from blob_node(top)
            yield f"{node} -> {_quoted(top + '_blob')}" + (f" [label={_quoted(label)}]" if label else "")


def _style(style: dict[str, str]) -> str:
    return "".join(f", {key}={_quoted(value)}" for key, value in style.items())


def get_dot(caffe_net: Any, rankdir: str = "LR", label_edges: bool = True, phase: int | None = None) -> str:
    """A NetParameter as text in Graphviz's language. `phase` leaves out the layers of the other phase."""
    statements = [f"rankdir={_quoted(rankdir)}", *_statements(caffe_net, rankdir, label_edges, phase)]
    return f"digraph {_quoted(caffe_net.name or 'Net')} {{\n" + "".join(f"  {s};\n" for s in statements) + "}\n"


def get_pydot_graph(caffe_net: Any, rankdir: str, label_edges: bool = True, phase: int | None = None) -> Any:
    """The graph as a pydot object, for further use. Raises CaffeError without the package pydot."""
    try:
        import pydot
    except ImportError:
        raise CaffeError(
            "get_pydot_graph needs the package pydot (pip install pydot); get_dot gives the graph's text without it"
        ) from None
    graphs: Any = pydot.graph_from_dot_data(get_dot(caffe_net, rankdir, label_edges, phase))
    return graphs[0]


def draw_net(caffe_net: Any, rankdir: str, ext: str = "png", phase: int | None = None) -> bytes:
    """A picture of a NetParameter, as a file of type `ext` (png, svg, pdf, … or raw, dot, gv for the graph's text).

    `rankdir`: LR from left to right, TB from top to bottom, also RL, BT. Raises CaffeError if Graphviz is missing.
    """
    text = get_dot(caffe_net, rankdir, phase=phase).encode()
    if ext in TEXT_FORMATS:
        return text
    try:
        done = subprocess.run(["dot", f"-T{ext}"], input=text, capture_output=True, check=False)
    except FileNotFoundError:
        raise CaffeError(
            f"a .{ext} picture needs Graphviz's program 'dot', which is not installed (apt install graphviz, "
            "brew install graphviz); a .dot file needs nothing"
        ) from None
    if done.returncode != 0:
        raise CaffeError(f"Graphviz cannot make a .{ext} file: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def draw_net_to_file(caffe_net: Any, filename: str, rankdir: str = "LR", phase: int | None = None) -> None:
    """Draws a net into a file; the extension gives the type (see `draw_net`)."""
    ext = os.path.splitext(filename)[1].lstrip(".").lower()
    if not ext:
        raise CaffeError(f"{filename}: no file type; end the name in .png, .svg, .pdf or .dot")
    picture = draw_net(caffe_net, rankdir, ext, phase)
    with replacing(filename) as temporary:
        temporary.write_bytes(picture)
