r"""Options that commands share: each means the same wherever it appears."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from diffsde.cli.command import clock_names, kind_names, model_names, solver_names

__all__ = [
    "Adaptive",
    "AsJson",
    "Atol",
    "Clock",
    "Dark",
    "Denoise",
    "Device",
    "Estimates",
    "Eta",
    "EtaBetween",
    "FilmFormat",
    "Guidance",
    "Kind",
    "Kinds",
    "Label",
    "MethodOptions",
    "Methods",
    "Model",
    "Number",
    "Out",
    "OutFile",
    "Quiet",
    "Rtol",
    "Seed",
    "Temperature",
    "Threads",
]


class FilmFormat(str, Enum):
    """The formats of films."""

    gif = "gif"
    png = "png"
    mp4 = "mp4"
    webm = "webm"


Out = Annotated[Path, typer.Option("--out", help="Folder for the output.")]
OutFile = Annotated[Path, typer.Option("--out", help="File to write.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="A model that ships with the package ({models}), a file, the folder of a "
        "diffusers pipeline, or a name on the Hugging Face hub.",
        autocompletion=model_names,
    ),
]
Number = Annotated[int, typer.Option("--n", min=1, help="Number of images.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Random seed.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        max=1024,
        help="Number of CPU threads; by default, one for each core that is free at the start.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Where to compute, such as cpu, cuda or cuda:1; by default, on the accelerator if "
        "there is one. Of several processes, each has its own.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress bars.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object and nothing else, for programs.")
]

# -- solvers ------------------------------------------------------------------------

Clock = Annotated[
    str,
    typer.Option(
        "--clock",
        help="Clock in which the steps are even: {clocks}.",
        autocompletion=clock_names,
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="Solver (`diffsde solvers` lists them). Repeat it to compare several from the same "
        "noise.",
        autocompletion=solver_names,
    ),
]
_KIND = "sde (the reverse SDE) or ode (the probability flow), for a solver that can solve both"
Kind = Annotated[
    str | None,
    typer.Option("--kind", help=f"{_KIND}; sde by default.", autocompletion=kind_names),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        help=f"{_KIND}; sde by default. Give both, `--kind sde --kind ode`, to compare them.",
        autocompletion=kind_names,
    ),
]
Adaptive = Annotated[
    bool | None,
    typer.Option(
        "--adaptive/--fixed",
        help="Let the solver choose its own steps, or take --steps equal ones; by default each "
        "does as it is made.",
        show_default=False,
    ),
]
Rtol = Annotated[
    float | None,
    typer.Option("--rtol", help="Relative tolerance of adaptive solvers (1e-5; 1e-2 for the SDE)."),
]
Atol = Annotated[
    float | None,
    typer.Option("--atol", help="Absolute tolerance of adaptive solvers (1e-5; 1e-2 for the SDE)."),
]
Eta = Annotated[
    float | None,
    typer.Option(
        "--eta",
        help="Strength of the noise in the reverse SDE: 0 gives the flow, 1 the usual SDE.",
        show_default=False,
    ),
]
MethodOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="Option of the solver as NAME=VALUE, such as last_order=1. Of several solvers, those "
        "that have it get it. Repeatable.",
        show_default=False,
    ),
]
EtaBetween = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--eta-between",
        help="The two noise levels between which there is noise; elsewhere the flow is followed.",
        show_default=False,
    ),
]
Denoise = Annotated[
    bool, typer.Option("--denoise/--no-denoise", help="Finish with one denoising evaluation.")
]
Estimates = Annotated[
    bool,
    typer.Option(
        "--estimates",
        help="Also show, beside each state, the clean image that the model expects of it.",
    ),
]

# -- classes ------------------------------------------------------------------------

Label = Annotated[
    str | None,
    typer.Option(
        "--label",
        help="Draw one class only, or with random, a random class for each image (for models with "
        "classes).",
    ),
]
Guidance = Annotated[
    float,
    typer.Option("--guidance", help="Guidance strength; 1 = plain conditional sampling."),
]
Temperature = Annotated[
    float,
    typer.Option(
        "--temperature",
        help="Below 1, images are more typical and more alike; above 1, less so.",
    ),
]

# -- pictures -----------------------------------------------------------------------

Dark = Annotated[bool, typer.Option("--dark", help="Light letters on a dark background.")]
