r"""Noise: random numbers by address, and Brownian motion made of them.

This folder may import `data`, `system` and `errors`. Noise knows no equation.

    seeds           seeds, and the purposes that keep their numbers apart
    philox          random words by address, on the CPU and on a device
    sample_run      neighbouring samples whose first number can be changed on a device
    normal          normal numbers, each with an address (seed, purpose, sample, node)
    ahead           the numbers of the nodes to come, drawn together on a device
    brownian        Brownian motion for torchsde and for `solve`, sample by sample
    brownian_path   a Brownian path as a function of time
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
