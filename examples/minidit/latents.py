#!/usr/bin/env python3
"""Makes latents of video clips: latents.py --weights minidit.safetensors OUT_FOLDER [CLIP ...]

Frames of 384 x 288 pixels, in patches of 16 x 16, each in the basis that is part of the weights: float16
[frames, 432 tokens, 64]. Clips are those of Debian's package opencv-doc, what the model did not see of them: vtest (its
frames from 640 on, every second) and box (at 10 frames a second, from 80 % on). With --training what it was trained on:
the first 80 % of vtest and, at 10 frames a second, of box, cup and megamind. Needs ffmpeg, and NumPy.
"""
import argparse
import gzip
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

import weights

WIDTH, HEIGHT, PATCH = 384, 288, 16
FOLDER = pathlib.Path("/usr/share/doc/opencv-doc")
CLIPS = {  # file, frames a second (None: as it is)
    "vtest": ("examples/data/vtest.avi", None),
    "box": ("opencv4/html/box.mp4.gz", 10),
    "cup": ("opencv4/html/cup.mp4.gz", 10),
    "megamind": ("examples/data/Megamind.avi", 10),
}
HELD_OUT = {"vtest": (640, 2), "box": (None, 1)}  # first frame (None: where training ends), stride
AT_ONCE = 32  # frames encoded together: their pixels take much more memory as float32 than as they are


def decode(path, fps):
    """All frames of a video, uint8 [frames, HEIGHT, WIDTH, 3]."""
    filters = (f"fps={fps}," if fps else "") + f"scale={WIDTH}:{HEIGHT}:flags=area"
    with tempfile.NamedTemporaryFile() as unpacked:  # ffmpeg seeks in it
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                shutil.copyfileobj(packed, unpacked)
            unpacked.flush()
            path = unpacked.name
        command = ["ffmpeg", "-v", "fatal", "-i", str(path), "-an", "-vf", filters, "-f", "rawvideo", "-pix_fmt",
                   "rgb24", "-"]
        raw = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)


def encode(frames, basis):
    """Pixels [frames, HEIGHT, WIDTH, 3] to latents [frames, tokens, 64]."""
    rows, columns = HEIGHT // PATCH, WIDTH // PATCH
    patches = frames.reshape(-1, rows, PATCH, columns, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)
    patches = patches.reshape(len(frames), rows * columns, -1).astype(np.float32) / 127.5 - 1
    return (patches - basis["mu"]) @ basis["U"] * basis["sc"]


def selected(frames, name, options):
    """The frames of a clip that are asked for."""
    trained = len(frames) * 4 // 5
    if options.training:
        return frames[:trained]
    first, stride = HELD_OUT[name]
    first = trained if first is None else first
    frames = frames[first:first + (options.frames - 1) * stride + 1:stride]
    if len(frames) != options.frames:
        sys.exit(f"latents.py: {name} has {len(frames)} frames left; expected {options.frames}")
    return frames


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="the model's weights, whose basis is taken")
    parser.add_argument("--training", action="store_true", help="all frames that the model was trained on")
    parser.add_argument("--frames", type=int, default=21, help="of a clip without --training (%(default)s)")
    parser.add_argument("out", type=pathlib.Path, metavar="OUT_FOLDER")
    parser.add_argument("clips", nargs="*", metavar="CLIP", help="all by default")
    options = parser.parse_args()
    known = CLIPS if options.training else HELD_OUT
    for name in options.clips:
        if name not in known:
            parser.error(f"there is no {'training' if options.training else 'held-out'} clip {name!r}; "
                         f"expected one of {', '.join(known)}")
    options.clips = options.clips or list(known)
    return options


def main():
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    basis, _ = weights.load(options.weights)
    for name in options.clips:
        file, fps = CLIPS[name]
        if not (FOLDER / file).exists():
            sys.exit(f"latents.py: there is no {FOLDER / file}; install the package opencv-doc")
        frames = selected(decode(FOLDER / file, fps), name, options)
        parts = [encode(frames[i:i + AT_ONCE], basis).astype(np.float16) for i in range(0, len(frames), AT_ONCE)]
        np.save(options.out / f"{name}.npy", np.concatenate(parts))


if __name__ == "__main__":
    main()
