#!/usr/bin/env python3
"""Fine-tunes the model with other ways of attention: stage 2 of ReHyAt, after `rehyat distill`.

    finetune.py OUT.safetensors --weights minidit.safetensors --latents clips/*.npy \\
        --attention softmax,hybrid,hybrid,softmax --phi phi{}.safetensors

All weights are trained with the flow-matching loss: clips of --frames frames, cut to one of --grid tokens (drawn such that softmax
over all of them costs each of the grids equally much), at noise levels drawn evenly, whose first frame is given, or in a third of the
steps some whole chunks, as in sampling. AdamW, warm-up and cosine; what is written is a moving average. --phi gives hybrid layers their
distilled feature maps of two layers. --operator takes the folder where examples/torch_op was built: hybrid layers then run through the library,
forward and backward, without it through model.py in PyTorch. Both give the same gradients; a run repeats to the bit with the same
seed, threads and machine.
"""
import argparse
import math
import pathlib
import sys
import time
import warnings

import numpy as np
import torch

import model as minidit
import weights
from capture import COLUMNS, ROWS, grid
from model import HEAD_DIM, VDiT, noised, rope_tab

LONGEST = 64  # frames of the table of rotary embeddings


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, metavar="OUT.safetensors")
    parser.add_argument("--weights", required=True, help="to begin with")
    parser.add_argument("--latents", nargs="+", required=True, type=pathlib.Path, help="of latents.py --training")
    parser.add_argument("--strides", nargs="+", type=int, default=[1, 2], help="every how many-th frame (%(default)s)")
    parser.add_argument("--attention", required=True, help="one name for all layers or one for each")
    parser.add_argument("--phi", help="what `rehyat distill` wrote, {} in its name standing for the layer")
    parser.add_argument("--operator", type=pathlib.Path, help="folder of rehyat_torch.py and its library")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--frames", type=int, default=21)
    parser.add_argument("--grid", nargs="+", type=grid, default=[(6, 8), (9, 12), (18, 24)],
                        help="tokens of a frame, rows by columns (6x8 9x12 18x24)")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--phi-learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def load_model(options):
    """The model with its weights and the distilled feature maps, and the basis of the patches."""
    tensors, _ = weights.load(options.weights)
    if options.phi:
        for layer, attention in enumerate(VDiT(attention=options.attention).attention):
            if attention == "hybrid":
                distilled, _ = weights.load(options.phi.format(layer))
                tensors.update({f"layer{layer}.{name}": array for name, array in distilled.items()})
    state = {name: torch.from_numpy(array) for name, array in weights.of_model(tensors).items()}
    shapes = [dict(hidden=tensor.shape[2], features=tensor.shape[1])
              for name, tensor in state.items() if name.endswith("phi_q.1.weight")]
    model = VDiT(attention=options.attention, **(shapes[0] if shapes else {}))
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        sys.exit(f"finetune.py: the layers are {','.join(model.attention)}, but weights are "
                 f"{'missing: ' + ', '.join(missing) if missing else 'left over: ' + ', '.join(unexpected)}")
    return model, {name: tensors[name] for name in weights.BASIS}


def use_operator(folder, model):
    """Lets the library compute hybrid attention and its gradients."""
    sys.path.insert(0, str(folder))
    import rehyat_torch  # noqa: F401 (registers the operator)

    def layers(phi):
        return [tensor for layer in phi for tensor in (layer.weight.flatten(0, 1)[..., None], layer.bias.flatten())]

    def attention(q, k, v, phi_q, phi_k, chunks, starts):
        return torch.ops.rehyat.hybrid_attention(
            q, k, v, layers(phi_q), layers(phi_k), tokens_per_frame=model.tokens_per_frame,
            chunk_frames=model.chunk_frames, overlap_frames=model.overlap_frames, causal=True, stabilizer="row_max",
            scale=None, degree=phi_q.degree, activation="gelu", output_activation="softplus")

    minidit.hybrid_attention = attention


