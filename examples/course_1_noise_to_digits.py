r"""Course 1: from noise to digits
==================================

A generative model turns numbers that mean nothing into images that look like data. This notebook
shows how a *diffusion* model does it: destroy images with noise, learn which way leads back, and
go that way, starting from noise alone. Everything runs in seconds from weights that ship with the
package.

The course has four parts: from noise to digits (this one), the same marginals, solvers and clocks,
and your own data.
"""

import torch

import diffsde
from diffsde.views import film_strip

# %%
# Forward: add noise
# ------------------
# Take an image :math:`x(0)` and let every pixel follow the stochastic differential equation (SDE)
#
# .. math:: dx = \sigma^t\, dw, \qquad t \in [0, 1], \quad \sigma = 25,
#
# where :math:`w` is Brownian motion: over a short time :math:`dt` each pixel receives independent
# Gaussian noise of standard deviation :math:`\sigma^t \sqrt{dt}`. Noise that is added to noise is
# noise again, so the state at time :math:`t` can be written down without solving anything:
#
# .. math:: x(t) = x(0) + s(t)\, z, \qquad z \sim N(0, I), \qquad
#           s(t)^2 = \frac{\sigma^{2t} - 1}{2 \ln \sigma}.
#
# Six digits at six times, from clean to noise. At :math:`t = 1` the noise is ten times as strong
# as the image, and nothing that we can see is left of it.

sde = diffsde.VESDE(sigma=25.0)
digits = diffsde.load_images("mnist", train=False).images[:6].float() / 255
noised = []
for t in (0.001, 0.2, 0.4, 0.6, 0.8, 1.0):
    mean, std = sde.marginal_prob(digits, t)
    z = torch.randn(digits.shape, generator=torch.manual_seed(0))
    noised.append(0.5 + (mean - 0.5 + std * z) / (1 + 4 * std))  # more noise needs a wider range
diffsde.plot_images(torch.cat(noised), columns=6)

# %%
# The way back needs one thing: the score
# ---------------------------------------
# Every such SDE has a reverse (Anderson, 1982), which runs from :math:`t = 1` down to 0:
#
# .. math:: dx = -\sigma^{2t}\, \nabla_x \log p_t(x)\, dt + \sigma^t\, d\bar w.
#
# The only unknown is the *score* :math:`\nabla_x \log p_t(x)`, the direction in which noised
# images become more probable. A network has learned it. What does it know? By Tweedie's formula a
# score is also a denoiser,
#
# .. math:: E[x(0) \mid x(t)] = x(t) + s(t)^2\, \nabla_x \log p_t(x(t)),
#
# so we can ask the network what it takes the clean image to be.

model = diffsde.load_pretrained("mnist")
model

# %%
# The rows: digits at :math:`t = 0.5`, where :math:`s = 1.9`; what the network makes of them; the
# truth. It sees far more in the noise than we do. Where it is not sure, the answer is blurred: it
# is a mean over all digits that could be below the noise.

t = 0.5
mean, std = sde.marginal_prob(digits, t)
x = mean + std * torch.randn(digits.shape, generator=torch.manual_seed(1))
with torch.no_grad():
    guess = model.denoise(x, t)
seen = 0.5 + (x - 0.5) / (1 + 4 * std)
diffsde.plot_images(torch.cat([seen, guess.clamp(0, 1), digits]), columns=6)

# %%
# Solve the reverse SDE
# ---------------------
# Start from pure noise :math:`x(1) \sim N(0, s(1)^2 I)` and take Euler's steps backwards, which
# for an SDE is the method of Euler and Maruyama:
#
# .. math:: x_{k+1} = x_k + \sigma^{2t_k}\, \mathrm{score}(x_k, t_k)\, \Delta t
#           + \sigma^{t_k} \sqrt{\Delta t}\; z_k .
#
# The steps are chosen so that they are small where the noise is small ("Karras's clock"; the third
# part of the course explains why). A trajectory shows itself: its last images, its way there, and
# the paths of its pixels.

problem = diffsde.ReverseSDE(model.sde, model, model.shape)
noise = model.sde.prior_sample((6, *model.shape), seed=3)
sol = diffsde.solve(problem, noise, "euler", steps=60, clock="karras", seed=0, estimates=True)
sol

# %%
# The images appear late
# ----------------------
# Each row follows one sample; the row below shows the network's guess of its end. For most of the
# time nothing is visible in the noise, but the guess already becomes definite: from the mean of
# all digits to one digit.

film_strip(sol, frames=8, n=2, denoised=True)

# %%
# Every pixel is a path
# ---------------------
# :math:`6 \times 784` pixels against time, which runs from left to right as it was solved. The
# dashed line is :math:`\pm\sigma^t`, the strength of the noise that is added at each moment; the
# dotted one is :math:`\pm s(t)`, the standard deviation of what was added in total. The paths start
# as wide noise and end in :math:`[0, 1]`: black or white.

diffsde.plot_paths(sol, envelope="both")

# %%
# And as a film. ``.save("film.gif")`` or ``.save("film.mp4")`` keeps it.

diffsde.animate(sol, fps=20, hold=2)

# %%
# To explore
# ----------
# - Change ``seed`` in ``prior_sample`` or in ``solve``: which of the two decides the digit?
# - Take 10 steps instead of 60, then 200. What changes?
# - ``sol.explore()`` opens the explorer: click a pixel to see its path.
