"""Agreement between scores and people: plain functions on NumPy arrays, judged against SciPy by the tests."""
