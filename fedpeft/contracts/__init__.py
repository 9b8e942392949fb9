"""What every plug-in of a kind promises, as tests that anybody can run on a plug-in of their own.

    from fedpeft.contracts import StrategyContract

    class TestMyRule(StrategyContract):
        def build(self):
            return MyRule()

`pytest` then runs every test of the contract on it; `fedpeft new strategy NAME` writes such a file.
"""

from fedpeft.contracts.strategies import StrategyContract

__all__ = ["StrategyContract"]
