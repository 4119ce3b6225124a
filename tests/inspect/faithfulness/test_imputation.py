"""ROAD, and its imputation against a dense solution."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.errors import InspectionError
from cutaway.inspect.faithfulness import imputation, impute, road


def solved_densely(picture, removed):
    """Each removed pixel is the mean of its neighbours, direct ones weighing 1/6 and diagonal ones 1/12."""
    height, width = picture.shape
    matrix, right = np.eye(height * width), picture.flatten().astype(np.float64).copy()
    for row in range(height):
        for column in range(width):
            if not removed[row, column]:
                continue
            place = row * width + column
            weights = {
                (row + down) * width + column + across: 1 / 6 if down == 0 or across == 0 else 1 / 12
                for down in (-1, 0, 1)
                for across in (-1, 0, 1)
                if (down or across) and 0 <= row + down < height and 0 <= column + across < width
            }
            total = sum(weights.values())
            right[place] = 0
            for neighbour, weight in weights.items():
                matrix[place, neighbour] = -weight / total
    return np.linalg.solve(matrix, right).reshape(height, width)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.4, 0.7, 0.95]))
def test_it_is_the_solution_of_the_linear_system(seed, share):
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randn(2, 3, 5, 5, generator=generator)
    removed = torch.rand(2, 5, 5, generator=generator) < share
    removed[:, 2, 2] = False
    filled = impute(pictures, removed, noise=0)
    for index in range(2):
        for channel in range(3):
            wanted = solved_densely(pictures[index, channel].numpy(), removed[index].numpy())
            assert filled[index, channel].numpy() == pytest.approx(wanted, abs=2e-4)


def test_a_large_picture_with_a_tenth_left_is_solved_as_well():
    generator = torch.Generator().manual_seed(1)
    picture = torch.randn(1, 1, 24, 24, generator=generator)
    removed = torch.rand(1, 24, 24, generator=generator) < 0.9
    wanted = solved_densely(picture[0, 0].numpy(), removed[0].numpy())
    assert impute(picture, removed, noise=0)[0, 0].numpy() == pytest.approx(wanted, abs=1e-3)


def test_whole_regions_of_several_pictures_are_each_solved_as_if_alone():
    generator = torch.Generator().manual_seed(2)
    pictures = torch.randn(3, 2, 20, 22, generator=generator)
    coarse = torch.rand(3, 1, 4, 4, generator=generator)
    ranks = torch.nn.functional.interpolate(coarse, (20, 22), mode="bilinear")[:, 0].flatten(1).argsort(1).argsort(1)
    # From quickly to slowly solved.
    removed = (ranks < torch.tensor([[20], [220], [400]])).reshape(3, 20, 22)
    filled = impute(pictures, removed, noise=0)
    for index in range(3):
        alone = impute(pictures[index, None], removed[index, None], noise=0)
        assert torch.allclose(filled[index], alone[0], atol=1e-5)
        for channel in range(2):
            wanted = solved_densely(pictures[index, channel].numpy(), removed[index].numpy())
            assert filled[index, channel].numpy() == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(("side", "times"), [(28, 1), (60, 2), (120, 4)])
def test_pictures_are_solved_together_where_they_are_small(side, times, monkeypatch):
    solved = []
    monkeypatch.setattr(imputation, "_solved", lambda some, gone: solved.append(len(some)) or torch.zeros_like(some))
    removed = torch.zeros(4, side, side, dtype=torch.bool)
    removed[:, 0] = True
    assert impute(torch.ones(4, 3, side, side), removed).shape == (4, 3, side, side)
    assert len(solved) == times
    assert sum(solved) == 4


def test_what_stays_is_untouched_and_noise_is_as_told():
    flat = torch.full((1, 1, 60, 60), 0.7)
    removed = torch.rand(1, 60, 60, generator=torch.Generator().manual_seed(0)) < 0.5
    filled = impute(flat, removed, noise=0.05, seed=3)
    assert torch.equal(filled[0, 0][~removed[0]], flat[0, 0][~removed[0]])
    grain = filled[0, 0][removed[0]] - 0.7
    assert grain.std() == pytest.approx(0.05, rel=0.1)
    assert torch.equal(filled, impute(flat, removed, noise=0.05, seed=3))


def test_where_the_network_looks_beats_where_it_does_not(corner, bright, where_it_looks):
    bright[:, :, 6:] = bright[:, :, :, 6:] = 0
    maps = where_it_looks(bright, None)
    found = road(corner, bright, maps, 0)
    assert found.strongest_first.shape == (12, 5)
    assert (found.score > 0.05).all()
    assert torch.allclose(road(corner, bright, -maps, 0).score, -found.score, atol=0.05)
    assert road(corner, bright, torch.zeros(12, 3, 3), 0).score.mean().abs() < 0.05


def test_what_cannot_be_filled_in_is_an_error_in_words(corner, bright):
    with pytest.raises(InspectionError, match="every pixel is removed"):
        impute(bright, torch.ones(12, 12, 12, dtype=torch.bool))
    with pytest.raises(InspectionError, match="between 0 and 1, not 1"):
        road(corner, bright, torch.zeros(12, 3, 3), shares=(1,))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_fills_a_batch_in_as_a_cpu_does_one_by_one():
    generator = torch.Generator().manual_seed(3)
    pictures = torch.randn(4, 3, 32, 32, generator=generator)
    removed = torch.rand(4, 32, 32, generator=generator) < torch.tensor([0.1, 0.5, 0.9, 0.99])[:, None, None]
    wanted = impute(pictures, removed, seed=1)
    assert torch.allclose(impute(pictures.cuda(), removed.cuda(), seed=1).cpu(), wanted, atol=1e-2)
