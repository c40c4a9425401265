"""The exercises of each lab, one card each: `from fmlab.checks import lab1` gives the lab."""
