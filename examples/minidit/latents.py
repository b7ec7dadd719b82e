#!/usr/bin/env python3
"""Makes latents of video clips: latents.py --weights minidit.safetensors OUT_FOLDER [CLIP ...]

Frames of 384 x 288 pixels, in patches of 16 x 16, each in the basis that is part of the weights: float16
[frames, 432 tokens, 64]. Clips are those of Debian's package opencv-doc that the model was held out from: vtest (its
frames from 640 on, every second) and box (at 10 frames a second, from 80 % on). Needs ffmpeg, and NumPy.
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
CLIPS = {  # file, frames a second (None: as it is), first frame, stride
    "vtest": ("examples/data/vtest.avi", None, 640, 2),
    "box": ("opencv4/html/box.mp4.gz", 10, None, 1),
}


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="the model's weights, whose basis is taken")
    parser.add_argument("--frames", type=int, default=21, help="of a clip (%(default)s)")
    parser.add_argument("out", type=pathlib.Path, metavar="OUT_FOLDER")
    parser.add_argument("clips", nargs="*", default=list(CLIPS), metavar="CLIP", help="vtest, box; all by default")
    options = parser.parse_args()
    for name in options.clips:
        if name not in CLIPS:
            sys.exit(f"latents.py: there is no clip {name!r}; expected one of {', '.join(CLIPS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    basis, _ = weights.load(options.weights)
    for name in options.clips:
        file, fps, first, stride = CLIPS[name]
        if not (FOLDER / file).exists():
            sys.exit(f"latents.py: there is no {FOLDER / file}; install the package opencv-doc")
        frames = decode(FOLDER / file, fps)
        first = len(frames) * 4 // 5 if first is None else first
        frames = frames[first:first + (options.frames - 1) * stride + 1:stride]
        if len(frames) != options.frames:
            sys.exit(f"latents.py: {name} has {len(frames)} frames left; expected {options.frames}")
        np.save(options.out / f"{name}.npy", encode(frames, basis).astype(np.float16))


if __name__ == "__main__":
    main()
