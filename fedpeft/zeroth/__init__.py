"""Zeroth-order federation: the model as a sum of directions that nobody sends (no models here, no torch).

    coefficient   a_j, a whole number: how far the federation has moved along direction j, in steps of the unit c.
    pool          the K directions of one epoch, made from the run's seed; over all places, a block of them or a mask.
    epoch         a number of rounds that share a pool; the next one draws another.
    scalar        g, what one local step measured along one direction: the directional derivative.
    optimizer     what scalars do to coefficients within a client's round: SGD unless the run file says otherwise.
    replica       the model that everybody rebuilds from the coefficients, bit by bit the same:

        θ ← fl( θ + fl( c · S_e ) ),   S_e[i] = Σ_j a_{e,j} z_{e,j}[i],   for the epochs e = 0, 1, ... in turn from θ_0

with fl rounding to fp32 once. S_e is a sum of whole numbers, so neither order nor device nor threads can change a bit.
All that the coordinator keeps and sends are the coefficients of all epochs, one vector of shape (E·K,).
"""
