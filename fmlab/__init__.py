"""fmlab: flow matching and diffusion models, from simulation to guidance.

One notation everywhere: time runs from noise (t = 0) to data (t = 1); x is a batch of states of shape
(n, *shape), z a batch of data points, u a vector field, s = ∇ log p a score, σ a diffusion coefficient, h a
step size. A field is any callable u(x, t). Modules are imported where they are used
(`from fmlab.simulators import simulate`), so `import fmlab` itself costs nothing.
"""

__version__ = "0.1.0"
