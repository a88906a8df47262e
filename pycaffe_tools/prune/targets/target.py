"""What a pruning is asked to reach."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from ...base.errors import UserError


class Target(NamedTuple):
    """Exactly one of all but the last; or the last alone, or besides as a condition.

    Attributes
    ----------
    network : of Table 1.
    counts : features to keep in each layer; layers not named keep all.
    parameters, macs : share to keep of the parameters, or of the dense net's multiply-accumulates; above 0, up to 1.
    seconds : for a slice.
    speedup : times as fast as the unpruned net.
    accuracy_drop : percentage points of validation accuracy that may be lost.
    """

    network: Optional[str] = None
    counts: Optional[Mapping[str, int]] = None
    parameters: Optional[float] = None
    macs: Optional[float] = None
    seconds: Optional[float] = None
    speedup: Optional[float] = None
    accuracy_drop: Optional[float] = None

    def check(self) -> None:
        """Refuse none, several, and numbers that cannot be.

        Raises
        ------
        UserError : says which.
        """
        given = self.given
        if len(given) > 1 or not given and self.accuracy_drop is None:
            raise UserError("prune: say what to prune to by exactly one of NET, --counts, --target-time, --target-speedup, "
                            "--target-parameters and --target-macs; or by --max-accuracy-drop, alone or besides")
        for option, share in (("--target-parameters", self.parameters), ("--target-macs", self.macs)):
            if share is not None and not 0 < share <= 1:
                raise UserError(f"{option} {share:g}: is no share; give one above 0 and up to 1")
        if self.seconds is not None and not self.seconds > 0:
            raise UserError(f"--target-time {self.seconds:g}: give seconds above 0, such as 4s")
        if self.speedup is not None and not self.speedup >= 1:
            raise UserError(f"--target-speedup {self.speedup:g}: give 1 or more, times as fast as the unpruned net")
        if self.accuracy_drop is not None and not self.accuracy_drop >= 0:
            raise UserError(f"--max-accuracy-drop {self.accuracy_drop:g}: give percentage points, 0 or more")

    @property
    def given(self) -> List[str]:
        """Names of the fields that are given, besides the drop."""
        return [name for name in self._fields[:-1] if getattr(self, name) is not None]

    @property
    def is_time(self) -> bool:
        """Whether it is about time."""
        return self.seconds is not None or self.speedup is not None

    @property
    def cost(self) -> str:
        """What a global order weighs the loss against where nothing else is asked for."""
        return "parameters" if self.parameters is not None else "macs" if self.macs is not None else "time"

    @property
    def asked(self) -> str:
        """As an option, for messages."""
        if self.network is not None:
            return self.network
        if self.counts is not None:
            return "--counts " + ",".join(f"{name}={count}" for name, count in self.counts.items())
        if self.seconds is not None:
            return f"--target-time {self.seconds:g}s"
        if self.speedup is not None:
            return f"--target-speedup {self.speedup:g}"
        if self.macs is not None:
            return f"--target-macs {self.macs:g}"
        if self.parameters is not None:
            return f"--target-parameters {self.parameters:g}"
        return f"--max-accuracy-drop {self.accuracy_drop:g}"

    def as_json(self) -> Dict[str, Any]:
        """The fields that are given."""
        return {name: value for name, value in self._asdict().items() if value is not None}
