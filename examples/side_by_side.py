"""Three solvers in one film, with the network's estimates
=========================================================

Three solvers start from the same noise: Euler–Maruyama, the flow, and torchsde's SRK along the
Brownian path of Euler–Maruyama. Beside the states x(t), the film shows the denoised estimates,
which are the network's guesses of the digits, and the histogram of the pixels.

::

    python examples/side_by_side.py

Expect a film in which the estimates begin as the mean digit and become definite long before
anything is visible in the noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import diffsde


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the film")
    out = parser.parse_args().out

    model = diffsde.load_pretrained("mnist")
    x1 = model.sde.prior_sample((4, *model.shape), seed=7)
    rev = diffsde.ReverseSDE(model.sde, model, model.shape)
    flow = diffsde.ProbabilityFlow(model.sde, model, model.shape)
    noise = diffsde.BrownianPath(seed=0)
    settings = {"clock": "karras", "steps": 80, "estimates": True}

    em = diffsde.solve(rev, x1, "euler", noise=noise, **settings)
    ode = diffsde.solve(flow, x1, "heun2", **settings)
    srk = diffsde.solve(rev, x1, "srk", noise=noise, **settings)
    diffsde.animate([em, ode, srk], out / "side_by_side.gif", columns=2, zoom=2, histogram=True)


if __name__ == "__main__":
    main()
