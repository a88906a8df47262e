"""The proof notices what surgery did wrong."""


import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.running.runtime import random_weights
from pycaffe_tools.surgery.proof import TOLERANCE, prove, verify
from pycaffe_tools.surgery.surgery import remove_features

from .cases import CONSTRUCTIONS, conv, fc, full_random_weights, layer, net_of


@pytest.mark.caffe
def test_the_proof_notices_one_wrong_weight():
    layers, keep = CONSTRUCTIONS["convolution, pooling, inner product"]
    net = net_of(*layers)
    surgery = remove_features(net, random_weights(net), keep)
    assert verify(surgery) <= TOLERANCE
    surgery.slim_weights["f"][0][0, :12] = surgery.slim_weights["f"][0][0, 12:24]
    assert verify(surgery) > 1e-3
    with pytest.raises(UserError, match="the masked and the slim net differ"):
        prove(surgery)


@pytest.mark.caffe
def test_the_proof_notices_a_removed_map_that_is_not_zero():
    net = net_of(conv("a", "data", 4), layer("BatchNorm", "bn", "a"), fc("f", "bn", 2))
    weights = full_random_weights(net)
    surgery = remove_features(net, weights, {"a": [0, 1, 2]})
    # What masking the convolution alone would give: BatchNorm makes -mean / deviation of the zero map.
    surgery.masked_weights["bn"] = weights["bn"]
    assert verify(surgery) == np.inf


@pytest.mark.caffe
def test_undefined_weights_are_no_proof():
    net = net_of(conv("a", "data", 4), fc("f", "a", 2))
    surgery = remove_features(net, random_weights(net), {"a": [0, 1]})
    for weights in (surgery.masked_weights, surgery.slim_weights):      # finite, but what they make is not
        weights["a"][0] *= np.float32(1e38)
        weights["f"][0] *= np.float32(1e38)
    with pytest.raises(UserError, match="differ by inf"):
        prove(surgery)
