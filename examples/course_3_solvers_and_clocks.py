r"""Course 3: solvers and clocks
================================

An equation can be solved well or badly, and the price is counted in evaluations of the network.
This notebook compares solvers, shows why the *times* at which they step matter as much as their
order, and ends with good digits from ten evaluations.
"""

import matplotlib.pyplot as plt
import torch

import diffsde
from diffsde.views import plot_work_precision

# %%
# Which solvers are there?
# ------------------------
# ``solve`` takes any of them by name. The *order* says how fast the error falls with the step
# :math:`h`: a method of order :math:`p` has an error of about :math:`C h^p`. *Evaluations* is how
# often each step asks the network; this, not the number of steps, is what costs time.

diffsde.list_solvers("ode")

# %%
# A problem whose answer is known
# -------------------------------
# Four clusters in the plane, with their exact score. The flow moves each noise to a definite point,
# so we can measure the error of every solver against a very fine solution.

sde = diffsde.VESDE(sigma=25.0)
means = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
flow = diffsde.ProbabilityFlow(sde, diffsde.MixtureScore(sde, means, stds=0.1), shape=(2,))
noise = sde.prior_sample((64, 2), seed=0, dtype=torch.float64)
table = diffsde.work_precision(
    flow, ["euler", "heun2", "rk4", "dpmpp_2m"], [8, 16, 32, 64, 128], x=noise, clock="karras"
)
plot_work_precision(table)

# %%
# Both axes are logarithmic, so a method of order :math:`p` becomes a line of slope :math:`-p`, once
# its steps are small enough. Few evaluations favour the methods made for diffusion models, many
# the high orders. The numbers:

table

# %%
# Clocks
# ------
# The noise level :math:`s(t)` spans four decades, and the interesting things happen where it is
# about as large as the data are. Even steps in :math:`t` waste most of themselves on pure noise. A
# *clock* is another variable in which the steps are even:
#
# - ``t``: the time itself;
# - ``sigma``: the noise level;
# - ``log_sigma``: its logarithm;
# - ``karras``: :math:`\sigma^{1/7}`, between the two (Karras et al., 2022).
#
# Twenty steps of each, by the noise level that they visit:

problem = diffsde.ProbabilityFlow(sde, flow.score, shape=(2,))
clocks = ("t", "sigma", "log_sigma", "karras")
figure, axis = plt.subplots(figsize=(8, 2.6), layout="constrained")
for row, clock in enumerate(clocks):
    sol = diffsde.solve(problem, noise[:1], "euler", steps=20, clock=clock)
    axis.plot(sol.std, [row] * len(sol), "|", ms=16)
axis.set(xscale="log", xlim=(12, 3e-2), ylim=(-0.6, 3.6), xlabel="noise level s(t), falling")
axis.set_yticks(range(len(clocks)), clocks)
plt.show()
# %%
# The same method, ``heun2``, with the same numbers of steps, in each of them:

by_clock = diffsde.work_precision(flow, ["heun2"], [8, 16, 32, 64, 128], x=noise, clock=clocks)
plot_work_precision(by_clock)

# %%
# Solvers that choose their own steps
# -----------------------------------
# An adaptive solver estimates its error and takes steps as large as a tolerance allows. It pays
# for the estimate, and the clock still matters: in :math:`\log \sigma` it needs the fewest
# evaluations by far, and in :math:`\sigma` most of them, because the interesting part is short.

for clock in ("t", "sigma", "log_sigma"):
    sol = diffsde.solve(flow, noise, "dopri5", rtol=1e-4, atol=1e-4, clock=clock)
    print(
        f"dopri5 in {clock:10} {sol.stats.nfe:4} evaluations, {sol.stats.rejected} rejected steps"
    )

# %%
# Digits from ten evaluations
# ---------------------------
# Now the network, from the same six noises, with ten evaluations each: Euler with even steps in
# :math:`t`, Euler in Karras's clock, and DPM-Solver++ in Karras's clock. The last row is the same
# flow solved with 40 evaluations, to compare with.

model = diffsde.load_pretrained("mnist")
digits = diffsde.ProbabilityFlow(model.sde, model, model.shape)
start = model.sde.prior_sample((6, *model.shape), seed=1)
ways = (("euler", "t", 10), ("euler", "karras", 10), ("dpmpp_2m", "karras", 10))
ways = (*ways, ("dpmpp_2m", "karras", 40))
rows = [
    diffsde.solve(digits, start, method, steps=steps, clock=clock, save="last").images()
    for method, clock, steps in ways
]
diffsde.plot_images(torch.cat(rows), columns=6)

# %%
# To explore
# ----------
# - ``work_precision`` takes the ``ReverseSDE`` too: try ``["euler", "srk", "sde_dpmpp_2m"]``.
# - Give a clock of your own: ``clock=lambda t: t**0.5``.
# - ``list_solvers().to_dataframe()`` is a pandas table that can be sorted and filtered.
