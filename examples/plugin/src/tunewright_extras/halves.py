"""A schedule: the learning rate is halved after each quarter of the steps."""


def factor(progress: float) -> float:
    """progress: the share of the steps after the warmup that are done, from 0 to 1."""
    return float(0.5 ** int(4 * progress))
