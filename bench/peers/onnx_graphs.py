"""The operators as ONNX graphs: exact attention is one node that ONNX Runtime has a flash kernel for; hybrid attention
is composed of stock operators, which is what an engine without a kernel for it would run."""

import math

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    onnx = None
import numpy

MICROSOFT = "com.microsoft"


class Graph:
    """Nodes and constants in the making."""

    def __init__(self):
        self.nodes = []
        self.constants = {}

    def constant(self, value, dtype=numpy.float32):
        array = numpy.ascontiguousarray(value, dtype=dtype)
        key = (array.shape, array.dtype.str, array.tobytes())
        return self.constants.setdefault(key, f"constant_{len(self.constants)}")

    def apply(self, operator, *inputs, domain="", outputs=1, **attributes):
        """Adds a node; returns its output's name, or a list of several."""
        names = [f"{operator}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def integers(self, *values):
        return self.constant(values, numpy.int64)

    def model(self, out, shape):
        """The model's bytes: q, k, v and out are of one shape."""
        self.nodes.append(helper.make_node("Identity", [out], ["out"]))
        tensor = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        initializers = [numpy_helper.from_array(numpy.frombuffer(data, dtype).reshape(dims), name)
                        for (dims, dtype, data), name in self.constants.items()]
        graph = helper.make_graph(self.nodes, "attention", [tensor(n) for n in "qkv"], [tensor("out")], initializers)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def exact_model(clip):
    """com.microsoft.MultiHeadAttention over [1, tokens, heads * head_dim], its own layout."""
    graph = Graph()
    out = graph.apply("MultiHeadAttention", "q", "k", "v", domain=MICROSOFT, num_heads=clip.heads)
    return graph.model(out, [1, clip.tokens, clip.heads * clip.head_dim])


class HybridGraph(Graph):
    """Causal hybrid attention over [heads, tokens, head_dim], chunk after chunk, with running sums of phi_k(k) v^T and
    phi_k(k)."""

    def __init__(self, clip, phi):
        super().__init__()
        self.clip = clip
        self.weights = {name: self.constant(array.transpose(0, 2, 1) if "weight" in name else array[:, None, :])
                        for name, array in phi.items()}
        self.sums = None  # [heads, F, head_dim] and [heads, F, 1]

    def frames(self, tensor, begin, end):
        m = self.clip.tokens_per_frame
        return self.apply("Slice", tensor, *(self.integers(i) for i in (begin * m, end * m, 1)))

    def transpose(self, tensor):
        return self.apply("Transpose", tensor, perm=[0, 2, 1])

    def dense(self, x, side, layer):
        """A layer of all heads: one matrix product a head."""
        product = self.apply("MatMul", x, self.weights[f"{side}_weight_{layer}"])
        return self.apply("Add", product, self.weights[f"{side}_bias_{layer}"])

    def features(self, x, side):
        hidden = self.apply("Gelu", self.dense(x, side, 0), domain=MICROSOFT)
        first, second = self.apply("Split", self.apply("Softplus", self.dense(hidden, side, 1)), outputs=2, axis=2)
        return self.apply("Concat", first, self.apply("Mul", second, second), axis=2)

    def absorb(self, begin, end):
        keys = self.features(self.frames("k", begin, end), "phi_k")
        added = (self.apply("MatMul", self.transpose(keys), self.frames("v", begin, end)),
                 self.transpose(self.apply("ReduceSum", keys, self.integers(1), keepdims=1)))
        self.sums = added if self.sums is None else [self.apply("Add", a, b) for a, b in zip(self.sums, added)]

    def attend(self, query_begin, begin, end):
        q = self.frames("q", query_begin, end)
        scale = self.constant(1 / math.sqrt(self.clip.head_dim))
        scores = self.apply("MatMul", self.apply("Mul", q, scale), self.transpose(self.frames("k", begin, end)))
        weights = self.apply("Softmax", scores, axis=-1)
        out = self.apply("MatMul", weights, self.frames("v", begin, end))
        return out if self.sums is None else self.join(out, weights, self.features(q, "phi_q"))

    def join(self, softmax_out, weights, queries):
        """Both branches over one denominator. The row maximum of exp(s - max) is 1, so that of softmax is 1 over its
        denominator: cheaper than softmax's parts as operators of their own."""
        share = self.apply("ReduceMax", weights, axes=[2], keepdims=1)
        numerator, denominator = (self.apply("Mul", share, self.apply("MatMul", queries, s)) for s in self.sums)
        return self.apply("Div", self.apply("Add", softmax_out, numerator),
                          self.apply("Add", self.constant(1), denominator))


def hybrid_model(clip, phi):
    graph = HybridGraph(clip, phi)
    outputs, absorbed = [], 0
    for chunk, (begin, end) in enumerate(clip.softmax_frames()):
        if begin > absorbed:
            graph.absorb(absorbed, begin)
            absorbed = begin
        outputs.append(graph.attend(chunk * clip.chunk_frames, begin, end))
    return graph.model(graph.apply("Concat", *outputs, axis=1), [clip.heads, clip.tokens, clip.head_dim])


def write_models(clip, phi, folder):
    """Writes exact.onnx and hybrid.onnx, if there is the package onnx to write them with."""
    if onnx is None:
        return
    (folder / "exact.onnx").write_bytes(exact_model(clip))
    (folder / "hybrid.onnx").write_bytes(hybrid_model(clip, phi))
