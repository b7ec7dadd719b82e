"""The operator's output against the plain definition in float64."""
import torch
from torch import profiler

from torch_op import support

TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
SETTINGS = (
    dict(),
    dict(causal=False),
    dict(stabilizer="none", scale=0.3),
    dict(stabilizer="none", causal=False, overlap_frames=4),
    dict(chunk_frames=9),
    dict(denominator_epsilon=0.5, denominator_floor=4.0, overlap_frames=0),
    dict(degree=4, activation="silu", output_activation="elu1", chunk_frames=1),
)


class ForwardTest(support.TorchTest):

    def test_every_type_and_setting(self):
        for dtype, tolerance in TOLERANCE.items():
            for seed, settings in enumerate(SETTINGS):
                clip = support.Clip(seed, dtype=dtype, **settings)
                out = clip.rehyat()
                self.assertEqual((out.dtype, out.shape), (dtype, (2, 4, 35, 6)))
                self.assert_close(out, clip.plain(), tolerance, (dtype, settings))

    def test_elementwise_maps(self):
        for name in ("elu1", "relu", "identity"):
            clip = support.Clip(3, feature_map=name, stabilizer="row_max", denominator_epsilon=100.0)
            clip.phi_q = clip.phi_k = []
            self.assert_close(clip.rehyat(), clip.plain(), 1e-13, name)
            self.assert_close(clip.convert(torch.float32).rehyat(), clip.plain(), 2e-6, name)

    def test_given_features(self):
        for count in (1, 2):
            clip = support.Clip(4, feature_map="given")
            clip.phi_q = [clip.draw(2, 4, 35, 9).abs() for _ in range(count)]
            clip.phi_k = [clip.draw(2, 2, 35, 9).abs() for _ in range(count)]
            self.assert_close(clip.rehyat(), clip.plain(), 1e-13)
            self.assert_close(clip.convert(torch.float32).rehyat(), clip.plain(), 2e-6)

    def test_strides(self):
        """Heads interleaved, slices of a fused QKV, a broadcast batch: the bits of packed tensors."""
        for dtype in TOLERANCE:
            clip = support.Clip(5, kv_heads=4, value_dim=8, dtype=dtype)
            expected = clip.rehyat()
            clip.q, clip.k, clip.v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (clip.q, clip.k, clip.v))
            self.assert_same_bits(clip.rehyat(), expected)
            fused = torch.stack([x.transpose(1, 2) for x in (clip.q, clip.k, clip.v)], dim=2)
            clip.q, clip.k, clip.v = (fused[:, :, i].transpose(1, 2) for i in range(3))
            self.assertEqual(clip.q.stride(), (35 * 3 * 32, 8, 3 * 32, 1))
            self.assert_same_bits(clip.rehyat(), expected)
            clip.k = clip.k[:1].expand(2, -1, -1, -1)
            packed = support.Clip(5, kv_heads=4, value_dim=8, dtype=dtype)
            packed.k = clip.k.contiguous()
            self.assert_same_bits(clip.rehyat(), packed.rehyat())

    def test_copies_nothing(self):
        clip = support.Clip(6, dtype=torch.bfloat16)
        clip.q = clip.q.transpose(1, 2).contiguous().transpose(1, 2)
        with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as profile:
            clip.rehyat()
        called = {event.key for event in profile.key_averages()}
        self.assertIn("rehyat::hybrid_attention", called)
        self.assertNotIn("aten::copy_", called)

    def test_heads_join_without_a_copy(self):
        out = support.Clip(7).rehyat().transpose(1, 2)
        self.assertTrue(out.is_contiguous())

    def test_threads_do_not_change_bits(self):
        clip = support.Clip(8, dtype=torch.float32)
        results = []
        threads = torch.get_num_threads()
        for count in (1, 2, 8):
            torch.set_num_threads(count)
            results.append(clip.rehyat())
        torch.set_num_threads(threads)
        for result in results[1:]:
            self.assert_same_bits(result, results[0])

    def test_script_and_meta(self):
        clip = support.Clip(9, dtype=torch.float32)
        clip.settings.pop("output_activation")

        @torch.jit.script
        def scripted(q, k, v, w0, b0, w1, v0, c0, v1):
            return torch.ops.rehyat.hybrid_attention(q, k, v, [w0, b0, w1, None], [v0, c0, v1, None], tokens_per_frame=5,
                                                     chunk_frames=2, overlap_frames=1)

        self.assert_same_bits(scripted(*clip.tensors()), clip.rehyat())
        shapes = [None if x is None else x.to("meta") for x in (clip.q, clip.k, clip.v, *clip.phi_q, *clip.phi_k)]
        out = torch.ops.rehyat.hybrid_attention(*shapes[:3], shapes[3:7], shapes[7:], tokens_per_frame=5)
        self.assertEqual((out.shape, out.device.type, out.stride()),
                         ((2, 4, 35, 6), "meta", clip.rehyat().stride()))
