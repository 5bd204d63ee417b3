"""Reads the cycles of the attention kernel, which compiled programs do not state, from the dump of its schedule.

The compiler reads its flags when it is loaded, so this runs in a separate process: python -m
mmgen_jax.compiler.kernel_cycles TOPOLOGY TOKENS HEADS HEAD_WIDTH DTYPE prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from mmgen_jax.system.errors import RunError

_BUNDLES = re.compile(r"total scheduled bundles:\s+(\d+)")
ROWS = 2  # size of the batch; a batch of one would get another layout
KERNELS = ("attention_forward", "attention_backward")


def measure(topology: str, tokens: int, heads: int, head_width: int, dtype: str) -> dict[str, int]:
    """Measures the cycles of one sample for each kernel. Raises RunError with the compiler's last line if it fails."""
    command = [sys.executable, "-m", "mmgen_jax.compiler.kernel_cycles", topology]
    command += [str(value) for value in (tokens, heads, head_width, dtype)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunError(f"the compiler could not schedule the attention kernel for {topology}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def _compile(topology: str, tokens: int, heads: int, head_width: int, dtype: str) -> None:
    import jax
    import jax.numpy as jnp

    from mmgen_jax.compiler.topology import tpu_devices
    from mmgen_jax.models import attention_kernel

    here = jax.sharding.SingleDeviceSharding(tpu_devices(topology)[0])

    def array(shape: tuple[int, ...], dtype: str) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=here)

    def both(qkv, bias, grad):
        out, backward = jax.vjp(lambda qkv, bias: attention_kernel.attend(qkv, bias, heads), qkv, bias)
        return out, backward(grad)

    width = heads * head_width
    qkv, grad = array((ROWS, 3 * width, tokens), dtype), array((ROWS, width, tokens), dtype)
    jax.jit(both).lower(qkv, array((3 * width,), "float32"), grad).compile()


def main(argv: list[str]) -> None:
    topology, *sizes, dtype = argv
    tokens, heads, head_width = map(int, sizes)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIBTPU_INIT_ARGS"] = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
        _compile(topology, tokens, heads, head_width, dtype)
        cycles = {}
        for kernel in KERNELS:
            (found,) = pathlib.Path(folder).glob(f"*{kernel}*schedule-analysis_final_bundles.txt")
            cycles[kernel] = int(_BUNDLES.findall(found.read_text())[0])  # the schedule is that of one sample
    print(json.dumps(cycles))


if __name__ == "__main__":
    main(sys.argv[1:])
