#!/usr/bin/env python3
"""Turns pictures of `minidit sample` into an animation: animate.py video.ppm [more.ppm ...] video.webp (or .gif, .png).

Several videos of one size are shown side by side. Needs ffmpeg.
"""
import argparse
import pathlib
import subprocess
import sys

# What follows the pictures' own filters, and the encoder.
ENCODERS = {
    ".webp": ("null", ["-c:v", "libwebp_anim", "-quality", "60", "-compression_level", "6", "-loop", "0"]),
    ".gif": ("split[a][b];[a]palettegen=max_colors=128[p];[b][p]paletteuse", ["-loop", "0"]),
    ".png": ("null", ["-f", "apng", "-plays", "0"]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", help="pictures in PPM, one behind the other")
    parser.add_argument("out", type=pathlib.Path, help="by its name: animated WebP, GIF or PNG")
    parser.add_argument("--skip", type=int, default=0, help="pictures at the beginning that are left out (%(default)s)")
    parser.add_argument("--fps", default="8", help="pictures a second (%(default)s)")
    parser.add_argument("--width", default="384", help="of a video, in pixels (%(default)s)")
    options = parser.parse_args()
    suffix, count = options.out.suffix, len(options.videos)
    if suffix not in ENCODERS:
        sys.exit(f"animate.py: {options.out} ends with {suffix!r}; expected one of {', '.join(ENCODERS)}")
    last_filter, encoder = ENCODERS[suffix]
    parts = "".join(f"[{i}]trim=start_frame={options.skip},setpts=PTS-STARTPTS,scale={options.width}:-2[v{i}];"
                    for i in range(count))
    beside = "".join(f"[v{i}]" for i in range(count)) + (f"hstack=inputs={count}," if count > 1 else "")
    inputs = [word for video in options.videos
              for word in ("-f", "image2pipe", "-framerate", options.fps, "-c:v", "ppm", "-i", video)]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *inputs, "-filter_complex", f"{parts}{beside}{last_filter}", *encoder,
                    str(options.out)], check=True)


if __name__ == "__main__":
    main()
