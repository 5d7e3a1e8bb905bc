r"""Course 2: an SDE and an ODE with the same marginals
=======================================================

The first part of the course went from noise to digits with an SDE, whose every step adds noise.
There is also a way without any: an ordinary differential equation (ODE) whose solutions have,
at every time, the same distribution. This notebook shows that they do, and what the factor
:math:`\tfrac12` has to do with it.
"""

import matplotlib.pyplot as plt
import torch

import diffsde
from diffsde.views import plot_marginals

# %%
# Two equations
# -------------
# The forward process :math:`dx = \sigma^t dw` turns the law of the data into a family of laws
# :math:`p_t`, its *marginals*. Two equations run through the same family backwards:
#
# .. math::
#
#    \text{reverse SDE} \qquad & dx = -\sigma^{2t}\, \nabla \log p_t(x)\, dt + \sigma^t\, d\bar w,
#
#    \text{probability flow} \qquad & dx = -\tfrac12\, \sigma^{2t}\, \nabla \log p_t(x)\, dt.
#
# Why half? Write the Fokker–Planck equation of the forward process,
# :math:`\partial_t p_t = \tfrac12 \sigma^{2t} \Delta p_t`, as a transport equation
# :math:`\partial_t p_t = -\nabla \cdot (v\, p_t)`. Because
# :math:`\Delta p = \nabla \cdot (p\, \nabla \log p)`, the velocity is
# :math:`v = -\tfrac12 \sigma^{2t}\, \nabla \log p_t`. The SDE needs the other half as well, to
# remove the noise that it adds.
#
# Data with a known score
# -----------------------
# To see laws and nothing else, take data of one dimension that are near −1 or near 1. Their score
# is known exactly, so no network can blur the picture.

sde = diffsde.VESDE(sigma=25.0)
score = diffsde.MixtureScore(sde, means=torch.tensor([[-1.0], [1.0]]), stds=0.2)
rev = diffsde.ReverseSDE(sde, score, shape=(1,))
flow = diffsde.ProbabilityFlow(sde, score, shape=(1,))
noise = sde.prior_sample((2000, 1), seed=0)
by_sde = diffsde.solve(rev, noise, "euler", steps=200, clock="karras", seed=0)
by_flow = diffsde.solve(flow, noise, "heun2", steps=100, clock="karras")

# %%
# The paths could hardly look more different. Those of the SDE are rough and cross each other;
# those of the flow are smooth and cannot cross, because an ODE has one solution through each
# point.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
for axis, sol, name in zip(axes, (by_sde, by_flow), ("reverse SDE", "flow"), strict=True):
    axis.plot(sol.ts, sol.ys[:, :40, 0], lw=0.6)
    axis.set(xlim=(1, 0), xlabel="t", title=name)
    axis.set_yscale("asinh", linear_width=0.5)
axes[0].set_yticks((-30, -10, -3, -1, 0, 1, 3, 10, 30))
axes[0].set_yticks((), minor=True)
axes[0].set_ylabel("x(t)")
plt.show()
# %%
# And yet at each time they have the same law. The picture shows the density of the flow's states
# at every :math:`t`, and its quantiles as lines; the dashed lines are the quantiles of the SDE's
# states. They lie on each other until both end in the two peaks of the data. Only the median
# wavers at the end: it lies between the peaks, where hardly any path is.

plot_marginals(by_flow, exact=by_sde)

# %%
# ``check`` solves both, compares them with the forward process, and says in words what is wrong, if
# anything is. But for the chance of a finite sample, every number should be 1, and the shifts 0.

diffsde.check(flow)

# %%
# What if the half is forgotten?
# ------------------------------
# It is a mistake that is easily made: take the drift of the SDE and leave out the noise.


class WithoutHalf(diffsde.ProbabilityFlow):
    def drift(self, x, t):
        return 2 * super().drift(x, t)


wrong = diffsde.solve(WithoutHalf(sde, score, (1,)), noise, "heun2", steps=100, clock="karras")
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
bins = torch.linspace(-2, 2, 81).numpy()
for sol, name in ((by_sde, "reverse SDE"), (by_flow, "flow"), (wrong, "without the half")):
    axis.hist(sol.final[:, 0].numpy(), bins, density=True, histtype="step", lw=1.6, label=name)
axis.set(xlabel="x(0)", ylabel="density")
axis.legend(frameon=False)
plt.show()
# %%
# The paths collapse onto the two means: the samples have lost their variety. With images this is
# hard to see, since a collapsed digit is a very clean digit. ``check`` sees it.

diffsde.check(WithoutHalf(sde, score, (1,)))

# %%
# Digits
# ------
# The same with the network, from the same six noises. The two methods draw from the same law, but
# sample by sample they need not agree: the flow's digit depends on the initial noise alone, that of
# the SDE also on all the noise added later.

model = diffsde.load_pretrained("mnist")
start = model.sde.prior_sample((6, *model.shape), seed=5)
settings = {"steps": 20, "clock": "karras", "denoise": True}
ends = [
    diffsde.solve(make(model.sde, model, model.shape), start, method, seed=0, **settings).images()
    for make, method in (
        (diffsde.ReverseSDE, "sde_dpmpp_2m"),
        (diffsde.ProbabilityFlow, "dpmpp_2m"),
    )
]
diffsde.plot_images(torch.cat(ends), columns=6)

# %%
# To explore
# ----------
# - ``ReverseSDE(..., eta=0.5)`` is a dial between the two: every :math:`\eta \ge 0` keeps the
#   marginals.
# - Solve the SDE with 20 steps of ``"euler"`` in ``clock="t"``. Are the marginals still equal?
