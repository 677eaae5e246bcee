"""Products of density coefficients that rotate as irreps: of two, of three, and of many by recursion."""
