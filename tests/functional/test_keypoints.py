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
    found[0, 2] = np.nan  # lost, and within the box of the others
    np.testing.assert_allclose(normalised_distances(found, joints), [[0.1, 6.01 / 30, np.inf]])
    joints[0, 1] = np.nan  # not annotated, so not in the box
    of_all = normalised_distances(found, joints, box_of_all=True)
    np.testing.assert_allclose(of_all[0], [3 / (0.6 * 200**0.5), np.nan, np.inf])
    np.testing.assert_allclose(correct_share(np.array([[0.1, np.nan], [np.inf, np.nan]]), 0.2), [0.5, np.nan])


def test_a_lone_joint_has_no_box():
    """It is found exactly, or infinitely far."""
    joints = np.array([[[3, 4]], [[3, 4]]], float)
    np.testing.assert_array_equal(normalised_distances(np.array([[[3, 4]], [[3, 5]]], float), joints), [[0], [np.inf]])


def test_lost_joints_are_not_in_the_box():
    """14 joints found 3 pixels beside the truth, in a box of 12×30 pixels; one far away is lost."""
    joints = np.array([[[100 + 4 * (i % 4), 100 + 10 * (i // 4)] for i in range(14)] + [[-100, 110]]] * 2, float)
    found = joints + np.array([3, 0])
    found[:, 14] = np.nan
    close = normalised_distances(found, joints)
    np.testing.assert_allclose(close[:, :14], 3 / (0.6 * (12**2 + 30**2) ** 0.5))  # 0.155
    assert np.nanmean(correct_share(close[:, :14], 0.1)) == 0
    of_all = normalised_distances(found, joints, box_of_all=True)
    assert np.nanmean(correct_share(of_all[:, :14], 0.1)) == 1


def test_a_frame_in_which_every_joint_is_lost():
    joints = np.array([[[1.0, 2], [3, 4], [np.nan, np.nan]]])
    for box_of_all in (False, True):
        distances = normalised_distances(np.full_like(joints, np.nan), joints, box_of_all=box_of_all)
        np.testing.assert_array_equal(distances, [[np.inf, np.inf, np.nan]])
