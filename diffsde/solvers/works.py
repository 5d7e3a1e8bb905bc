r"""The works that solvers, clocks and equations come from, by their numbers in the arXiv."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["WORKS", "Work"]


class Work(NamedTuple):
    """A paper.

    Attributes:
        key: what BibTeX calls it.
        authors: by BibTeX's rules, "Family, Given and Family, Given".
        title: of the paper.
        year: of its first version.
    """

    key: str
    authors: str
    title: str
    year: int


WORKS = {
    "1804.04344": Work(
        "rackauckas2018stability",
        "Rackauckas, Christopher and Nie, Qing",
        "Stability-Optimized High Order Methods and Stiffness Detection for Pathwise Stiff "
        "Stochastic Differential Equations",
        2018,
    ),
    "1806.07366": Work(
        "chen2018neural",
        "Chen, Ricky T. Q. and Rubanova, Yulia and Bettencourt, Jesse and Duvenaud, David",
        "Neural Ordinary Differential Equations",
        2018,
    ),
    "2001.01328": Work(
        "li2020scalable",
        "Li, Xuechen and Wong, Ting-Kam Leonard and Chen, Ricky T. Q. and Duvenaud, David",
        "Scalable Gradients for Stochastic Differential Equations",
        2020,
    ),
    "2002.04025": Work(
        "foster2020optimal",
        "Foster, James and Lyons, Terry and Oberhauser, Harald",
        "An optimal polynomial approximation of Brownian motion",
        2020,
    ),
    "2010.02502": Work(
        "song2020denoising",
        "Song, Jiaming and Meng, Chenlin and Ermon, Stefano",
        "Denoising Diffusion Implicit Models",
        2020,
    ),
    "2011.13456": Work(
        "song2021scorebased",
        "Song, Yang and Sohl-Dickstein, Jascha and Kingma, Diederik P. and Kumar, Abhishek and "
        "Ermon, Stefano and Poole, Ben",
        "Score-Based Generative Modeling through Stochastic Differential Equations",
        2020,
    ),
    "2105.13493": Work(
        "kidger2021efficient",
        "Kidger, Patrick and Foster, James and Li, Xuechen and Lyons, Terry",
        "Efficient and Accurate Gradients for Neural SDEs",
        2021,
    ),
    "2204.13902": Work(
        "zhang2022fast",
        "Zhang, Qinsheng and Chen, Yongxin",
        "Fast Sampling of Diffusion Models with Exponential Integrator",
        2022,
    ),
    "2206.00364": Work(
        "karras2022elucidating",
        "Karras, Tero and Aittala, Miika and Aila, Timo and Laine, Samuli",
        "Elucidating the Design Space of Diffusion-Based Generative Models",
        2022,
    ),
    "2206.00927": Work(
        "lu2022dpmsolver",
        "Lu, Cheng and Zhou, Yuhao and Bao, Fan and Chen, Jianfei and Li, Chongxuan and Zhu, Jun",
        "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 "
        "Steps",
        2022,
    ),
    "2210.17543": Work(
        "foster2022high",
        "Foster, James and dos Reis, Goncalo and Strange, Calum",
        "High order splitting methods for SDEs satisfying a commutativity condition",
        2022,
    ),
    "2211.01095": Work(
        "lu2022dpmsolverpp",
        "Lu, Cheng and Zhou, Yuhao and Bao, Fan and Chen, Jianfei and Li, Chongxuan and Zhu, Jun",
        "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
        2022,
    ),
    "2302.04867": Work(
        "zhao2023unipc",
        "Zhao, Wenliang and Bai, Lujia and Rao, Yongming and Zhou, Jie and Lu, Jiwen",
        "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models",
        2023,
    ),
    "2305.14267": Work(
        "gonzalez2023seeds",
        "Gonzalez, Martin and Fernandez, Nelson and Tran, Thuy and Gherbi, Elies and Hajri, Hatem "
        "and Masmoudi, Nader",
        "SEEDS: Exponential SDE Solvers for Fast High-Quality Sampling from Diffusion Models",
        2023,
    ),
    "2306.14878": Work(
        "xu2023restart",
        "Xu, Yilun and Deng, Mingyang and Cheng, Xiang and Tian, Yonglong and Liu, Ziming and "
        "Jaakkola, Tommi",
        "Restart Sampling for Improving Generative Processes",
        2023,
    ),
    "2308.02157": Work(
        "zhang2023improved",
        "Zhang, Qinsheng and Song, Jiaming and Chen, Yongxin",
        "Improved Order Analysis and Design of Exponential Integrator for Diffusion Models "
        "Sampling",
        2023,
    ),
    "2309.05019": Work(
        "xue2023sasolver",
        "Xue, Shuchen and Yi, Mingyang and Luo, Weijian and Zhang, Shifeng and Sun, Jiacheng and "
        "Li, Zhenguo and Ma, Zhi-Ming",
        "SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models",
        2023,
    ),
}
