"""Hybrid attention written plainly in PyTorch, all weights of all pairs, and seeded clips."""
import math
import unittest

import rehyat_torch  # noqa: F401  (the operator, for the tests)
import torch
from torch.nn import functional

program = []  # the command-line program; set by torch_op_test.py

ACTIVATIONS = dict(identity=lambda x: x, relu=torch.relu, gelu=functional.gelu, silu=functional.silu,
                   softplus=functional.softplus, elu1=lambda x: functional.elu(x) + 1)


def features(x, tensors, feature_map="polynomial", degree=2, activation="gelu", output_activation="identity"):
    """phi(x) for the numerator and for the denominator, x [batch, heads, tokens, D]."""
    if feature_map == "given":
        return tensors[0], tensors[-1]
    if feature_map != "polynomial":
        return (ACTIVATIONS[feature_map](x),) * 2
    batch, heads, tokens, dim = x.shape
    y = x.transpose(2, 3).reshape(batch, heads * dim, tokens)
    for i in range(0, len(tensors), 2):
        y = functional.conv1d(y, tensors[i], tensors[i + 1], groups=heads)
        y = ACTIVATIONS[activation if i + 2 < len(tensors) else output_activation](y)
    parts = y.reshape(batch, heads, -1, tokens).transpose(2, 3).chunk(degree, dim=3)
    y = torch.cat([part**(i + 1) for i, part in enumerate(parts)], dim=3)
    return y, y


def key_sets(tokens, tokens_per_frame, chunk_frames, overlap_frames, causal):
    """Which keys (columns) each query (row) sees through softmax, and which through linear attention."""
    frame = torch.arange(tokens) // tokens_per_frame
    chunk = frame // chunk_frames
    first = (chunk * chunk_frames - overlap_frames).clamp(min=0)[:, None]
    end = ((chunk + 1) * chunk_frames)[:, None]
    softmax = (frame >= first) & (frame < end)
    return softmax, (frame < first) | ((frame >= end) & (not causal))


def plain_attention(q, k, v, phi_q, phi_k, *, tokens_per_frame, chunk_frames=3, overlap_frames=1, causal=True,
                    stabilizer="row_max", scale=None, denominator_epsilon=0., denominator_floor=0.,
                    maximum_is_constant=False, **phi):
    """The definition. Ties in the maximum share its gradient here."""
    (f_q, g_q), (f_k, g_k) = features(q, phi_q, **phi), features(k, phi_k, **phi)
    k, v, f_k, g_k = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v, f_k, g_k))
    softmax, linear = key_sets(q.shape[2], tokens_per_frame, chunk_frames, overlap_frames, causal)
    scores = (scale or 1 / math.sqrt(q.shape[3])) * (q @ k.transpose(2, 3)).masked_fill(~softmax, -math.inf)
    maximum = scores.amax(dim=3, keepdim=True)
    if maximum_is_constant or stabilizer == "none":  # with none it cancels
        maximum = maximum.detach()
    weights = torch.exp(scores - maximum)
    size = torch.exp(-maximum) if stabilizer == "none" else 1
    numerators = weights + size * (f_q @ f_k.transpose(2, 3)) * linear
    denominator = (weights + size * (g_q @ g_k.transpose(2, 3)) * linear).sum(dim=3, keepdim=True)
    denominator = denominator + denominator_epsilon
    floor = torch.copysign(torch.as_tensor(denominator_floor, dtype=q.dtype), denominator)
    return numerators @ v / torch.where(denominator.abs() < denominator_floor, floor, denominator)


class Clip:
    """Seeded tensors [batch, heads, tokens, dim] and weights of phi; settings are keywords of both attentions."""

    def __init__(self, seed=1, frames=7, tokens_per_frame=5, batch=2, heads=4, kv_heads=2, dim=8, value_dim=6, hidden=7,
                 features=8, dtype=torch.float64, **settings):
        self.generator = torch.Generator().manual_seed(seed)
        tokens = frames * tokens_per_frame
        self.q = self.draw(batch, heads, tokens, dim)
        self.k = self.draw(batch, kv_heads, tokens, dim)
        self.v = self.draw(batch, kv_heads, tokens, value_dim)
        self.phi_q, self.phi_k = ([
            self.draw(h * hidden, dim, 1) / dim**0.5, self.draw(h * hidden) / 4,
            self.draw(h * features, hidden, 1) / hidden**0.5, None
        ] for h in (heads, kv_heads))
        self.settings = dict(tokens_per_frame=tokens_per_frame, chunk_frames=2, overlap_frames=1,
                             output_activation="softplus")
        self.settings.update(settings)
        self.convert(dtype)

    def draw(self, *shape):
        return torch.randn(*shape, dtype=torch.float64, generator=self.generator)

    def convert(self, dtype):
        """float32 weights where the tensors are narrower: mixed precision."""
        self.q, self.k, self.v = (x.to(dtype) for x in (self.q, self.k, self.v))
        weights = torch.float64 if dtype == torch.float64 else torch.float32
        self.phi_q, self.phi_k = ([None if x is None else x.to(weights) for x in side]
                                  for side in (self.phi_q, self.phi_k))
        return self

    def tensors(self):
        return [x for x in (self.q, self.k, self.v, *self.phi_q, *self.phi_k) if x is not None]

    def require_gradients(self):
        for x in self.tensors():
            x.requires_grad_()
        return self

    def call(self, function, **changes):
        return function(self.q, self.k, self.v, self.phi_q, self.phi_k, **{**self.settings, **changes})

    def plain(self, **changes):
        """The definition in float64, of the values that the tensors hold."""
        wide = [None if x is None else x.double() for x in (self.q, self.k, self.v, *self.phi_q, *self.phi_k)]
        middle = 3 + len(self.phi_q)
        return plain_attention(*wide[:3], wide[3:middle], wide[middle:], **{**self.settings, **changes})

    def rehyat(self, **changes):
        return self.call(torch.ops.rehyat.hybrid_attention, **changes)


class TorchTest(unittest.TestCase):
    """REHYAT's answers beside plain ones."""

    def assert_close(self, actual, expected, tolerance, what=None):
        """Relative to the largest expected element."""
        error = (actual.double() - expected.double()).abs().max() / expected.double().abs().max()
        self.assertLess(error.item(), tolerance, what)

    def assert_same_bits(self, a, b):
        self.assertEqual(a.dtype, b.dtype)
        self.assertTrue(torch.equal(a, b))

    def assert_refused(self, message, function, *arguments, **keywords):
        with self.assertRaises(RuntimeError) as caught:
            function(*arguments, **keywords)
        self.assertIn(message, str(caught.exception))
