"""Any transform of MONAI or TorchIO as an augmenter, by name; names are checked when it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mriad.interfaces import Augmenter
from pydantic import Field, JsonValue

if TYPE_CHECKING:
    from mriad.interfaces import BatchFunction
    from mriad.vocabulary import Task


class Monai(Augmenter):
    """A transform of `monai.transforms`, sample by sample on the CPU.

    ```yaml
    augment:
      - {type: standard.monai, transform: RandAffined, arguments: {prob: 0.2, rotate_range: 0.26}}
      - {type: standard.monai, transform: RandGaussianNoised, arguments: {prob: 0.1, std: 0.1}}
    ```

    Give the name with or without the dictionary suffix. Spatial and crop/pad transforms move image, target,
    validity and field together: the image as asked (`mode`, default linear), soft targets linearly and then
    clamped to [0, 1], integer targets, validity and field by the nearest voxel. Every other transform sees
    the image only. MONAI's units are voxels and radians.

    Randomness follows from the sample's key alone; global generators are left as they were.

    Raises:
        ExperimentError: no such transform or argument, or MONAI refuses a value (`build`).
        DataError: the transform fails on a sample; transform and case are named.
    """

    type: Literal["standard.monai"] = "standard.monai"
    where: ClassVar[Literal["device", "worker"]] = "worker"
    transform: str = Field(description="Class name, such as RandGaussianNoised; array or dictionary form.")
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict, description="Keyword arguments of the class, without `keys`."
    )

    def build(self, task: Task) -> BatchFunction:
        """Return the callable; imports MONAI."""
        from mriad_standard.monai_adapter import MonaiAugmenter

        return MonaiAugmenter(self.transform, dict[str, Any](self.arguments), task.dimensions)


class TorchIO(Augmenter):
    """A transform of `torchio`, sample by sample on the CPU.

    ```yaml
    augment:
      - {type: standard.torchio, transform: RandomAffine, arguments: {scales: 0.1, degrees: 15}}
      - {type: standard.torchio, transform: RandomBiasField, arguments: {coefficients: 0.5, p: 0.3}}
    ```

    Image, target, validity and field form a subject whose affine has the sample's voxel size, so lengths are
    in mm. Spatial transforms move all of it: soft targets linearly and then clamped to [0, 1], integer
    targets, validity and field by the nearest voxel. Intensity transforms see the image only.

    Randomness follows from the sample's key alone; global generators are left as they were.

    Raises:
        ExperimentError: no such transform or argument, or TorchIO refuses a value (`build`).
        DataError: the transform fails on a sample; transform and case are named.
    """

    type: Literal["standard.torchio"] = "standard.torchio"
    where: ClassVar[Literal["device", "worker"]] = "worker"
    transform: str = Field(description="Class name, such as RandomAffine.")
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict, description="Keyword arguments of the class."
    )

    def build(self, task: Task) -> BatchFunction:
        """Return the callable; imports TorchIO."""
        from mriad_standard.torchio_adapter import TorchIOAugmenter

        return TorchIOAugmenter(self.transform, dict[str, Any](self.arguments))
