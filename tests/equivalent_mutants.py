"""Mutants that are as good as the solution, with the reason: exercise → {before → after: why}."""

_SLOPE = "a constant added to log error moves the line but not its slope, since log h has its mean subtracted"

EQUIVALENT: dict[str, dict[str, str]] = {
    "simulate": {
        "for t, t_next in zip(ts[:-1], ts[1:]): → for t, t_next in zip(ts, ts[1:]):": "zip ends with the shorter one",
    },
    "convergence_order": {
        f"log_error = errors.log() - errors.log().mean() → log_error = {mutant}": _SLOPE
        for mutant in (
            "errors.log()",
            "errors.log() + errors.log().mean()",
            "errors.log() - errors.log().sum()",
            "errors.log() - errors.mean()",
            "errors.log() - errors.exp().mean()",
            "errors.log() - hs.log().mean()",
        )
    },
}
