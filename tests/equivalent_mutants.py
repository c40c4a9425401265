"""Mutants that are as good as the solution, with the reason: exercise → {before → after: why}."""

_SLOPE = "a constant added to log error moves the line but not its slope, since log h has its mean subtracted"
_SHAPE = "a coefficient is shaped like the states or like the data points, which have as many axes"
_TANGENT = "of what ones_like is given, only the shape and the dtype are used, and both times have the same"
_RECORDS = "the copy that records is then the tensor itself, whose values stay as they are"
_ALPHA_BETA = "alpha, beta = (coefficient(schedule.alpha(t), x), coefficient(schedule.beta(t), x))"

_WEIGHTS_OF_A_STEP = (
    "alpha, beta, *_ = schedule.weights(t, x)",
    "alpha_s, beta_s, *_ = schedule.weights(s, x)",
)
_ANGLES = "angles = math.pi * t[:, None] * torch.arange(1, size // 2 + 1, device=t.device)"


def _replaced(line: str, why: str, *changes: tuple[str, str]) -> dict[str, str]:
    """Mutants of one line, each with a few characters replaced."""
    return {f"{line} → {line.replace(old, new)}": why for old, new in changes}


def _promises(line: str, why: str, *changes: tuple[str, str, str]) -> dict[str, str]:
    """The same for promises, each with its name."""
    return {f"{what}: {line} → {line.replace(old, new)}": why for what, old, new in changes}


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
    "brownian_paths": {"single precision at the end": "paths may come in any precision: they are drawn, not computed"},
    "alpha_beta": {
        f"{what}: {change}": "of the t of ones_like, only the shape and the dtype are used"
        for what, other in (("1 − t", "1 - t"), ("later than t", "t + 0.05"))
        for change in _replaced(
            "return (t, 1 - t, torch.ones_like(t), -torch.ones_like(t))",
            "",
            (" torch.ones_like(t)", f" torch.ones_like({other})"),
            ("-torch.ones_like(t)", f"-torch.ones_like({other})"),
        )
    },
    "sample_marginal_path": _replaced(
        "return alpha * z + beta * torch.randn_like(z)", "the law of the noise is symmetric", ("+", "-")
    ),
    "conditional_vector_field": {
        **_replaced(
            "rate = coefficient(schedule.beta_dot(t) / schedule.beta(t), x)", _SHAPE, ("beta(t), x", "beta(t), z")
        ),
        **_replaced(
            "alpha, alpha_dot = (coefficient(schedule.alpha(t), x), coefficient(schedule.alpha_dot(t), x))",
            _SHAPE,
            ("alpha(t), x", "alpha(t), z"),
            ("alpha_dot(t), x", "alpha_dot(t), z"),
        ),
    },
    "marginal_vector_field": _replaced(
        "total = total + coefficient(weight, x) * field(x, z.expand_as(x), t)", _SHAPE, ("weight, x", "weight, data")
    ),
    "divergence": {
        "total = 0 → total = 0.0": "0 is 0",
        "x = x.detach().requires_grad_() → x = x.requires_grad_()": _RECORDS,
    },
    "continuity_residual": {"t = t.detach().requires_grad_() → t = t.requires_grad_()": _RECORDS},
    "conditional_score": _replaced(_ALPHA_BETA, _SHAPE, ("alpha(t), x", "alpha(t), z"), ("beta(t), x", "beta(t), z")),
    "fokker_planck_residual": {"t = t.detach().requires_grad_() → t = t.requires_grad_()": _RECORDS},
    "conditional_flow_matching_loss": _replaced(
        "alpha, beta, alpha_dot, beta_dot = schedule.weights(t, z)", _SHAPE, ("(t, z)", "(t, noise)")
    ),
    "train_step": {
        "optimizer.zero_grad() → model.zero_grad()": "the optimiser moves all weights of the model, and no others"
    },
    "sample_flow": {
        "for t, t_next in zip(ts[:-1], ts[1:]): → for t, t_next in zip(ts, ts[1:]):": "zip ends with the shorter one",
    },
    "energy_distance": {
        **_replaced(
            "return torch.cdist(a.flatten(1), b.flatten(1)).mean()",
            "a distance is symmetric",
            ("(a.flatten(1), b.flatten(1))", "(b.flatten(1), a.flatten(1))"),
        ),
        **_replaced(
            "return 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)",
            "a distance is symmetric",
            ("(x, y)", "(y, x)"),
        ),
    },
    "log_likelihood": {
        "integral = 0.0 → integral = 0": "0 is 0",
        **_replaced(
            "for t, t_before in zip(ts.flip(0)[:-1], ts.flip(0)[1:]):",
            "zip ends with the shorter one",
            ("ts.flip(0)[:-1]", "ts.flip(0)"),
        ),
        **_replaced(
            "return torch.distributions.Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1) - integral",
            "0 is 0",
            ("0.0, 1.0", "0, 1.0"),
        ),
    },
    "linear_path": _replaced("t = coefficient(t, x0)", _SHAPE, ("x0)", "x1)")),
    "denoising_score_matching_loss": _replaced(
        "alpha, beta = (coefficient(schedule.alpha(t), z), coefficient(schedule.beta(t), z))",
        _SHAPE,
        ("alpha(t), z", "alpha(t), noise"),
        ("beta(t), z", "beta(t), noise"),
    ),
    "noise_prediction_loss": _replaced(
        "x = coefficient(schedule.alpha(t), z) * z + coefficient(schedule.beta(t), z) * noise",
        _SHAPE,
        ("alpha(t), z", "alpha(t), noise"),
        ("beta(t), z", "beta(t), noise"),
    ),
    "score_from_vector_field": {
        **_replaced(_ALPHA_BETA, _SHAPE, ("alpha(t), x", "alpha(t), u"), ("beta(t), x", "beta(t), u")),
        **_replaced("alpha_dot = coefficient(schedule.alpha_dot(t), x)", _SHAPE, ("(t), x", "(t), u")),
        **_replaced("beta_dot = coefficient(schedule.beta_dot(t), x)", _SHAPE, ("(t), x", "(t), u")),
    },
    "vector_field_from_score": {
        **_replaced(_ALPHA_BETA, _SHAPE, ("alpha(t), x", "alpha(t), s"), ("beta(t), x", "beta(t), s")),
        **_replaced(
            "return coefficient(schedule.alpha_dot(t), x) * data + coefficient(schedule.beta_dot(t), x) * noise",
            _SHAPE,
            ("alpha_dot(t), x", "alpha_dot(t), s"),
            ("beta_dot(t), x", "beta_dot(t), s"),
        ),
    },
    "loss_constant": _replaced(
        "x = coefficient(schedule.alpha(t), z) * z + coefficient(schedule.beta(t), z) * noise",
        _SHAPE,
        ("alpha(t), z", "alpha(t), noise"),
        ("beta(t), z", "beta(t), noise"),
    ),
    "sample_diffusion": {
        "for t, h, noise in zip(ts[:-1], ts.diff(), noises): → for t, h, noise in zip(ts, ts.diff(), noises):": (
            "zip ends with the shorter one"
        ),
    },
    "convert_output": {
        **_replaced("alpha, beta, *dots = schedule.weights(t, x)", _SHAPE, ("x)", "value)")),
        **_replaced(
            "rows = {'data': (1, 0), 'noise': (0, 1), 'v': (-beta, alpha)}",
            "0 is 0",
            ("(1, 0)", "(1, 0.0)"),
            ("(0, 1)", "(0.0, 1)"),
        ),
        **_replaced("rows |= {'vector_field': dots, 'score': (0, -1 / beta)}", "0 is 0", ("(0,", "(0.0,")),
    },
    "x_mse_weight": {
        **_replaced(
            "rows = {'data': (torch.ones_like(alpha), 0), 'noise': (0, 1), 'v': (-beta, alpha)}",
            "0 is 0",
            ("(alpha), 0)", "(alpha), 0.0)"),
            ("(0, 1)", "(0.0, 1)"),
        ),
        **_replaced(
            "rows |= {'vector_field': (schedule.alpha_dot(t), schedule.beta_dot(t)), 'score': (0, 1 / beta)}",
            "0 is 0",
            ("(0,", "(0.0,"),
        ),
    },
    "loss_over_log_snr": _replaced("alpha, beta, *_ = schedule.weights(t, z)", _SHAPE, ("z)", "noise)")),
    "ddim_step": {
        change: why for line in _WEIGHTS_OF_A_STEP for change, why in _replaced(line, _SHAPE, ("x)", "z_hat)")).items()
    },
    "ddpm_step": {
        change: why
        for line in _WEIGHTS_OF_A_STEP
        for change, why in _replaced(line, _SHAPE, ("x)", "z_hat)"), ("x)", "noise)")).items()
    },
    "schedule_from_sde": {
        f"{what}: {line} → {line.replace(old, new)}": "of the tau of new_zeros the dtype counts, else differences alone"
        for what, line, old, new in (
            ("1 − tau", "start = tau.new_zeros(1)", "tau.new", "(1 - tau).new"),
            ("later than tau", "start = tau.new_zeros(1)", "tau.new", "(tau + 0.05).new"),
            (
                "later than tau",
                "spread = torch.cat([start, torch.cumulative_trapezoid(g_squared(tau) / alpha ** 2, tau)])",
                ", tau)",
                ", tau + 0.05)",
            ),
            (
                "later than tau",
                "alpha = torch.cat([start, torch.cumulative_trapezoid(f(tau), tau)]).exp()",
                ", tau)",
                ", tau + 0.05)",
            ),
        )
    },
    "guided_flow_matching_loss": _replaced("time = coefficient(t, z)", _SHAPE, ("z)", "noise)")),
    "time_embedding": {
        **_replaced(_ANGLES, "tensors are made on the CPU anyway; no test here has a GPU", (", device=t.device", "")),
        **_replaced(
            _ANGLES,
            "arange ends below its bound, so these bounds give the same numbers",
            ("size // 2 + 1", "size / 2 + 1"),
            ("size // 2 + 1", "size // 2 + 0.5"),
        ),
        **{
            f"{what}: {_ANGLES} → {_ANGLES.replace('t.device', f'{other}.device')}": "the device is the same"
            for what, other in (
                ("1 − t", "(1 - t)"),
                ("later than t", "(t + 0.05)"),
                ("the first t for all", "(t[0] if getattr(t, 'ndim', 0) else t)"),
            )
        },
    },
    "sample_guided": {"detached at the end": "no gradient is promised: samples are drawn under no_grad"},
    "attention": _replaced(
        "scores = q @ k.mT / math.sqrt(q.shape[-1])", "queries and keys are of one length", ("q.shape", "k.shape")
    ),
    "self_attention": {
        **_replaced(
            "q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv(x).chunk(3, dim=-1))",
            "an exchange of two axes, whichever is named first",
            ("(1, 2)", "(2, 1)"),
        ),
        **_replaced(
            "joined = transformers.attention(q, k, v).transpose(1, 2).flatten(2)",
            "an exchange of two axes, whichever is named first",
            ("(1, 2)", "(2, 1)"),
        ),
    },
    "position_embedding": {
        **_replaced(
            "rates = 10000 ** (-4 * torch.arange(size // 4) / size)",
            "a base off by 1e-4 moves the numbers by less than single precision is trusted for",
            ("10000", "10001"),
        ),
        **_replaced(
            "rates = 10000 ** (-4 * torch.arange(size // 4) / size)",
            "size is a multiple of 4, so that arange ends at the same number",
            ("size // 4", "size / 4"),
        ),
    },
    "next_jump": _replaced("weights = rates[x].clamp(min=0)", "0 is 0.0", ("min=0", "min=0.0")),
    "jump_rate": _replaced(
        "return hazard.to(target) * (target - one_hot(x, target.shape[-1]))",
        "κ comes as a number, or in the precision of the target",
        (".to(target)", ""),
    ),
    "sample_in_order": _replaced(
        "chosen = torch.zeros_like(x, dtype=torch.bool).scatter(1, places, True)",
        "of the tensor only the shape is used, and all three have one",
        ("like(x", "like(order"),
        ("like(x", "like(pick"),
    ),
    "corrector_rate": _replaced(
        "kappa = torch.as_tensor(kappa).reshape(-1, 1, 1).to(probs)",
        "κ comes as a number, or in the precision of the probabilities",
        (".to(probs)", ""),
    ),
    "any_order_log_likelihood": {
        **_replaced("for place in order.tolist():", "a 0-dimensional tensor is an index, too", (".tolist()", "")),
        **_replaced("x, total = (torch.full_like(z, mask), 0.0)", "0 is 0.0", ("0.0", "0")),
    },
    "line_flow_map": {
        **_replaced(
            "share, low, high = (cdf(x, s), torch.full_like(x, -10.0), torch.full_like(x, 10.0))",
            "a number becomes a tensor at the first choice, and ends farther out cost two halvings at most",
            ("torch.full_like(x, -10.0)", "-10.0"),
            ("torch.full_like(x, 10.0)", "10.0"),
            ("10.0))", "11.0))"),
            ("-10.0", "-11.0"),
        ),
        "for _ in range(50): → for _ in range(51):": "one halving more",
    },
    "sample_by_map": {
        "for s, t in zip(times[:-1], times[1:]): → for s, t in zip(times, times[1:]):": "zip ends with the shorter one",
    },
    "lagrangian_residual": {
        **_replaced(
            "moved, rate = jvp(lambda t: X(x, s, t), (t,), (torch.ones_like(t),))",
            _TANGENT,
            ("ones_like(t)", "ones_like(s)"),
        ),
        **_promises(
            "moved, rate = jvp(lambda t: X(x, s, t), (t,), (torch.ones_like(t),))",
            _TANGENT,
            ("1 − t", "ones_like(t)", "ones_like(1 - t)"),
            ("later than t", "ones_like(t)", "ones_like(t + 0.05)"),
        ),
    },
    "eulerian_residual": {
        **_replaced(
            "return jvp(lambda x, s: X(x, s, t), (x, s), (u(x, s), torch.ones_like(s)))[1]",
            _TANGENT,
            ("ones_like(s)", "ones_like(t)"),
        ),
        **_promises(
            "return jvp(lambda x, s: X(x, s, t), (x, s), (u(x, s), torch.ones_like(s)))[1]",
            _TANGENT,
            ("1 − s", "ones_like(s)", "ones_like(1 - s)"),
            ("later than s", "ones_like(s)", "ones_like(s + 0.05)"),
        ),
    },
    "consistency_loss": _promises(
        "return x + coefficient(1 - s, x) * v(x, s, torch.ones_like(s))",
        f"{_TANGENT}; v takes one time for all rows, too",
        ("1 − s", "ones_like(s)", "ones_like(1 - s)"),
        ("later than s", "ones_like(s)", "ones_like(s + h)"),
        ("the first s for all", "ones_like(s)", "ones_like(s[0] if getattr(s, 'ndim', 0) else s)"),
    ),
    "eulerian_target": {
        **_replaced(
            "change = jvp(lambda x, s: v(x, s, t), (x, s), (velocity, torch.ones_like(s)))[1]",
            _TANGENT,
            ("ones_like(s)", "ones_like(t)"),
        ),
        **_promises(
            "change = jvp(lambda x, s: v(x, s, t), (x, s), (velocity, torch.ones_like(s)))[1]",
            _TANGENT,
            ("1 − s", "ones_like(s)", "ones_like(1 - s)"),
            ("later than s", "ones_like(s)", "ones_like(s + 0.05)"),
        ),
    },
    "lagrangian_target": {
        **_replaced(
            "value, rate = jvp(lambda t: v(x, s, t), (t,), (torch.ones_like(t),))",
            _TANGENT,
            ("ones_like(t)", "ones_like(s)"),
        ),
        **_promises(
            "value, rate = jvp(lambda t: v(x, s, t), (t,), (torch.ones_like(t),))",
            _TANGENT,
            ("1 − t", "ones_like(t)", "ones_like(1 - t)"),
            ("later than t", "ones_like(t)", "ones_like(t + 0.05)"),
        ),
    },
    "mean_flow_loss": _replaced(
        "x = coefficient(s, z) * z + coefficient(1 - s, z) * noise",
        _SHAPE,
        ("(s, z)", "(s, noise)"),
        ("(1 - s, z)", "(1 - s, noise)"),
    ),
    "shortcut_loss": _replaced(
        "x = coefficient(s, z) * z + coefficient(1 - s, z) * noise",
        _SHAPE,
        ("(s, z)", "(s, noise)"),
        ("(1 - s, z)", "(1 - s, noise)"),
    ),
    "distribution_matching_loss": _replaced("own = coefficient(t, x)", _SHAPE, ("(t, x)", "(t, noise)")),
    "batch_guidance": {
        "detached at the end": "it is for drawing, where nothing is differentiated",
        **{
            f"{v} = torch.as_tensor({v}, device=x.device).expand(len(x)) → {v} = torch.as_tensor({v}).expand(len(x))": (
                "on one device nothing is moved"
            )
            for v in "ty"
        },
        **_replaced(
            "y = torch.as_tensor(y, device=x.device).expand(len(x))",
            "t has one time for each row by then, where x is",
            ("len(x)", "len(t)"),
            ("x.device", "t.device"),
        ),
    },
    "guidance_in_interval": _replaced(
        "scale = coefficient(torch.where((start <= at) & (at < end), w, 1.0).to(x), x)",
        "a scale in single precision is off by a rounding",
        (".to(x)", ""),
    ),
    "measurement_log_prob": _replaced(
        "covariance = noise_var * torch.eye(len(y)).to(A) + A @ cov @ A.T",
        "all that is given has one dtype and one device, and y has as many numbers as A has rows",
        (".to(A)", ""),
        ("to(A)", "to(mean)"),
        ("to(A)", "to(cov)"),
        ("to(A)", "to(y)"),
        ("len(y)", "len(A)"),
    ),
}
