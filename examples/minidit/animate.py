#!/usr/bin/env python3
"""Turns the pictures of `minidit sample` into an animation: animate.py video.ppm video.webp (or .gif, .png). Needs ffmpeg."""
import argparse
import pathlib
import subprocess
import sys

ENCODERS = {
    ".webp": ["-c:v", "libwebp_anim", "-quality", "60", "-compression_level", "6", "-loop", "0"],
    ".gif": ["-filter_complex", "[scaled]split[a][b];[a]palettegen=max_colors=128[p];[b][p]paletteuse", "-loop", "0"],
    ".png": ["-f", "apng", "-plays", "0"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", help="pictures in PPM, one behind the other")
    parser.add_argument("out", type=pathlib.Path, help="by its name: animated WebP, GIF or PNG")
    parser.add_argument("--fps", default="8", help="pictures a second (%(default)s)")
    parser.add_argument("--width", default="384", help="in pixels (%(default)s)")
    options = parser.parse_args()
    suffix = options.out.suffix
    if suffix not in ENCODERS:
        sys.exit(f"animate.py: {options.out} ends with {suffix!r}; expected one of {', '.join(ENCODERS)}")
    scale = f"scale={options.width}:-2"
    encoder = [argument.replace("[scaled]", f"{scale},") for argument in ENCODERS[suffix]]
    filters = [] if suffix == ".gif" else ["-vf", scale]
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "image2pipe", "-framerate", options.fps, "-c:v", "ppm", "-i",
                    options.video, *filters, *encoder, str(options.out)], check=True)


if __name__ == "__main__":
    main()
