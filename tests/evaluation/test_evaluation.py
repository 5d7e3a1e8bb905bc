"""Samplers: images depend on the seed alone, are saved, and are compared."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffsde.data.images import ImageData, load_images
from diffsde.equations.eta import eta_between
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import InputError, UnknownSolverError
from diffsde.evaluation import samplers as evaluation
from diffsde.evaluation.comparing import EvaluationRow, EvaluationTable, evaluate_samplers
from diffsde.evaluation.plots import plot_evaluation, plot_neighbours
from diffsde.evaluation.samplers import Sampler, sample_images
from diffsde.evaluation.scoring import Evaluation
from diffsde.scores.labels import random_classes
from diffsde.scores.model import ScoreModel
from diffsde.scores.preconditioning import EDM
from diffsde.scores.residual_unet import ResidualUNet
from tests.evaluation.made_up import pair


def tiny(seed: int = 0, classes: int = 0) -> ScoreModel:
    torch.manual_seed(seed)
    network = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8, classes=classes)
    model = ScoreModel(network, VESDE(), (1, 28, 28), EDM(0.33)).eval()
    model.data = "mnist"
    return model


def test_samples_do_not_depend_on_chunks_and_continue_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sampler = tiny(), Sampler("sde_dpmpp_2m", steps=3)
    whole = sample_images(model, sampler, 6, chunk=6, progress=False)
    parts = sample_images(model, sampler, 6, chunk=2, out=tmp_path, progress=False)
    assert (whole.images - parts.images).abs().max() <= 1.01 / 255  # one level, by rounding
    sorted(tmp_path.iterdir())[1].unlink()
    calls = []
    solve = evaluation.solve
    monkeypatch.setattr(
        evaluation, "solve", lambda *a, **k: calls.append(k["first"]) or solve(*a, **k)
    )
    again = sample_images(model, sampler, 6, chunk=2, out=tmp_path, progress=False)
    assert calls == [2]
    assert torch.equal(again.images, parts.images)
    assert again.nfe == parts.nfe == whole.nfe


def test_saved_chunks_of_another_model_are_not_used(tmp_path: Path) -> None:
    sampler = Sampler(steps=2)
    sample_images(tiny(0), sampler, 2, out=tmp_path, progress=False)
    with pytest.raises(InputError, match="images of another model: give another folder"):
        sample_images(tiny(1), sampler, 2, out=tmp_path, progress=False)


def test_images_of_a_model_with_another_range_are_those_of_its_states() -> None:
    """What is drawn in [−1, 1] is kept in [0, 1]."""
    sampler = Sampler(steps=2)
    model = ScoreModel(tiny().network, VESDE(), (1, 28, 28), EDM(0.33), data_range=(-1, 1)).eval()
    state = model.sample(4, steps=2, seed=0, save="last").final
    drawn = sample_images(model, sampler, 4, progress=False).images
    # Kept in 256 levels.
    assert torch.allclose(drawn, ((state + 1) / 2).clamp(0, 1), atol=0.51 / 255)
    assert state.min() < -0.5


def test_images_of_a_model_of_latents_are_decoded() -> None:
    model = tiny()
    model.decoder = torch.nn.Upsample(scale_factor=2)
    drawn = sample_images(model, Sampler(steps=2), 4, progress=False).images
    assert drawn.shape == (4, 1, 56, 56)
    assert torch.equal(drawn[..., ::2, ::2], drawn[..., 1::2, 1::2])


def test_classes_of_other_data_are_other_images(tmp_path: Path) -> None:
    model, sampler, settings = tiny(classes=10), Sampler(steps=1, classes=True), {"progress": False}
    train = ImageData("a", torch.zeros(20, 1, 28, 28).byte(), torch.arange(20) % 10)
    other = replace(train, labels=torch.full((20,), 3))
    sample_images(model, sampler, 2, data=(train, train), out=tmp_path, **settings)
    with pytest.raises(InputError, match="holds images with other labels"):
        sample_images(model, sampler, 2, data=(other, other), out=tmp_path, **settings)
    more = replace(train, labels=torch.arange(20))
    with pytest.raises(InputError, match="20 classes, but the network knows 10"):
        sample_images(model, sampler, 2, data=(more, more), **settings)
    with pytest.raises(InputError, match="3 × 32 × 32, but the model is of 1 × 28 × 28"):
        evaluate_samplers(model, [sampler], 100, data=pair(), progress=False)


def test_classes_are_drawn_as_the_data_have_them() -> None:
    labels = load_images("mnist").known_labels()
    expected = random_classes(labels, 0, range(12))
    told: list[torch.Tensor] = []
    model = tiny(classes=10)
    model.network.register_forward_pre_hook(lambda _network, args: told.append(args[2]))
    sample_images(model, Sampler(steps=2, classes=True), 12, chunk=12, progress=False)
    assert len(told) == 3
    assert all(torch.equal(one, expected) for one in told)
    with pytest.raises(InputError, match="takes no class labels"):
        sample_images(tiny(), Sampler(steps=2, classes=True), 2, progress=False)


def test_guidance_is_that_of_the_classes(tmp_path: Path) -> None:
    model, sampler = tiny(classes=10), Sampler("dpmpp_2m", "ode", 2, classes=True, guidance=1.5)
    assert sampler.line == "ode-dpmpp_2m-karras-denoised-classes-guidance1.5"
    found = sample_images(model, sampler, 3, seed=4, out=tmp_path, progress=False)
    assert found.nfe == 6
    labels = random_classes(load_images("mnist").known_labels(), 4, range(3))
    settings = {"method": "dpmpp_2m", "steps": 2, "seed": 4, "save": "last"}
    drawn = model.sample(3, label=labels, guidance=1.5, **settings).images()
    assert torch.equal(found.images, (drawn * 255).round() / 255)
    near = replace(sampler, guidance=1.5 + 1e-9)  # which a file's name does not tell apart
    with pytest.raises(InputError, match="holds images with other guidance"):
        sample_images(model, near, 3, seed=4, out=tmp_path, progress=False)


def test_options_are_the_solver_s(tmp_path: Path) -> None:
    model, sampler = tiny(), Sampler("unipc", "ode", 3, options={"last_order": 1})
    assert sampler.line == "ode-unipc-karras-denoised-last_order1"
    found = sample_images(model, sampler, 3, seed=4, out=tmp_path, progress=False).images
    drawn = model.sample(
        3, method="unipc", steps=3, options={"last_order": 1}, seed=4, save="last", denoise=True
    ).images()
    assert torch.equal(found, (drawn * 255).round() / 255)
    whole = sample_images(model, replace(sampler, options={}), 3, seed=4, progress=False).images
    assert not torch.equal(found, whole)
    with pytest.raises(InputError, match=r"options\['last_order'\] = 4: expected 1 to 3"):
        replace(sampler, options={"last_order": 4})


def test_eta_is_the_reverse_sde_s() -> None:
    model, sampler = tiny(), Sampler(steps=3, eta=0.5)
    assert sampler.line == "sde-sde_dpmpp_2m-karras-denoised-eta0.5"
    found = sample_images(model, sampler, 3, seed=4, progress=False).images
    drawn = model.sample(3, steps=3, eta=0.5, seed=4, save="last", denoise=True).images()
    assert torch.equal(found, (drawn * 255).round() / 255)
    assert not torch.equal(found, sample_images(model, Sampler(steps=3), 3, seed=4).images)
    part = replace(sampler, between=(0.1, 1))
    assert part.line == "sde-sde_dpmpp_2m-karras-denoised-eta0.5-between0.1-1"
    found = sample_images(model, part, 3, seed=4, progress=False).images
    eta = eta_between(model.sde, 0.1, 1, 0.5)
    drawn = model.sample(3, steps=3, eta=eta, seed=4, save="last", denoise=True).images()
    assert torch.equal(found, (drawn * 255).round() / 255)
    for wrong in ({"eta": 0.5}, {"between": (0.1, 1)}):
        with pytest.raises(InputError, match="the flow has no noise; leave them out"):
            Sampler("dpmpp_2m", "ode", **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="eta = -1: expected a number ≥ 0"):
        Sampler(eta=-1)


def test_a_temperature_is_that_of_the_model_s_own_samples(tmp_path: Path) -> None:
    model, sampler = tiny(classes=10), Sampler("dpmpp_2m", "ode", 2, temperature=0.8)
    assert sampler.line == "ode-dpmpp_2m-karras-denoised-temperature0.8"
    found = sample_images(model, sampler, 3, seed=4, out=tmp_path).images
    drawn = model.sample(
        3, method="dpmpp_2m", steps=2, seed=4, temperature=0.8, save="last", denoise=True
    ).images()
    torch.testing.assert_close(found, (255 * drawn).round() / 255, rtol=0, atol=1e-3)
    with pytest.raises(InputError, match="holds images with other temperature"):
        sample_images(model, replace(sampler, temperature=0.8 + 1e-9), 3, seed=4, out=tmp_path)
    with pytest.raises(InputError, match="temperature = 0"):
        Sampler(temperature=0)


@pytest.mark.parametrize(
    ("sampler", "nfe"),
    [
        (Sampler("sde_dpmpp_2m", "sde", 5), 6),
        (Sampler("sde_dpmpp_2m", "sde", 5, denoise=False), 5),
        (Sampler("heun2", "ode", 5, denoise=False), 10),
        (Sampler("srk", "sde", 5, denoise=False), 10),
    ],
)
def test_cost_is_stated_in_evaluations(sampler: Sampler, nfe: int) -> None:
    """The network itself counts its calls."""
    model, calls = tiny(), []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    assert sample_images(model, sampler, 2, progress=False).nfe == nfe == len(calls)


def test_samplers_are_checked_before_work_begins() -> None:
    with pytest.raises(InputError, match="kind = 'sdee'"):
        Sampler(kind="sdee")
    with pytest.raises(UnknownSolverError, match="did you mean 'sde_dpmpp_2m'"):
        Sampler("sde_dpmp_2m")
    with pytest.raises(InputError, match="samplers: expected at least one"):
        evaluate_samplers(tiny(), [])
    names = {
        Sampler("euler", kind, denoise=d).name for kind in ("ode", "sde") for d in (True, False)
    }
    assert len(names) == 4


def made_up(floor: float = 2.0, sure: float = 1.0) -> EvaluationTable:
    def score(fid: float, confident: float) -> Evaluation:
        confident *= sure
        return Evaluation(
            100, fid, 0.1 * fid, floor, 0.1, 0.01, 0.8, 0.7, confident, (0.1,) * 10, "set", "f"
        )

    rows = [
        EvaluationRow(Sampler(method, kind, steps), steps + 1, score(fid, confident))
        for method, kind, steps, fid, confident in (
            ("sde_dpmpp_2m", "sde", 19, 4.0, 0.9), ("sde_dpmpp_2m", "sde", 9, 8.0, 0.8),
            ("dpmpp_2m", "ode", 9, 16.0, 0.7),
        )
    ]  # fmt: skip
    return EvaluationTable(tuple(rows), score(2.0, 0.98))


def test_table_as_a_file_and_as_text(tmp_path: Path) -> None:
    table = made_up()
    with table.save(tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sampler"] for row in rows][-1] == "real training images"
    assert [row["nfe"] for row in rows] == ["20", "10", "10", ""]
    assert [float(row["ratio"]) for row in rows] == [2, 4, 8, 1]
    assert float(rows[0]["class_9"]) == 0.1
    lines = str(table).splitlines()
    assert len(lines) == 5
    assert lines[1].split() == ["sde-sde_dpmpp_2m-karras-denoised-19", "20", "4", "0.4", "2", "2",
                                "0.8", "0.7", "0.9"]  # fmt: skip


def test_picture_of_quality_against_cost(tmp_path: Path) -> None:
    """Its lines hold the table's numbers, in the order of their cost."""
    figure = plot_evaluation(made_up(), tmp_path / "scores.png")
    ratio, confident = figure.axes
    first, second, floor = (line for line in ratio.lines if len(line.get_xdata()) > 0)
    assert first.get_xydata().tolist() == [[10, 4], [20, 2]]
    assert second.get_xydata().tolist() == [[10, 8]]
    assert set(floor.get_ydata()) == {1}
    assert confident.lines[0].get_xydata().tolist() == [[10, 80], [20, 90]]
    assert set(confident.lines[-1].get_ydata()) == {98}
    assert (tmp_path / "scores.png").stat().st_size > 5000


