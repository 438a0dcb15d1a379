"""Score distillation against closed forms: on Gaussian data every score is known exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from geco_core.config.models import ScheduleConfig
from geco_core.diffusion.schedule import NoiseSchedule
from geco_core.distill.score import (
    sds_loss,
    student_loss,
    timestep_range,
    vsd_gradient,
    vsd_loss,
    with_gradient,
)

PUBLISHED = NoiseSchedule(ScheduleConfig())
ZERO_SNR = NoiseSchedule(ScheduleConfig(rescale_betas_zero_snr=True))


def draw_timesteps(
    batch: int, bounds: tuple[float, float], schedule: NoiseSchedule, generator: torch.Generator
) -> Tensor:
    low, high = timestep_range(bounds, schedule)
    return torch.randint(low, high + 1, (batch,), generator=generator)


class Gaussian:
    """Exact velocity of data N(mean, std^2), elementwise."""

    def __init__(self, mean: Tensor | float, std: float, schedule: NoiseSchedule) -> None:
        self.mean, self.std, self.schedule = mean, std, schedule

    def clean(self, x: Tensor, t: Tensor) -> Tensor:
        a, s = self.schedule.coefficients(t, x)
        return self.mean + a * self.std**2 / (a**2 * self.std**2 + s**2) * (x - a * self.mean)

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        a, s = self.schedule.coefficients(t, x)
        return s * (x - a * self.mean) / (a**2 * self.std**2 + s**2)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        a, s = self.schedule.coefficients(t, x)
        return a * self.noise(x, t) - s * self.clean(x, t)


@pytest.mark.parametrize("schedule", [PUBLISHED, ZERO_SNR], ids=["published", "zero_snr"])
def test_conversions_agree_with_the_known_score(schedule: NoiseSchedule) -> None:
    data = Gaussian(0.7, 0.4, schedule)
    t = torch.tensor([0, 20, 500, 980, 999])
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    v = data(x, t)
    torch.testing.assert_close(
        schedule.clean_from_velocity(x, v, t), data.clean(x, t), atol=2e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        schedule.noise_from_velocity(x, v, t), data.noise(x, t), atol=2e-5, rtol=1e-4
    )
    a, s = schedule.coefficients(t, x)
    score = -(x - a * 0.7) / (a**2 * 0.16 + s**2)  # d log p / dx of N(a m, a^2 d^2 + s^2)
    torch.testing.assert_close(-data.noise(x, t) / s, score, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("t", [20, 300, 700, 980])
def test_the_gradient_between_two_gaussians_is_the_closed_form(t: int) -> None:
    mean, wrong, std = 0.3, 1.1, 0.5
    teacher, student = Gaussian(mean, std, PUBLISHED), Gaussian(wrong, std, PUBLISHED)
    t_B = torch.full((4,), t)
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(t))
    x0 = (wrong + 0.1 * noise).requires_grad_()
    loss = vsd_loss(
        x0, teacher, student, PUBLISHED, t_B, noise, weighting="sigma2", reduction="sum"
    )
    (gradient,) = torch.autograd.grad(loss, x0)
    a, s = PUBLISHED.coefficients(t_B, noise)
    # e_teacher - e_student = s a (wrong - mean) / V whatever x_t is; w = s^2; chain rule gives a.
    # dx_t/dx0 = a is left out by the definition of the loss, as in threestudio.
    expected = (s**2 * s * a * (wrong - mean) / (a**2 * std**2 + s**2) / 4).expand(4, 2)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)


def test_uniform_weighting_is_the_difference_of_the_noise_predictions() -> None:
    teacher, student = Gaussian(0.3, 0.5, PUBLISHED), Gaussian(-0.4, 0.8, PUBLISHED)
    t = torch.tensor([100, 600])
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    gradient = vsd_gradient(
        x, teacher.clean(x, t), student.clean(x, t), PUBLISHED.coefficients(t, x), "uniform"
    )
    torch.testing.assert_close(
        gradient, teacher.noise(x, t) - student.noise(x, t), atol=1e-5, rtol=1e-4
    )


def test_normalised_weighting_does_not_depend_on_scale() -> None:
    g = torch.Generator().manual_seed(2)
    x0, teacher, student = (torch.randn(3, 8, generator=g) for _ in range(3))
    one = torch.ones(3, 1)
    small = vsd_gradient(x0, teacher, student, (one, one), "normalised")
    large = vsd_gradient(100 * x0, 100 * teacher, 100 * student, (one, one), "normalised")
    torch.testing.assert_close(small, large)
    perfect = vsd_gradient(x0, x0, x0, (one, one), "normalised")
    assert torch.equal(perfect, torch.zeros_like(x0))


def test_sds_is_the_teachers_noise_minus_the_drawn_one() -> None:
    teacher = Gaussian(0.2, 0.6, PUBLISHED)
    t = torch.tensor([50, 500, 900])
    g = torch.Generator().manual_seed(3)
    x0 = torch.randn(3, 4, generator=g).requires_grad_()
    noise = torch.randn(3, 4, generator=g)
    (gradient,) = torch.autograd.grad(
        sds_loss(x0, teacher, PUBLISHED, t, noise, weighting="uniform"), x0
    )
    noisy = PUBLISHED.add_noise(x0.detach(), noise, t)
    expected = (teacher.noise(noisy, t) - noise) / 3
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


def test_the_loss_carries_exactly_the_given_gradient() -> None:
    x0 = torch.randn(2, 5, requires_grad=True)
    wanted = torch.randn(2, 5)
    (summed,) = torch.autograd.grad(with_gradient(x0, wanted, "sum"), x0)
    torch.testing.assert_close(summed, wanted / 2)
    (mean,) = torch.autograd.grad(with_gradient(x0, wanted, "mean"), x0)
    torch.testing.assert_close(mean, wanted / 10)


def test_networks_get_no_gradient() -> None:
    net = nn.Linear(4, 4)
    x0 = torch.randn(2, 4, requires_grad=True)
    t = torch.tensor([10, 990])
    vsd_loss(
        x0, lambda x, _: net(x), lambda x, _: net(x) * 2, PUBLISHED, t, torch.randn(2, 4)
    ).backward()
    assert net.weight.grad is None
    assert x0.grad is not None


def test_the_student_loss_is_smallest_for_the_exact_velocity() -> None:
    g = torch.Generator().manual_seed(4)
    x0 = 0.7 + 0.4 * torch.randn(4096, 1, generator=g)
    noise = torch.randn(4096, 1, generator=g)
    t = draw_timesteps(4096, (0.02, 0.98), PUBLISHED, g)
    exact = Gaussian(0.7, 0.4, PUBLISHED)
    best = student_loss(x0, exact, PUBLISHED, t, noise)
    for mean, std in ((0.5, 0.4), (0.9, 0.4), (0.7, 0.3), (0.7, 0.6)):
        assert student_loss(x0, Gaussian(mean, std, PUBLISHED), PUBLISHED, t, noise) > best


def test_min_snr_caps_the_low_noise_side() -> None:
    x0, noise = torch.zeros(1, 4), torch.ones(1, 4)
    for t in (5, 500, 999):
        t_B = torch.tensor([t])
        plain = student_loss(x0, lambda x, _: torch.zeros_like(x), PUBLISHED, t_B, noise)
        capped = student_loss(
            x0, lambda x, _: torch.zeros_like(x), PUBLISHED, t_B, noise, min_snr=5.0
        )
        snr = float(PUBLISHED.snr(t))
        assert capped / plain == pytest.approx(min(snr, 5.0) / (snr + 1), rel=1e-5)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [((0.02, 0.98), (20, 980)), ((0.0, 1.0), (0, 999)), ((0.5, 0.5), (500, 500))],
)
def test_timesteps_fill_their_range(bounds: tuple[float, float], expected: tuple[int, int]) -> None:
    assert timestep_range(bounds, PUBLISHED) == expected


class Affine(nn.Module):
    """The exact form of a Gaussian score, with its mean and spread to be learned."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))
        self.log_std = nn.Parameter(torch.zeros(()))
        self.schedule = schedule

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return Gaussian(self.mean, self.log_std.exp(), self.schedule)(x, t)


