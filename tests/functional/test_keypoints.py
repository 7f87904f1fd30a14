"""Joints as heat maps and back, and PCK by hand."""

import numpy as np
import pytest
import torch

from functional.keypoints import correct_share, heat_maps, joint_positions, normalised_distances


def test_joints_survive_the_way_into_maps_and_back():
    joints = torch.tensor([[3.0, 4.0], [10.3, 2.8], [0, 0], [19, 9], [torch.nan, torch.nan], [40, 5]])
    maps = heat_maps(joints, 10, 20)
    assert maps.shape == (7, 10, 20)
    assert torch.equal(maps[0] == 1, maps[1:].sum(0) == 0)
    assert maps[1, 4, 3] == 1
    assert float(maps[1, 4, 4]) == pytest.approx(np.exp(-1 / (2 * 0.5**2)))
    found = joint_positions(maps[1:])
    assert (found[:4] - joints[:4]).abs().max() < 0.35
    torch.testing.assert_close(found[0], joints[0])
    assert found[4:].isnan().all()


def test_a_joint_is_the_mean_of_the_five_strongest_cells():
    map_of_joint = torch.zeros(1, 3, 9)
    map_of_joint[0, 1] = torch.tensor([0.1, 0, 0, 0.8, 1, 0.8, 0.6, 0.4, 0.3])
    expected = (3 * 0.8 + 4 * 1 + 5 * 0.8 + 6 * 0.6 + 7 * 0.4) / 3.6
    torch.testing.assert_close(joint_positions(map_of_joint), torch.tensor([[expected, 1]]))


def test_pck_by_hand():
    joints = np.array([[[0, 0], [30, 40], [10, 10]]], float)  # the box's diagonal is 50, a unit is 30
    found = joints + np.array([[3, 0], [0, 6.01], [0, 0]])
    np.testing.assert_allclose(normalised_distances(found, joints), [[0.1, 6.01 / 30, 0]])
    np.testing.assert_allclose(correct_share(normalised_distances(found, joints), 0.1), [1, 0, 1])
    found[0, 2] = np.nan  # lost, which is nothing to the others
    np.testing.assert_allclose(normalised_distances(found, joints), [[0.1, 6.01 / 30, np.inf]])
    joints[0, 1] = np.nan  # not annotated, so not in the box
    np.testing.assert_allclose(normalised_distances(found, joints)[0], [3 / (0.6 * 200**0.5), np.nan, np.inf])
    np.testing.assert_allclose(correct_share(np.array([[0.1, np.nan], [np.inf, np.nan]]), 0.2), [0.5, np.nan])
