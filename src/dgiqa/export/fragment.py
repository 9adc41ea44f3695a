"""What a larger ONNX graph has beyond a smaller one, as a file to be read behind the smaller one's.

Both are traced from the same network, so the larger graph computes all of the smaller one's values and goes on from
them; only the names may differ. Values are compared by how they are made: constants by their content, inputs by their
name, results by operator, attributes and operands. What the smaller graph makes too is taken from there.
"""

from __future__ import annotations

import hashlib
from typing import Any

from dgiqa.errors import WeightsError

#: Before the names of the fragment's own values, so that none is one of the smaller graph's.
PREFIX = "explain/"


def fragment(base: Any, whole: Any) -> Any:
    """The ONNX message that turns ``base`` into ``whole`` when it is read behind it.

    Outputs of ``whole`` that ``base`` has, too, are left out; the others keep their names.

    Raises:
        WeightsError: ``whole`` doesn't contain an output of ``base``, so it isn't its continuation.
    """
    import onnx

    known = _ways(base.graph)
    by_way: dict[str, str] = {}
    for name, way in known.items():
        by_way.setdefault(way, name)
    ways = _ways(whole.graph)
    lost = [o.name for o in base.graph.output if known[o.name] not in set(ways.values())]
    if lost:
        raise WeightsError(f"the explanation's graph doesn't give {', '.join(lost)} as the network's own does")
    more = onnx.ModelProto()
    outputs = {o.name for o in whole.graph.output}

    def named(name: str) -> str:
        return by_way.get(ways[name]) or (name if name in outputs else PREFIX + name) if name else ""

    used: set[str] = set()
    for node in whole.graph.node:
        if all(ways[output] in by_way for output in node.output if output):
            continue
        own = more.graph.node.add()
        own.CopyFrom(node)
        used.update(name for name in node.input if name)
        for ends in (own.input, own.output):
            ends[:] = [named(name) for name in ends]
        own.name = PREFIX + node.name if node.name else ""
    for tensor in whole.graph.initializer:
        if tensor.name in used and ways[tensor.name] not in by_way:
            more.graph.initializer.add().CopyFrom(tensor)
            more.graph.initializer[-1].name = named(tensor.name)
    for output in whole.graph.output:
        if ways[output.name] not in by_way:
            more.graph.output.add().CopyFrom(output)
    return more


def _ways(graph: Any) -> dict[str, str]:
    """How each value of a graph is made, as a checksum, by its name."""
    import onnx

    ways = {value.name: f"input {value.name}" for value in graph.input}
    for tensor in graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        ways[tensor.name] = _sum(f"{array.dtype} {array.shape}".encode(), array.tobytes())
    for node in graph.node:
        attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
        operands = [ways[name].encode() if name else b"" for name in node.input]
        for i, output in enumerate(node.output):
            if output:
                ways[output] = _sum(f"{node.domain} {node.op_type} {i}".encode(), *attributes, b"of", *operands)
    return ways


def _sum(*parts: bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little") + part)
    return total.hexdigest()
