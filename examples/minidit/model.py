"""A small video diffusion transformer in PyTorch: what model.cpp runs, and what its weights are trained with.

Rectified flow (x_t = (1 - t) x_0 + t noise, the model predicts x_0 - noise), adaLN conditioned on t, per-head RMS norm of
queries and keys, 3D rotary embedding, attention over all tokens of all frames. Frames that are given clean are
conditioned on t = 0. Each layer attends in one of these ways, by chunks of Tc frames and an overlap of To:

    softmax   softmax over all frames
    causal    softmax over all frames up to the end of the query's chunk
    window    softmax over the query's chunk and the overlap before it
    hybrid    window, and linear attention to everything earlier, normalised together (ReHyAt)

Parameters keep the names they have in weight files. Runs on PyTorch 1.13 and 2.x, on the CPU or a GPU.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F

HEAD_DIM = 64
ROTARY_DIMS = (24, 20, 20)  # of HEAD_DIM: for time, height, width
ATTENTION = ("softmax", "causal", "window", "hybrid")


def rope_tab(frames, height, width, base=10000.0, first_frame=0):
    """cos and sin [tokens, HEAD_DIM / 2] of the rotary embedding, tokens being frame by frame, row by row."""

    def angles(first, count, dims):
        positions = torch.arange(first, first + count).float()
        return positions[:, None] * base ** (-torch.arange(0, dims, 2).float() / dims)

    t, h, w = (angles(*p) for p in zip((first_frame, 0, 0), (frames, height, width), ROTARY_DIMS))
    grid = (frames, height, width, -1)
    angle = torch.cat([t[:, None, None].expand(grid), h[None, :, None].expand(grid), w[None, None].expand(grid)], -1)
    angle = angle.reshape(frames * height * width, HEAD_DIM // 2)
    return angle.cos(), angle.sin()


def rotate(x, rope):
    """Rotates the interleaved pairs of x [B, heads, N, HEAD_DIM]."""
    cos, sin = rope
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def rms_norm(x, gain):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * gain


class PerHeadLinear(nn.Module):
    def __init__(self, heads, inputs, outputs, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(heads, outputs, inputs) / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.full((heads, outputs), float(bias)))

    def forward(self, x):  # [B, heads, N, inputs]
        return x @ self.weight.transpose(-1, -2) + self.bias[:, None]


class FeatureMap(nn.ModuleList):
    """phi: a per-head MLP with gelu between its layers and softplus after the last; part i of `degree` equal parts of its
    output is raised to the power i. The last bias makes the linear branch nearly silent before it is trained."""

    def __init__(self, heads, hidden=128, features=128, degree=2, head_dim=HEAD_DIM):
        super().__init__([PerHeadLinear(heads, head_dim, hidden, 0), PerHeadLinear(heads, hidden, features, -4)])
        self.degree = degree

    def forward(self, x):  # [B, heads, N, HEAD_DIM] -> [B, heads, N, features]
        y = F.softplus(self[1](F.gelu(self[0](x))))
        return torch.cat([part ** (i + 1) for i, part in enumerate(y.chunk(self.degree, -1))], -1)


def softmax_attention(q, k, v):
    if hasattr(F, "scaled_dot_product_attention"):  # PyTorch 2: never holds the scores of all queries and keys
        return F.scaled_dot_product_attention(q, k, v)
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) @ v


def joint_attention(q, k, v, features, sum_kv, sum_k):
    """Softmax over k, joined with the linear read of the sums over earlier keys. The exponentials are shifted by the row's
    maximum, which scales them against the linear branch: gradients flow through it too."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    weights = torch.exp(scores - scores.max(-1, keepdim=True).values)
    return (weights @ v + features @ sum_kv) / (weights.sum(-1, keepdim=True) + features @ sum_k[..., None])


def hybrid_attention(q, k, v, phi_q, phi_k, chunks, starts):
    """Causal hybrid attention of a whole clip. Chunk i holds the queries chunks[i]:chunks[i + 1]; its softmax keys begin
    at starts[i], and what lies before is absorbed into the sums, each key once."""
    sizes = [end - begin for begin, end in zip(chunks, chunks[1:])]
    # What leaves the window at each chunk: cut once, for the gradient of a slice is a tensor of the whole clip's size.
    leaving = [start - before for before, start in zip([0] + starts, starts)] + [k.shape[2] - starts[-1]]
    features_k, leaving_v = phi_k(k).split(leaving, 2), v.split(leaving, 2)
    sum_kv = sum_k = 0.0
    out = []
    for i, (queries, features) in enumerate(zip(q.split(sizes, 2), phi_q(q).split(sizes, 2))):
        keys = (k[:, :, starts[i]:chunks[i + 1]], v[:, :, starts[i]:chunks[i + 1]])
        if leaving[i]:
            sum_kv = sum_kv + features_k[i].transpose(-1, -2) @ leaving_v[i]
            sum_k = sum_k + features_k[i].sum(2)
        out.append(joint_attention(queries, *keys, features, sum_kv, sum_k) if starts[i]
                   else softmax_attention(queries, *keys))
    return torch.cat(out, 2)


