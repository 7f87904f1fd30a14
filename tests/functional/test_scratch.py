"""Memory for intermediate results is reused, unless gradients are needed."""

import torch

from functional.scratch import Scratch
from tests.support.problems import normal


def test_memory_of_one_name_is_reused():
    like = normal(1)
    scratch = Scratch(like)
    first, smaller, other = scratch("a", like, 3, 4), scratch("a", like, 5), scratch("b", like, 5)
    assert (first.shape, smaller.shape) == ((3, 4), (5,))
    assert first.data_ptr() == smaller.data_ptr() != other.data_ptr()
    assert scratch("a", like, 13).shape == (13,)


def test_nothing_is_reused_where_one_input_needs_a_gradient():
    like = normal(1)
    inputs = like, like.clone().requires_grad_()
    assert Scratch(*inputs)("a", like, 3) is None
    with torch.no_grad():
        assert Scratch(*inputs)("a", like, 3) is not None


def test_a_copy_is_contiguous_and_leaves_the_original_alone():
    maps = normal(3, 4)
    copy = Scratch(maps).copy("a", maps.T)
    assert copy.is_contiguous()
    assert torch.equal(copy, maps.T)
    copy.zero_()
    assert maps.all()
