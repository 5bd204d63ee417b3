"""Options for the TPU compiler beyond its defaults. docs/tpu/performance.md shows how much time they save."""

from __future__ import annotations

from dataclasses import dataclass

from jax.sharding import Mesh


@dataclass(frozen=True)
class Options:
    """Compiler options of one kind of program.

    Attributes:
      flags: flags for every kind of TPU.
      vmem: KiB of fast memory that one fusion may use, by kind of device. Other kinds keep the default of 16 MiB (v6e:
        32 MiB). Larger tiles read less from HBM, but leave less fast memory for transfers in the background.
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
    # These flags run all-gathers and all-reduces in the background of matrix multiplications (for all-gathers, v5e does
    # so by default). The last one keeps the sums of gradients apart; merged into a few large sums, they would have to
    # wait for the last gradient.
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
    # Without this flag, the compiler fuses both matrix multiplications of the MLP when the hidden layer is not kept for
    # a backward pass, and then computes the first one repeatedly.
    {"xla_tpu_dot_dot_fusion": "false"},
    {"TPU v5 lite": 32768, "TPU v5": 32768, "TPU v5p": 32768, "TPU v6 lite": 49152},
)