class Block(nn.Module):
    def __init__(self, width, heads, attention):
        super().__init__()
        self.heads, self.attention = heads, attention
        self.n1 = nn.LayerNorm(width, elementwise_affine=False)
        self.n2 = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.qg, self.kg = nn.Parameter(torch.ones(HEAD_DIM)), nn.Parameter(torch.ones(HEAD_DIM))
        self.f1, self.f2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mod = nn.Linear(width, 6 * width)  # shift, scale and gate of attention, then of the MLP
        nn.init.zeros_(self.mod.weight)
        nn.init.zeros_(self.mod.bias)
        with torch.no_grad():
            for gate in (2, 5):
                self.mod.bias[gate * width:(gate + 1) * width] = 0.3

    def add_phi(self, hidden, features, degree):
        self.phi_q = FeatureMap(self.heads, hidden, features, degree)
        self.phi_k = FeatureMap(self.heads, hidden, features, degree)

    def attend(self, q, k, v, chunks, starts):
        if self.attention == "hybrid":
            return hybrid_attention(q, k, v, self.phi_q, self.phi_k, chunks, starts)
        out = []
        for begin, end, start in zip(chunks, chunks[1:], starts):
            first, last = {"softmax": (0, q.shape[2]), "causal": (0, end), "window": (start, end)}[self.attention]
            out.append(softmax_attention(q[:, :, begin:end], k[:, :, first:last], v[:, :, first:last]))
        return torch.cat(out, 2)

    def forward(self, x, condition, clean, rope, chunks, starts, tap=None):
        batch, tokens, width = x.shape
        modulation = self.mod(condition)  # [B, 2, 6 * width]: of noised frames, of clean ones
        index = clean.long()[..., None].expand(-1, -1, 6 * width)
        shift1, scale1, gate1, shift2, scale2, gate2 = torch.gather(modulation, 1, index).chunk(6, -1)
        y = self.qkv(self.n1(x) * (1 + scale1) + shift1)
        q, k, v = y.view(batch, tokens, 3, self.heads, HEAD_DIM).permute(2, 0, 3, 1, 4)
        q, k = rotate(rms_norm(q, self.qg), rope), rotate(rms_norm(k, self.kg), rope)
        if tap is not None:
            tap.append((q, k, v))
        y = self.attend(q, k, v, chunks, starts).transpose(1, 2).reshape(batch, tokens, width)
        x = x + gate1 * self.o(y)
        return x + gate2 * self.f2(F.gelu(self.f1(self.n2(x) * (1 + scale2) + shift2)))


class VDiT(nn.Module):
    """attention: how each layer attends, one name of ATTENTION for all or one per layer ("softmax,hybrid,..."). It may be set later
    (set_attention); layers that become hybrid get feature maps, b[l].phi_q and b[l].phi_k, which stay from then on."""

    def __init__(self, width=192, heads=3, layers=4, channels=64, attention="softmax", chunk_frames=3, overlap_frames=1,
                 tokens_per_frame=432, hidden=128, features=128, degree=2):
        super().__init__()
        self.chunk_frames, self.overlap_frames, self.tokens_per_frame = chunk_frames, overlap_frames, tokens_per_frame
        self.phi_shape = dict(hidden=hidden, features=features, degree=degree)
        self.inp = nn.Linear(channels, width)
        self.t1, self.t2 = nn.Linear(64, width), nn.Linear(width, width)
        self.b = nn.ModuleList(Block(width, heads, "softmax") for _ in range(layers))
        self.nf = nn.LayerNorm(width, elementwise_affine=False)
        self.out = nn.Linear(width, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.set_attention(attention)

    @property
    def attention(self):
        return [block.attention for block in self.b]

    def set_attention(self, attention):
        names = attention.split(",") if isinstance(attention, str) else list(attention)
        if len(names) == 1:
            names *= len(self.b)
        if len(names) != len(self.b) or not set(names) <= set(ATTENTION):
            raise ValueError(f"attention is {attention!r}; expected one of {ATTENTION}, or {len(self.b)} of them")
        for block, name in zip(self.b, names):
            block.attention = name
            if name == "hybrid" and not hasattr(block, "phi_q"):
                block.add_phi(**self.phi_shape)

    @property
    def phi(self):
        """The feature maps by layer: {l: (phi_q, phi_k)}."""
        return {l: (block.phi_q, block.phi_k) for l, block in enumerate(self.b) if hasattr(block, "phi_q")}

    def time_embedding(self, t):
        frequencies = torch.exp(-math.log(1000.0) * torch.arange(32, device=t.device) / 32)
        angle = t[..., None] * frequencies * 100
        return self.t2(F.silu(self.t1(torch.cat([angle.cos(), angle.sin()], -1))))

    def chunking(self, tokens):
        """Where the chunks begin (and the last one ends), and where the softmax keys of each do, in tokens."""
        frames, rest = divmod(tokens, self.tokens_per_frame)
        if rest:
            raise ValueError(f"{tokens} tokens; expected whole frames of tokens_per_frame = {self.tokens_per_frame}")
        first = list(range(0, frames, self.chunk_frames))
        chunks = [f * self.tokens_per_frame for f in first] + [tokens]
        return chunks, [max(f - self.overlap_frames, 0) * self.tokens_per_frame for f in first]

    def forward(self, x, t, clean, rope, tap=None):
        """x [B, N, channels], t [B], clean [B, N] bool, rope of rope_tab() -> x_0 - noise, [B, N, channels].
        `tap`, a list, gets q, k and v [B, heads, N, HEAD_DIM] of each layer."""
        condition = F.silu(self.time_embedding(torch.stack([t, torch.zeros_like(t)], 1)))
        chunks, starts = self.chunking(x.shape[1])
        y = self.inp(x)
        for block in self.b:
            y = block(y, condition, clean, rope, chunks, starts, tap)
        return self.out(self.nf(y))


def noised(x0, noise, t, tokens_per_frame, clean_frames=1):
    """x_t of x0 [B, N, channels], whose first frames stay clean, and which of its tokens are clean, [B, N] bool."""
    clean = torch.zeros(x0.shape[:2], dtype=torch.bool)
    clean[:, :clean_frames * tokens_per_frame] = True
    return torch.where(clean[..., None], x0, (1 - t) * x0 + t * noise), clean
