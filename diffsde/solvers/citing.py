r"""What to cite for a solve: the equations, the solver, its library and the clock."""

from __future__ import annotations

import re

from diffsde.errors import InputError
from diffsde.solvers.registry import REGISTRY, Solver
from diffsde.solvers.trajectory import Trajectory
from diffsde.solvers.works import WORKS

__all__ = ["Citations", "cite"]

_EQUATIONS = "2011.13456"
_LIBRARIES = {"torchsde": ("2001.01328", "2105.13493"), "torchdiffeq": ("1806.07366",)}
_CLOCKS = {"karras": "2206.00364"}
_NUMBER = re.compile(r"\d{4}\.\d{5}")


class Citations(list[tuple[str, str]]):
    """What for, and which work: pairs of texts. It shows itself as lines.

    Attributes:
        bibtex: BibTeX entries for those that are in the arXiv.
    """

    def __str__(self) -> str:
        width = max((len(what) for what, _ in self), default=0)
        return "\n".join(f"{what:{width}}  {source}" for what, source in self)

    __repr__ = __str__

    @property
    def bibtex(self) -> str:
        """Entries for the works that are in the arXiv, each once."""
        found = dict.fromkeys(n for _, source in self for n in _NUMBER.findall(source))
        return "\n\n".join(map(_entry, found))


def cite(sol: Trajectory) -> Citations:
    """What to cite for a solve.

        print(diffsde.cite(sol))
        print(diffsde.cite(sol).bibtex)

    A model has sources of its own, which its card or its authors name.

    Args:
        sol: a path that `solve` returned, or one read from a file.

    Returns:
        Pairs of texts: the equations, the solver, its library, and the clock where it has a
        source.

    Raises:
        InputError: no solver of the registry made this path.
    """
    solver = _solver_of(sol)
    found = Citations([("solver", f"{solver.name}: {solver.source}")])
    if sol.std is not None:  # there is a forward process behind it
        found.insert(0, ("equations", _reference(_EQUATIONS)))
    for number in _LIBRARIES.get(solver.family, ()):
        found.append((solver.family, _reference(number)))
    if sol.clock in _CLOCKS:
        found.append(("clock", _reference(_CLOCKS[sol.clock])))
    return found


def _solver_of(sol: Trajectory) -> Solver:
    kinds = ("sde", "ode") if sol.kind is None else (sol.kind,)
    for kind in kinds:
        if (kind, sol.method) in REGISTRY:
            return REGISTRY[kind, sol.method]
    raise InputError(
        f"the method of this path is {sol.method!r}: expected the path of a solver that "
        "`list_solvers` knows, as `solve` returns it"
    )


def _reference(number: str) -> str:
    """The authors and the number, as the sources of solvers are written."""
    names = [author.partition(",")[0] for author in WORKS[number].authors.split(" and ")]
    return f"{', '.join(names) if len(names) < 4 else names[0] + ' et al.'}, arXiv {number}"


def _entry(number: str) -> str:
    work = WORKS[number]
    fields = {
        "title": f"{{{work.title}}}",  # in two braces, so that its capitals stay
        "author": work.authors,
        "year": work.year,
        "eprint": number,
        "archivePrefix": "arXiv",
    }
    lines = [f"  {name:13} = {{{value}}}" for name, value in fields.items()]
    return f"@misc{{{work.key},\n" + ",\n".join(lines) + "\n}"
