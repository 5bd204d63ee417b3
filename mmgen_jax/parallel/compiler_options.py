"""Options for the TPU compiler beyond its defaults. What they gain is in docs/tpu/performance.md."""

from __future__ import annotations

from dataclasses import dataclass

from jax.sharding import Mesh


@dataclass(frozen=True)
class Options:
    """Compiler options of one kind of program.

    Attributes:
      flags: flags for every kind of TPU.
      vmem: KiB of fast memory that one fusion may take, by kind of device, where that is not the default of 16 MiB
        (v6e: 32). Larger tiles read less from HBM, but leave less fast memory for transfers in the background.
    """

    flags: dict[str, str]
    vmem: dict[str, int]

    def on(self, mesh: Mesh) -> dict[str, str]:
        """Compiler options for the devices of a mesh; empty if they are not TPUs."""
        device = mesh.devices.flat[0]
        if device.platform != "tpu":
            return {}
        vmem = self.vmem.get(device.device_kind)
        return self.flags | ({"xla_tpu_scoped_vmem_limit_kib": str(vmem)} if vmem else {})


TRAINING = Options(
    # Runs all-gathers and all-reduces in the background of matrix multiplications (v5e does so by default for
    # all-gathers), and does not merge the sums of gradients into a few large ones, which would have to wait for the
    # last gradient.
    {
        "xla_enable_async_all_gather": "true",
        "xla_tpu_enable_async_collective_fusion_fuse_all_gather": "true",
        "xla_enable_async_all_reduce": "true",
        "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": "true",
        "xla_jf_crs_combiner_threshold_in_bytes": "1",
    },
    {"TPU v5 lite": 24576, "TPU v5": 32768, "TPU v5p": 32768, "TPU v6 lite": 65536},
)
SAMPLING = Options(
    # Without this, the compiler fuses both matrix multiplications of the MLP where nothing keeps the hidden layer, and
    # then computes the first one repeatedly.
    {"xla_tpu_dot_dot_fusion": "false"},
    {"TPU v5 lite": 32768, "TPU v5": 32768, "TPU v5p": 32768, "TPU v6 lite": 49152},
)
