"""What the TPU compiler is asked for, beyond its defaults. The gains are in docs/tpu-performance.md."""

from __future__ import annotations

from jax.sharding import Mesh

# Runs all-gathers and all-reduces behind products, as v5e does by default for the former; and does not merge sums into
# a few large ones, which would have to wait for the last gradient.
TRAINING = {
    "xla_enable_async_all_gather": "true",
    "xla_tpu_enable_async_collective_fusion_fuse_all_gather": "true",
    "xla_enable_async_all_reduce": "true",
    "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": "true",
    "xla_jf_crs_combiner_threshold_in_bytes": "1",
}
# Where nothing keeps the MLP's hidden layer, it makes one fusion of both products, and computes the first repeatedly.
SAMPLING = {"xla_tpu_dot_dot_fusion": "false"}
# Fast memory that one fusion may take, by kind of device: larger tiles read less. The default is 16 MiB, on v6e 32.
VMEM_KIB = {"TPU v5 lite": 32768, "TPU v5": 32768, "TPU v5p": 32768, "TPU v6 lite": 49152}


def for_mesh(mesh: Mesh, chosen: dict[str, str]) -> dict[str, str]:
    """Compiler options for a mesh: `chosen` and the fast memory on TPUs, none elsewhere."""
    device = mesh.devices.flat[0]
    if device.platform != "tpu":
        return {}
    vmem = VMEM_KIB.get(device.device_kind)
    return chosen | ({"xla_tpu_scoped_vmem_limit_kib": str(vmem)} if vmem else {})
