"""How much memory does the loss of a large vocabulary take, beside the plain computation?

    python benchmarks/lm_memory.py [--tokens 2048] [--vocabulary 128256] [--width 512]

Both variants multiply the same hidden states with the same output rows, take the cross-entropy and its gradients for both; each in a
fresh process, whose peak of resident memory is read before and after. Plain: logits in fp32 and `functional.cross_entropy`. The
inputs (hidden states, output rows) are counted by neither; the gradients, which both must return, by both.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

from common import in_own_process, machine


def peak_bytes() -> int:
    """Highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(variant: str, tokens: int, vocabulary: int, width: int) -> dict[str, Any]:
    import torch
    from torch.nn import functional

    from tunewright.execution.cpu.output_rows import CpuOutputKernels
    from tunewright.losses.chunked import linear_cross_entropy

    torch.manual_seed(0)
    hidden = torch.randn(tokens, width, requires_grad=True)
    weight = (torch.randn(vocabulary, width) * 0.02).requires_grad_()
    weight.output_kernels = CpuOutputKernels()  # type: ignore[attr-defined]  # as the fast path of a CPU installs them
    labels = torch.randint(vocabulary, (tokens,))
    linear_cross_entropy(hidden[:2].detach(), weight.detach(), None, labels[:2])  # the libraries' own memory
    before, began = peak_bytes(), time.perf_counter()
    if variant == "plain":
        loss = functional.cross_entropy(hidden @ weight.T, labels, reduction="sum")
    else:
        loss, _ = linear_cross_entropy(hidden, weight, None, labels)
    loss.backward()
    assert hidden.grad is not None and weight.grad is not None
    return {
        "bytes": peak_bytes() - before,
        "seconds": time.perf_counter() - began,
        "loss": float(loss) / tokens,
        "gradient": [float(hidden.grad.norm()), float(weight.grad.norm())],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("tokens", 2_048), ("vocabulary", 128_256), ("width", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--variant", choices=["plain", "tunewright"])
    options = parser.parse_args()
    size = (options.tokens, options.vocabulary, options.width)
    if options.variant:
        print(json.dumps(measure(options.variant, *size)))
        return
    print(machine())
    words = [f"--{name}={value}" for name, value in zip(("tokens", "vocabulary", "width"), size, strict=True)]
    found = {one: in_own_process(__file__, "--variant", one, *words) for one in ("plain", "tunewright")}
    print(f"{options.tokens:,} tokens, vocabulary {options.vocabulary:,}, width {options.width}, fp32")
    for variant, one in found.items():
        gradients = ", ".join(f"{norm:.6g}" for norm in one["gradient"])
        print(
            f"{variant:12} peak {one['bytes'] / 2**30:6.2f} GiB  {one['seconds']:6.2f} s  loss {one['loss']:.6f}  gradient norms {gradients}"
        )
    ratio = found["tunewright"]["bytes"] / found["plain"]["bytes"]
    print(f"memory {ratio:.0%} of the plain computation's")


if __name__ == "__main__":
    main()