@pytest.mark.parametrize(("floor", "sure"), [(math.nan, 1.0), (2.0, math.nan)])
def test_picture_of_scores_that_lack_some(floor: float, sure: float) -> None:
    left, right = plot_evaluation(made_up(floor, sure)).axes
    no_floor, unsure = math.isnan(floor), math.isnan(sure)
    assert left.get_ylabel() == ("FID" if no_floor else "FID / FID of real images")
    assert left.lines[0].get_xydata().tolist() == [
        [10, 8 if no_floor else 4],
        [20, 4 if no_floor else 2],
    ]
    assert right.lines[0].get_xydata().tolist() == [[10, 80], [20, 80 if unsure else 90]]
    assert ("lie among real ones" if unsure else "confidence") in right.get_ylabel()


def test_picture_of_neighbours_shows_copies_first(tmp_path: Path) -> None:
    train = load_images("mnist").images[:500].float() / 255
    real = load_images("mnist", train=False).images[:100].float() / 255
    samples = {"a": real[50:70], "b": torch.cat([real[80:99], train[[7]]])}
    figure = plot_neighbours(samples, train, real[:50], tmp_path / "neighbours.png")
    sheet = figure.axes[0].images[0].get_array()
    copy, original = sheet[:28, :28, 0], sheet[29:57, :28, 0]
    assert torch.equal(torch.as_tensor(copy), train[7, 0])
    assert torch.equal(torch.as_tensor(original), train[7, 0])
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert [label[:2] for label in labels] == ["a:", "b:", "re"]
    assert ["least 0.00" in label for label in labels] == [False, True, False]
    with pytest.raises(InputError, match="expected at least one sampler, and one shape"):
        plot_neighbours(samples, train, real[..., :14])
    with pytest.raises(InputError, match="samples of 0 samplers"):
        plot_neighbours({}, train, real)


def test_samplers_are_scored_beside_real_images() -> None:
    pytest.importorskip("torchmetrics")
    samplers = [Sampler(steps=n) for n in (1, 2)]
    table = evaluate_samplers(tiny(), samplers, 100, bootstraps=2, progress=False)
    assert [row.nfe for row in table.rows] == [2, 3]
    assert table.real.ratio == pytest.approx(1, abs=1e-3)
    assert all(row.score.ratio > 3 for row in table.rows)  # an untrained network draws blots


def test_fewer_real_images_than_samples() -> None:
    """Then there is no floor, and the table says how many real images it scored."""
    pytest.importorskip("torchmetrics")
    small = tuple(
        ImageData("some", load_images("mnist", train=part).images[:120], None)
        for part in (True, False)
    )
    table = evaluate_samplers(
        tiny(), [Sampler(steps=1)], 150, data=small, features=lambda x: x.mean((2, 3)),
        bootstraps=1, progress=False,
    )  # fmt: skip
    assert math.isnan(table.rows[0].score.floor)
    assert table.real.ratio == pytest.approx(1)
    assert [row["count"] for row in table] == [150, 120]
    assert "120 real images" in str(table)
