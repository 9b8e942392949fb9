"""Structured pruning: which heads and channels a client keeps, the smaller model that comes of it, and the way back.

    importance -> scores -> mask -> smaller base and adapter -> delta of what is held -> places in the whole vector

`units`, `mask`, `ramp`, `cost` and `importance` are plain arithmetic, which a coordinator does without torch; `anatomy`
and `shrink` work on models.
"""
