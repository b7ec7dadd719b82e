"""Gradients: by differences, against autograd of the plain definition, and through each row's maximum."""
import torch

from torch_op import support


def gradients(clip, out):
    """Of a fixed random projection of `out`, with respect to all of the clip's tensors."""
    direction = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((out * direction.to(out.dtype)).sum(), clip.tensors())


class GradientTest(support.TorchTest):

    def check(self, clip, function):
        self.assertTrue(torch.autograd.gradcheck(function, [x.requires_grad_() for x in clip.tensors()]))

    def small(self, seed, **settings):
        return support.Clip(seed, frames=5, tokens_per_frame=2, batch=1, heads=2, kv_heads=1, dim=3, value_dim=2,
                            hidden=3, features=4, **settings)

    def test_gradcheck(self):
        """Both stabilizers, with linear keys (chunks of 2 frames) and without (one chunk)."""
        for stabilizer in ("row_max", "none"):
            for chunk_frames in (2, 5):
                for causal in (True, False):
                    clip = self.small(1, stabilizer=stabilizer, chunk_frames=chunk_frames, causal=causal)
                    with self.subTest(**clip.settings):
                        self.check(
                            clip, lambda q, k, v, w0, b0, w1, x0, c0, x1: torch.ops.rehyat.hybrid_attention(
                                q, k, v, [w0, b0, w1, None], [x0, c0, x1, None], **clip.settings))

    def test_gradcheck_without_weights(self):
        clip = self.small(2, feature_map="elu1")
        clip.phi_q = clip.phi_k = []
        self.check(clip, lambda q, k, v: torch.ops.rehyat.hybrid_attention(q, k, v, [], [], **clip.settings))
        clip = self.small(3, feature_map="given", causal=False)
        clip.phi_q = [clip.draw(1, 2, 10, 3).abs() for _ in range(2)]
        clip.phi_k = [clip.draw(1, 1, 10, 3).abs() for _ in range(2)]
        self.check(clip, lambda q, k, v, f, g, x, y: torch.ops.rehyat.hybrid_attention(
            q, k, v, [f, g], [x, y], **clip.settings))

    def test_against_autograd(self):
        tolerances = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 1e-2}
        for settings in (dict(), dict(stabilizer="none", causal=False), dict(denominator_floor=4.0, causal=False),
                         dict(denominator_epsilon=1.0, chunk_frames=20)):
            for dtype, tolerance in tolerances.items():
                clip = support.Clip(11, dtype=dtype, **settings).require_gradients()
                found, expected = gradients(clip, clip.rehyat()), gradients(clip, clip.plain())
                for i, (d, e) in enumerate(zip(found, expected)):
                    self.assertEqual(d.dtype, clip.tensors()[i].dtype)
                    if e.abs().max() > 0:  # without linear keys phi has none
                        self.assert_close(d, e, tolerance, (settings, dtype, i))

    def test_maximum_is_no_constant(self):
        """What holding each row's maximum constant would give is another gradient, and not ours."""
        clip = support.Clip(12).require_gradients()
        found, expected = gradients(clip, clip.rehyat()), gradients(clip, clip.plain())
        constant = gradients(clip, clip.plain(maximum_is_constant=True))
        for i in (0, 1):  # q and k
            self.assert_close(found[i], expected[i], 1e-12)
            self.assertGreater((constant[i] - expected[i]).norm() / expected[i].norm(), 0.1)

    def test_first_of_equal_keys_gets_the_maximum(self):
        """Two equal keys: as if the first were larger by nothing."""
        clip = support.Clip(13, frames=3, tokens_per_frame=2, batch=1, heads=1, kv_heads=1, chunk_frames=1,
                            overlap_frames=0)
        clip.k[:, :, 5] = clip.k[:, :, 4]
        clip.require_gradients()
        found = gradients(clip, clip.rehyat())[1][0, 0]
        with torch.no_grad():
            step = 1e-9 * clip.q[0, 0, 4:6].mean(0)
            self.assertTrue((clip.q[0, 0, 4:6] @ step > 0).all(), "this seed's queries disagree, take another one")
            clip.k[0, 0, 4] += step
        self.assert_close(found, gradients(clip, clip.plain())[1][0, 0], 1e-6)

    def test_only_what_is_wanted(self):
        clip = support.Clip(14)
        for wanted in range(len(clip.tensors())):
            for i, x in enumerate(clip.tensors()):
                x.requires_grad_(i == wanted)
            x = clip.tensors()[wanted]
            found = torch.autograd.grad(clip.rehyat().sum(), x)[0]
            self.assert_close(found, torch.autograd.grad(clip.plain().sum(), x)[0], 1e-12, wanted)

    def test_threads_do_not_change_bits(self):
        clip = support.Clip(15, dtype=torch.float32).require_gradients()
        results = []
        threads = torch.get_num_threads()
        for count in (1, 2, 8):
            torch.set_num_threads(count)
            results.append(gradients(clip, clip.rehyat()))
        torch.set_num_threads(threads)
        for result in results[1:]:
            for a, b in zip(result, results[0]):
                self.assert_same_bits(a, b)

    def test_no_second_derivative(self):
        clip = support.Clip(16).require_gradients()
        self.assert_refused("hybrid_attention has no second derivative", torch.autograd.grad, clip.rehyat().sum(), clip.q,
                            create_graph=True)

    def test_a_module_learns(self):
        """Fine-tuning phi towards softmax attention: the loss falls."""
        torch.manual_seed(1)
        module = support.rehyat_torch.HybridAttention(2, 4, hidden=(6,), features=6, chunk_frames=1)
        clip = support.Clip(17, heads=2, kv_heads=2, dim=4, value_dim=4, dtype=torch.float32)
        target = torch.softmax(clip.q @ clip.k.transpose(2, 3) / 2, dim=3) @ clip.v
        optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
        losses = []
        for _ in range(30):
            loss = (module(clip.q, clip.k, clip.v, 5, causal=False) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        self.assertLess(losses[-1], 0.7 * losses[0])
