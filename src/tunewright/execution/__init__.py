"""How a step is computed: dropout by row in every execution, and the fast path of a CPU."""
