"""One embedding for every artist and every track, also for the long tail.

Import from the modules; each is a box or an arrow of the paper's figure 2.
"""

__version__ = "0.1.0"
