"""The golden cases, on every instruction set, in both modes."""
import json

import numpy as np

from cli import support


class Golden(support.CliTest):

    def test_cases(self):
        cases = sorted(support.golden_cases.glob("*/case.json"))
        self.assertGreaterEqual(len(cases), 35, support.golden_cases)
        for path in cases:
            case, folder = json.loads(path.read_text()), path.parent
            expected = np.load(folder / "out.npy")
            for isa in support.isas:
                for mode in self.modes(case):
                    with self.subTest(case=folder.name, isa=isa, mode=mode):
                        out, _ = self.attend(*self.options(case, folder), "--isa", isa, "--mode", mode, clip=[])
                        error = np.abs(out - expected).max() / np.abs(expected).max()
                        self.assertLessEqual(error, case["tolerance"])

    @staticmethod
    def modes(case):
        has_recurrence = case["schedule"] in ("chunked", "linear") and case["direction"] == "causal"
        return ["oneshot", "recurrent"] if has_recurrence else ["oneshot"]

    @staticmethod
    def options(case, folder):
        options = {name: folder / f"{name}.npy" for name in "qkv"}
        options["frames"] = case["T"]
        options["schedule"] = "hybrid" if case["schedule"] == "chunked" else case["schedule"]
        if case["schedule"] == "uniform":
            options["rate"] = case["R"]
        else:
            options.update(direction=case["direction"], chunk_frames=case["Tc"])
        if case["schedule"] == "chunked":
            options["overlap_frames"] = case["To"]
        if case["schedule"] != "linear":
            options["stabilizer"] = case["stabilizer"]
        if case["scale"] is not None:
            options["scale"] = case["scale"]
        if case["phi"] == "polynomial":
            options["phi"] = folder / "phi.safetensors"
        elif case["phi"] in ("given", "split"):
            sides = ("phi_q", "phi_k") if case["phi"] == "given" else ("phi_q", "phi_k", "phi_q_den", "phi_k_den")
            options.update({side: folder / f"{side}.npy" for side in sides})
        else:
            options["feature_map"] = case["phi"]
        return support.flags(**options)
