"""The recurrent form: one shot to the bit, states that are kept, and the TorchScript class."""
import io

import torch

from torch_op import support


class Sampler(torch.nn.Module):
    """A module with a state, to be scripted."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    def forward(self, q, k, v):
        return self.state.step(q, k, v)


class RecurrentTest(support.TorchTest):

    def clip(self, dtype=torch.float32, **settings):
        clip = support.Clip(21, dtype=dtype, **settings)
        state = torch.classes.rehyat.RecurrentAttention(2, 4, 2, 8, 6, clip.phi_q, clip.phi_k, **clip.settings)
        return clip, state

    def chunks(self, clip):
        """q, k, v of each chunk of two frames of five tokens, as views; the last chunk is short."""
        return [[x[:, :, begin:begin + 10] for x in (clip.q, clip.k, clip.v)] for begin in range(0, 35, 10)]

    def test_equals_one_shot_to_the_bit(self):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for settings in (dict(), dict(stabilizer="none"), dict(overlap_frames=5, scale=0.2)):
                clip, state = self.clip(dtype, **settings)
                for _ in range(2):  # again after reset()
                    out = torch.cat([state.step(*chunk) for chunk in self.chunks(clip)], dim=2)
                    self.assert_same_bits(out, clip.rehyat())
                    self.assertEqual(state.frames_seen(), 7)
                    state.reset()

    def test_peek_and_commit(self):
        clip, state = self.clip()
        out = []
        for q, k, v in self.chunks(clip):
            state.peek(q + 1, k * 2, v)  # a noisy version
            out.append(state.peek(q, k, v))
            state.commit(k, v)
        self.assert_same_bits(torch.cat(out, dim=2), clip.rehyat())

    def test_saved_states_go_on(self):
        clip, state = self.clip()
        first, second, *_ = self.chunks(clip)
        state.step(*first)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        pickled, (_, loaded) = torch.load(buffer), self.clip()
        loaded.load(state.save())
        expected = state.step(*second)
        self.assert_same_bits(pickled.step(*second), expected)
        self.assert_same_bits(loaded.step(*second), expected)
        loaded.reset_entry(1)
        self.assertEqual([loaded.frames_seen(0), loaded.frames_seen(1)], [4, 0])

    def test_scripted_module(self):
        clip, state = self.clip()
        first, second, *_ = self.chunks(clip)
        scripted = torch.jit.script(Sampler(state))
        scripted(*first)
        buffer = io.BytesIO()
        torch.jit.save(scripted, buffer)
        buffer.seek(0)
        self.assert_same_bits(torch.jit.load(buffer)(*second), scripted(*second))

    def test_errors(self):
        clip, state = self.clip()
        chunks = self.chunks(clip)
        q, k, v = chunks[0]
        self.assert_refused("rehyat: q requires a gradient, which the recurrence does not have", state.step,
                            q.clone().requires_grad_(), k, v)
        self.assert_refused("rehyat: k is Double, expected Float, BFloat16 or Half", state.commit, k.double(), v)
        self.assert_refused("rehyat: v.tokens is 10, expected 5", state.step, q, k[:, :, :5], v)
        self.assert_refused("rehyat: batch_entry is 2, expected 0 to", state.frames_seen, 2)
        self.assert_refused("rehyat: magic is", state.load, torch.zeros(500, dtype=torch.uint8))
        for chunk in chunks:
            state.step(*chunk)
        self.assert_refused("expected reset() first", state.step, q, k, v)
        _, other = self.clip(overlap_frames=2)
        self.assert_refused("rehyat: overlap_frames is 2, expected 1", state.load, other.save())
        create = torch.classes.rehyat.RecurrentAttention
        self.assert_refused("rehyat: feature_map is 'given'", create, 1, 1, 1, 4, 4, [q], [k], 5, feature_map="given")
        self.assert_refused("rehyat: config.kv_heads is 3, expected a divisor of config.heads (4)", create, 1, 4, 3, 4, 4,
                            [], [], 5, feature_map="elu1")