def distil(loss: str) -> tuple[float, float]:
    """Mean and spread of the one-step generator x0 = m + d z after distilling N(0.8, 0.5^2)."""
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(5)
    teacher = Gaussian(0.8, 0.5, PUBLISHED)
    mean, log_std = nn.Parameter(torch.tensor(-0.5)), nn.Parameter(torch.tensor(0.2))
    student = Affine(PUBLISHED)
    generator_steps = torch.optim.Adam([mean, log_std], lr=5e-3)
    student_steps = torch.optim.Adam(student.parameters(), lr=2e-2)
    for _ in range(700):
        x0 = mean + log_std.exp() * torch.randn(256, 1, generator=g)
        t = draw_timesteps(256, (0.02, 0.98), PUBLISHED, g)
        noise = torch.randn(256, 1, generator=g)
        if loss == "vsd":
            value = vsd_loss(x0, teacher, student, PUBLISHED, t, noise, weighting="sigma2")
        else:
            value = sds_loss(x0, teacher, PUBLISHED, t, noise)
        generator_steps.zero_grad()
        value.backward()
        generator_steps.step()
        if loss == "vsd":
            for _ in range(2):
                t = draw_timesteps(256, (0.02, 1.0), PUBLISHED, g)
                noise = torch.randn(256, 1, generator=g)
                student_steps.zero_grad()
                student_loss(x0, student, PUBLISHED, t, noise).backward()
                student_steps.step()
    return mean.item(), log_std.exp().item()


def test_vsd_learns_the_distribution_where_sds_collapses_to_its_mode() -> None:
    mean, std = distil("vsd")
    assert mean == pytest.approx(0.8, abs=0.05)
    assert std == pytest.approx(0.5, abs=0.06)
    mean, std = distil("sds")
    assert mean == pytest.approx(0.8, abs=0.05)
    assert std < 0.35  # and still falling
