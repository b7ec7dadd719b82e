"""Refusals reach Python as exceptions with rehyat's message."""
import torch

from torch_op import support


class ErrorTest(support.TorchTest):

    def refused(self, message, change, dtype=torch.float32, **settings):
        clip = support.Clip(31, dtype=dtype)
        change(clip)
        self.assert_refused("rehyat: " + message, clip.rehyat, **settings)

    def test_settings(self):
        for dtype in (torch.float32, torch.float64):
            for message, settings in (
                ("chunking.chunk_frames is 0, expected at least 1", dict(chunk_frames=0)),
                ("chunking.tokens_per_frame is 4, expected a divisor of q.tokens (35)", dict(tokens_per_frame=4)),
                ("phi_q.degree is 5, expected 1 to 4", dict(degree=5)),
                ("phi_q.feature_dim is 8, expected a multiple of its degree", dict(degree=3)),
                ("denominator_floor is 1, expected 0 with Stabilizer::none", dict(stabilizer="none",
                                                                                 denominator_floor=1.0)),
                ("stabilizer is 'max', expected row_max or none", dict(stabilizer="max")),
                ("activation is 'tanh', expected one of identity, relu, gelu, silu, softplus, elu1",
                 dict(activation="tanh")),
                ("feature_map is 'elu', expected one of polynomial, elu1", dict(feature_map="elu")),
                ("phi_q has 4 tensors, expected none for elu1", dict(feature_map="elu1")),
            ):
                self.refused(message, lambda clip: None, dtype, **settings)

    def test_tensors(self):

        def set_tensor(name, function):
            return lambda clip: setattr(clip, name, function(getattr(clip, name)))

        for message, change in (
            ("q has its last dimension 2 elements apart, expected 1", set_tensor(
                "q", lambda q: torch.cat([q, q], 3)[..., ::2])),
            ("v has shape [2, 70, 6], expected [batch, heads, tokens, dim]", set_tensor("v", lambda v: v.flatten(1, 2))),
            ("k.batch is 1, expected 2", set_tensor("k", lambda k: k[:1])),
            ("v is Long, expected Float, BFloat16 or Half", set_tensor("v", lambda v: v.long())),
            ("phi_k[2] has shape [16, 5, 1], expected [2 * out, 7, 1]", set_tensor(
                "phi_k", lambda phi: [*phi[:2], phi[2][:, :5], None])),
            ("phi_q[1] has shape [3], expected [28] or None", set_tensor("phi_q", lambda phi: [phi[0], phi[1][:3]])),
            ("phi_q has 3 tensors, expected weight and bias (or None) of 1 to 3 layers", set_tensor(
                "phi_q", lambda phi: phi[:3])),
        ):
            self.refused(message, change)
        self.refused("k is Float, expected Double as q is", set_tensor("k", lambda k: k.float()), torch.float64)

    def test_heads(self):
        clip = support.Clip(33, heads=4, kv_heads=3, dtype=torch.float32, feature_map="relu")
        clip.phi_q = clip.phi_k = []
        self.assert_refused("rehyat: k.heads is 3, expected a divisor of q.heads (4)", clip.rehyat)

    def test_nothing_is_computed_for_no_tokens(self):
        clip = support.Clip(32, frames=0, dtype=torch.float32)
        self.assertEqual(clip.rehyat().shape, (2, 4, 0, 6))
