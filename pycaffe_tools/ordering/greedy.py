"""One step of the global order: which feature of which layer costs least loss for what its removal saves.

For every layer that may still lose a feature, the removal of each of its
features f raises the loss by a rise r(f) and saves s of the net's cost, the
same for all features of a layer.  A candidate is better the lower its score:

    r / s    where the loss rises: the loss for each unit of cost saved
    r * s    where the loss falls (r < 0), since dividing would count a large saving against the candidate

So whatever lowers the loss comes before all that raises it, and a lower loss
at the same saving, or a larger saving at the same loss, is always better.
Within a layer that is the feature of smallest loss, as in the layer's own
ordering, and the layers' best ones are compared by their scores.

What is exact: at every step each candidate of every layer is evaluated on all
patches, or shown to lose: losses are not negative, so one whose losses add up
to more than the best score allows is not evaluated further.  No score is taken
over from an earlier step.  Candidates closer than rounding can tell are decided
by passes of the net.
"""

from __future__ import annotations

import math
from typing import List, Mapping, NamedTuple, Optional

from ..oracle.net_oracle import NetOracle
from ..oracle.oracle import TIE


class Removal(NamedTuple):
    """The removal of one feature.

    Attributes
    ----------
    layer, feature : which.
    loss : mean loss without it.
    before : mean loss with it.
    saving : cost that its removal saves.
    is_dead : its maps are 0, so the loss is known to stay as it is.
    """

    layer: str
    feature: int
    loss: float
    before: float
    saving: float
    is_dead: bool = False

    @property
    def rise(self) -> float:
        """How much the loss rises; what cannot be told from a tie is 0."""
        rise = self.loss - self.before
        return 0.0 if self.is_dead or abs(rise) <= TIE * self.before else rise

    @property
    def ratio(self) -> Optional[float]:
        """The rise for each unit of cost that is saved; None if nothing is saved."""
        return self.rise / self.saving if self.saving > 0 else None


def score(rise: float, saving: float) -> float:
    """What the removals are compared by, the lowest first."""
    if rise > 0:
        return rise / saving if saving > 0 else math.inf
    return rise * max(saving, 0.0)


def largest_rise(best: float, saving: float) -> float:
    """The rise up to which a removal with this saving has at most the score ``best``."""
    if saving > 0:
        return best * saving if best >= 0 else best / saving
    return math.inf if best == math.inf else -math.inf if best < 0 else 0.0


def choose(oracle: NetOracle, savings: Mapping[str, float]) -> Removal:
    """The best removal among all features of some layers.

    Parameters
    ----------
    oracle : the losses, given what was removed so far.
    savings : for each layer that may lose a feature, the cost that this saves.
    """
    oracle.refresh()
    before = oracle.loss()
    # Both losses of a rise are rounded.
    margin = (2 * oracle.near + TIE) * before
    found: List[Removal] = []
    best = math.inf
    # The highest layers first: their candidates cost least, and bound those of the lower ones.
    for layer in [name for name in oracle.layers if name in savings][::-1]:
        saving = savings[layer]
        smallest = oracle.layers[layer].smallest_below(before + largest_rise(best, saving) + margin)
        if smallest is None:
            continue
        removal = Removal(layer, smallest.feature, smallest.loss, before, saving, oracle.is_dead(layer, smallest.feature))
        found.append(removal)
        best = min(best, _score_within(removal, margin))
    # In a net where all scores are infinite, every layer's best was evaluated to the end.
    contenders = [removal for removal in found if _score_within(removal, -margin) <= best]
    if oracle.near and len(contenders) > 1 and not all(removal.is_dead for removal in contenders):
        contenders = _by_passes(oracle, contenders)
    order = list(oracle.layers)
    return min(contenders, key=lambda removal: (score(removal.rise, removal.saving), -removal.saving, removal.loss,
                                                order.index(removal.layer)))


def _score_within(removal: Removal, margin: float) -> float:
    """The score of a removal whose rise is larger by ``margin``, unless it is known to be 0."""
    return score(removal.rise + (0.0 if removal.is_dead else margin), removal.saving)


def _by_passes(oracle: NetOracle, removals: List[Removal]) -> List[Removal]:
    """The removals with the losses of passes of the net; each layer's begin behind it, before and after alike."""
    return [removal if removal.is_dead else removal._replace(
        before=oracle.exact_loss(removal.layer), loss=oracle.exact_loss(removal.layer, removal.feature))
        for removal in removals]
