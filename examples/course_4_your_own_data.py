r"""Course 4: your own data
===========================

Nothing so far depended on digits. This notebook takes data of its own, a spiral in the plane,
trains a denoiser in seconds with a dozen lines of PyTorch, and then has everything: samples by any
solver, and the probability density itself.
"""

import math

import matplotlib.pyplot as plt
import torch
from torch import nn

import diffsde

# %%
# The data
# --------
# Any tensor will do, as long as its numbers are of order one.


def spiral(n, seed):
    numbers = torch.manual_seed(seed)
    angle = 3 * math.pi * torch.rand(n, generator=numbers).sqrt()
    points = torch.stack([angle.cos(), angle.sin()], 1) * angle[:, None] / (3 * math.pi)
    return points + 0.02 * torch.randn(n, 2, generator=numbers)


data = spiral(5000, seed=0)
figure, axis = plt.subplots(figsize=(4, 4))
axis.scatter(*data.T, s=2, lw=0)
axis.set(aspect="equal", title="5,000 data points")
plt.show()

# %%
# Learn to denoise
# ----------------
# Among all functions, the one that minimises
#
# .. math:: E\, \| D(x + \sigma z, \sigma) - x \|^2, \qquad z \sim N(0, I),
#
# is :math:`D(y, \sigma) = E[x \mid y]`, the mean of all clean points that could be below the noise.
# And a denoiser is a score: :math:`\nabla \log p_\sigma(y) = (D(y, \sigma) - y) / \sigma^2`.
#
# The network sees a point and the logarithm of its noise level. It returns a correction of a first
# guess: at small noise the point itself, at large noise the origin.


class Denoiser(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        layers = [nn.Linear(6, width), nn.SiLU()]
        for _ in range(2):
            layers += [nn.Linear(width, width), nn.SiLU()]
        self.net = nn.Sequential(*layers, nn.Linear(width, 2))

    def forward(self, y, sigma):
        sigma = sigma[:, None]
        spread = (sigma**2 + 0.25).sqrt()  # of noised points: the data's variance is about 1/4
        level = sigma.log() / 4
        inputs = [y / spread, level, level.sin(), (3 * level).sin(), (3 * level).cos()]
        correction = self.net(torch.cat(inputs, 1))
        return 0.25 / spread**2 * y + 0.5 * sigma / spread * correction


# %%
# Noise levels are drawn so that their logarithm is normal: most of the training goes where the
# noise is about as large as what there is to see.

torch.manual_seed(0)
denoiser = Denoiser()
optimizer = torch.optim.Adam(denoiser.parameters(), 3e-3)
updates = 1500
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
losses = []
for _ in range(updates):
    x = data[torch.randint(len(data), (512,))]
    sigma = (1.5 * torch.randn(len(x)) - 1.5).exp()
    weight = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
    error = denoiser(x + sigma[:, None] * torch.randn_like(x), sigma) - x
    loss = (weight * error.square().sum(1)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    losses.append(loss.item())

figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
axis.plot(torch.tensor(losses).unfold(0, 50, 10).mean(1))
axis.set(xlabel="updates / 10", ylabel="loss")
plt.show()
# %%
# From a denoiser to a problem
# ----------------------------
# ``from_denoiser`` makes it a score, and from here on it is like any other one. EDM's process, in
# which the time is the noise level itself, suits data of this size; the noise starts at 10.

sde = diffsde.EDMSDE(T=10.0, eps=0.005)
score = diffsde.from_denoiser(denoiser, sde)
flow = diffsde.ProbabilityFlow(sde, score, shape=(2,))
rev = diffsde.ReverseSDE(sde, score, shape=(2,))
rev

# %%
# Samples by the flow and by the SDE, with the paths of a few of them:

noise = sde.prior_sample((1000, 2), seed=0)
by_flow = diffsde.solve(flow, noise, "heun2", steps=25, clock="karras")
by_sde = diffsde.solve(rev, noise, "sde_dpmpp_2m", steps=50, clock="karras", seed=0)
figure, axes = plt.subplots(1, 2, figsize=(9, 4.5), sharex=True, sharey=True, layout="constrained")
for axis, sol, name in zip(axes, (by_flow, by_sde), ("flow", "reverse SDE"), strict=True):
    axis.scatter(*sol.final.T, s=4, lw=0, color="C0")
    for k in range(5):
        axis.plot(*sol.ys[:, k].T, lw=0.7, color="C1")
    axis.set(aspect="equal", xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), title=f"{name}: 1,000 samples")
plt.show()

# %%
# The density
# -----------
# Along the flow the density changes by the divergence of the velocity :math:`v`,
#
# .. math:: \log p_\varepsilon(x(\varepsilon)) = \log p_T(x(T))
#           + \int_\varepsilon^T \nabla \cdot v\, dt,
#
# so the model does not only sample, it says how probable any point is.

side = 60
line = torch.linspace(-1.3, 1.3, side)
grid = torch.cartesian_prod(line, line)
found = diffsde.log_likelihood(
    flow, grid, exact=True, method="heun2", steps=25, clock="karras", eps=0.02
)
figure, axis = plt.subplots(figsize=(4.6, 4), layout="constrained")
shown = axis.pcolormesh(line, line, found.log_prob.reshape(side, side).T, vmin=-8, cmap="magma")
figure.colorbar(shown, label="log p(x) [nats]")
axis.set(aspect="equal")
plt.show()
# %%
# Points of the spiral that the model has not seen should be probable, too. The table has a row for
# each of them; ``to_dataframe()`` turns it into a pandas table.

diffsde.log_likelihood(flow, spiral(5, seed=1), exact=True, eps=0.02)

# %%
# Images of your own
# ------------------
# For images the package has networks, a training loop and recipes. A folder of them is enough::
#
#     diffsde train --dataset folder --data MY_IMAGES --out runs/mine
#
# and ``diffsde.load_model("runs/mine/model.safetensors")`` is what ``load_pretrained`` was in the
# first three parts.
