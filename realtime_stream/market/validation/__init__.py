"""Whether an event can be true: the same rules for live and for historical data. Pure.

A :class:`Validator` checks one stream of events. What it finds fault with it tells as a
:class:`Verdict`; a :class:`ValidationPolicy` decides, rule by rule, what that means.
"""

from realtime_stream.market.validation.policy import RULES, Action, ValidationPolicy
from realtime_stream.market.validation.validator import Validator, Verdict

__all__ = ["RULES", "Action", "ValidationPolicy", "Validator", "Verdict"]
