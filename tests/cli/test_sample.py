"""`sample` and `explore`: films, several solvers from one noise, and what Ctrl-C leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from diffsde import ScoreModel, Trajectory
from tests.cli.commands import Done, run


def sample(tiny: Path, out: Path, *options: object) -> dict[str, Any]:
    """What `sample --json` says of a few steps on two images."""
    fixed = ("--model", tiny, "--out", out, "--steps", 3, "--n", 2, "--quiet", "--json")
    done = run("sample", *fixed, *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("form", "magic"), [("gif", b"GIF89a"), ("png", b"\x89PNG")])
def test_a_film_in_each_format(form: str, magic: bytes, tiny: Path, tmp_path: Path) -> None:
    written = sample(tiny, tmp_path, "--format", form, "--fps", 10, "--dark")["written"]
    film = tmp_path / f"samples.{'apng' if form == 'png' else form}"
    assert str(film) in written
    assert film.read_bytes().startswith(magic)
    with Image.open(film) as shown:
        assert shown.n_frames > 3  # type: ignore[attr-defined]
        corner = shown.convert("RGB").getpixel((0, 0))
    assert max(corner) < 64  # type: ignore[type-var, arg-type]


def test_a_video(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    written = sample(tiny, tmp_path, "--format", "mp4")["written"]
    assert str(tmp_path / "samples.mp4") in written


def test_sde_and_flow_from_one_noise_in_one_film(tiny: Path, tmp_path: Path) -> None:
    kinds = ("--method", "euler", "--kind", "sde", "--kind", "ode")
    found = sample(tiny, tmp_path / "both", *kinds, "--animate", "--paths")
    assert [run["kind"] for run in found["runs"]] == ["sde", "ode"]
    names = [f"samples-{kind}-euler{end}" for kind in ("sde", "ode")
             for end in (".png", ".safetensors")]  # fmt: skip
    assert {Path(path).name for path in found["written"]} == {*names, "samples.gif", "paths.png"}
    sde, ode = (
        Trajectory.load(tmp_path / "both" / f"samples-{kind}-euler.safetensors")
        for kind in ("sde", "ode")
    )
    assert torch.equal(sde.ys[0], ode.ys[0])
    assert not torch.equal(sde.final, ode.final)
    sample(tiny, tmp_path / "one", "--method", "euler", "--animate")
    films = [Image.open(tmp_path / name / "samples.gif") for name in ("one", "both")]
    assert films[1].width * films[1].height > 1.5 * films[0].width * films[0].height


def test_two_methods_need_no_kind(tiny: Path, tmp_path: Path) -> None:
    found = sample(tiny, tmp_path, "--method", "em", "--method", "heun2")
    assert [(run["method"], run["kind"]) for run in found["runs"]] == [
        ("em", "sde"),
        ("heun2", "ode"),
    ]


def test_pictures_have_the_size_asked_for(tiny: Path, tmp_path: Path) -> None:
    sample(tiny, tmp_path, "--size", 100, "--paths")  # 84 pixels are three times 28
    with Image.open(tmp_path / "samples.png") as images:
        assert abs(images.width - 2 * 84) < 10
        assert abs(images.height - 84) < 10
    with Image.open(tmp_path / "paths.png") as slide:
        assert slide.size == (1920, 1080)


def test_the_dial_between_flow_and_sde(tiny: Path, tmp_path: Path) -> None:
    def final(name: str, *options: object) -> torch.Tensor:
        sample(tiny, tmp_path / name, "--method", "euler", *options)
        return Trajectory.load(tmp_path / name / "samples.safetensors").final

    usual, flow = final("sde"), final("flow", "--kind", "ode")
    assert torch.equal(final("one", "--eta", 1), usual)
    close = {"rtol": 1e-4, "atol": 1e-4 * float(flow.abs().max())}
    assert torch.allclose(final("zero", "--eta", 0), flow, **close)
    assert not torch.allclose(usual, flow, **close)


def test_tolerances_reach_the_solver(tiny: Path, tmp_path: Path) -> None:
    def cost(name: str, *options: object) -> dict[str, int]:
        done = run(
            "sample", "--model", tiny, "--n", 1, "--out", tmp_path / name, "--method", "bosh3",
            "--clock", "log_sigma", "--quiet", "--json", *options,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["stats"]

    loose, tight = (cost(tol, "--rtol", tol, "--atol", tol)["nfe"] for tol in ("0.5", "0.05"))
    assert loose < tight
    assert cost("fixed", "--fixed", "--steps", 4)["steps"] == 4


def test_tolerances_reach_only_those_that_go_by_them(tiny: Path, tmp_path: Path) -> None:
    methods = ["--method", "heun2", "--method", "dopri5", "--steps", 3]
    done = run("sample", "--model", tiny, "--n", 1, *methods, "--rtol", 0.5, "--atol", 0.5,
               "--out", tmp_path, "--json", "--quiet")  # fmt: skip
    assert done.returncode == 0, done.stderr
    fixed, adaptive = json.loads(done.stdout)["runs"]
    assert fixed["stats"]["nfe"] == 2 * 3 + 1
    assert adaptive["stats"]["nfe"] < 80  # the usual tolerances of 1e-5 take more


def test_explore_shows_one_class_with_estimates(larger: Path, tmp_path: Path) -> None:
    def page(name: str, *options: object) -> str:
        path = tmp_path / name
        fixed = ("--model", larger, "--steps", 2, "--n", 2, "--out", path, "--quiet")
        done = run("explore", *fixed, *options)
        assert done.returncode == 0, done.stderr
        return path.read_text("utf-8")

    plain = page("plain.html")
    assert '"denoised":null' in plain
    assert '"denoised":null' not in page("estimates.html", "--label", 2, "--estimates")


def interrupted(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Ctrl-C in the evaluation of the score with this number."""
    forward, calls = ScoreModel.forward, 0

    def counted(self: ScoreModel, *arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        return forward(self, *arguments)

    monkeypatch.setattr(ScoreModel, "forward", counted)


def stopped(tiny: Path, out: Path, *options: object) -> Done:
    fixed = ("--model", tiny, "--out", out, "--steps", 4, "--clock", "t", "--quiet")
    done = run("sample", *fixed, *options)
    assert done.returncode == 130
    assert "diffsde: interrupted" in done.stderr
    return done


def test_ctrl_c_writes_the_path_so_far(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, after=2)
    done = stopped(tiny, tmp_path, "--n", 2, "--animate")
    assert "stopped at t = 0.5" in done.stdout
    names = {"samples.png", "samples.safetensors", "samples.gif"}
    assert all(f"wrote {tmp_path / name}" in done.stdout for name in names)
    assert len(Trajectory.load(tmp_path / "samples.safetensors")) == 3


def test_ctrl_c_writes_the_finished_images(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, after=12)  # 5 evaluations for each chunk
    done = stopped(tiny, tmp_path, "--n", 6, "--chunk", 2, "--json")
    words = "sde_dpmpp_2m was stopped: 4 of 6 images are finished"
    assert json.loads(done.stdout)["stopped"] == words
    assert Trajectory.load(tmp_path / "samples.safetensors").final.shape[0] == 4


def test_ctrl_c_keeps_the_solve_before(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, after=7)
    done = stopped(tiny, tmp_path, "--n", 2, "--method", "euler", "--method", "em")
    assert "em was stopped" in done.stdout
    assert len({path.stem for path in tmp_path.iterdir()}) == 2


@pytest.mark.parametrize("where", ["before the first step", "while writing"])
def test_ctrl_c_has_its_own_exit_code(
    where: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if where == "while writing":
        monkeypatch.setattr("diffsde.views.last_states.plot_last_states", ctrl_c)
    else:
        monkeypatch.setattr(ScoreModel, "forward", ctrl_c)
    done = stopped(tiny, tmp_path, "--n", 1)
    kept = ["samples.safetensors"] if where == "while writing" else []
    assert [path.name for path in tmp_path.iterdir()] == kept
    assert done.stdout.count("wrote") == len(kept)


def test_numbers_that_run_away_leave_the_path(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = ScoreModel.forward, 0

    def wild(self: ScoreModel, *arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return forward(self, *arguments) * (1 if calls < 3 else 1e9)

    monkeypatch.setattr(ScoreModel, "forward", wild)
    done = run("sample", "--model", tiny, "--out", tmp_path, "--steps", 4, "--n", 2, "--quiet")
    assert done.returncode == 1
    assert "blown up" in done.stderr
    assert "trajectory" not in done.stderr
    assert f"wrote {tmp_path / 'samples.safetensors'}" in done.stdout


def test_explore_keeps_the_path_so_far(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, after=3)
    page = tmp_path / "page.html"
    done = run("explore", "--model", tiny, "--n", 2, "--out", page, "--quiet")
    assert done.returncode == 130
    assert f"wrote {page}" in done.stdout


def test_likelihood_says_that_it_can_go_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "likelihood.safetensors"
    command = ("likelihood", "--model", tiny, "--n", 2, "--chunk", 1, "--steps", 2, "--out", out)
    with pytest.MonkeyPatch.context() as patch:
        interrupted(patch, after=10)
        done = run(*command, "--quiet")
    assert done.returncode == 130
    assert f"what is finished is kept in {out}" in done.stderr
    assert run(*command, "--quiet").returncode == 0