class Clips:
    """Draws parts of clips with their rotary embeddings."""

    def __init__(self, options):
        self.clips = [np.load(path, mmap_mode="r") for path in options.latents]
        self.options, self.random = options, np.random.default_rng(options.seed)
        self.rope = [table.view(LONGEST, ROWS, COLUMNS, -1) for table in rope_tab(LONGEST, ROWS, COLUMNS)]
        short = [path for path, clip in zip(options.latents, self.clips) if len(clip) < options.frames]
        if short:
            sys.exit(f"finetune.py: {short[0]} has fewer frames than --frames = {options.frames}")

    def draw(self):
        """x_0 [1, N, channels], its tokens a frame, and cos and sin of its places."""
        frames, grids = self.options.frames, self.options.grid
        share = np.array([float(rows * columns) ** -2 for rows, columns in grids])
        rows, columns = grids[self.random.choice(len(grids), p=share / share.sum())]
        clip = self.clips[self.random.integers(len(self.clips))]
        stride = min(int(self.random.choice(self.options.strides)), (len(clip) - 1) // (frames - 1))
        begin = self.random.integers(len(clip) - (frames - 1) * stride)
        top, left = self.random.integers(ROWS - rows + 1), self.random.integers(COLUMNS - columns + 1)
        part = np.s_[:, top:top + rows, left:left + columns]
        x0 = clip[begin:begin + (frames - 1) * stride + 1:stride].reshape(frames, ROWS, COLUMNS, -1)[part]
        rope = [table[:frames][part].reshape(-1, HEAD_DIM // 2) for table in self.rope]
        return torch.from_numpy(x0.astype(np.float32).reshape(1, -1, x0.shape[-1])), rows * columns, rope

    def clean_frames(self, chunk_frames):
        """How many frames are given: the first, or some whole chunks."""
        chunks = (self.options.frames - 1) // chunk_frames
        return 1 if self.random.random() < 2 / 3 else chunk_frames * int(self.random.integers(1, chunks + 1))


def loss_of(model, clips):
    x0, model.tokens_per_frame, rope = clips.draw()
    t = float(clips.random.uniform(0.05, 1))
    noise = torch.randn_like(x0)
    xt, clean = noised(x0, noise, t, model.tokens_per_frame, clips.clean_frames(model.chunk_frames))
    velocity = model(xt, torch.tensor([t]), clean, rope)
    return (velocity - (x0 - noise))[~clean].square().mean()


def train(model, clips, options):
    """Trains in place; leaves the moving average of the weights."""
    groups = [dict(params=[p for name, p in model.named_parameters() if ("phi_" in name) == phi], peak=peak)
              for phi, peak in ((False, options.learning_rate), (True, options.phi_learning_rate))]
    groups = [group for group in groups if group["params"]]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0)
    average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    smooth, begun = None, time.monotonic()
    for step in range(options.steps):
        rate = min(1, (step + 1) / 20) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / options.steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["peak"]
        loss = loss_of(model, clips)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                average[name].lerp_(tensor, max(0.01, 10 / (step + 10)))
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        if step % 50 == 49 or step + 1 == options.steps:
            print(f"step {step + 1} of {options.steps}  loss {smooth:.4f}  {time.monotonic() - begun:.0f} s", flush=True)
    model.load_state_dict(average)


def main():
    options = parse()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # features that are off, squared, are many
    warnings.filterwarnings("ignore", "The value of the smallest subnormal")  # NumPy notices
    model, basis = load_model(options)
    if options.operator:
        use_operator(options.operator, model)
    train(model, Clips(options), options)
    tensors = {weights.name_in_file(name): tensor.numpy() for name, tensor in model.state_dict().items()}
    weights.save(options.out, {**tensors, **basis}, weights.metadata(",".join(model.attention), tensors))


if __name__ == "__main__":
    main()
