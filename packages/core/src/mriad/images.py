"""NIfTI files in and out: every voxel that mriad reads from or writes to an image file passes here.

Sizes are checked against the file before anything is allocated, and no more is decompressed than the header
claims; what is written lies in the grid of a given file or `Grid` and is renamed into place when complete. nibabel
is imported when it is first needed.
"""

from __future__ import annotations

import gzip
import importlib
import io
import math
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mriad.atomic import atomic_file
from mriad.errors import DataError, ShapeError, StorageError
from mriad.filehash import file_sha256
from mriad.geometry import Grid
from mriad.inflate import inflate
from mriad.memory import memory_bytes, readable_bytes
from mriad.vocabulary import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

Form = Literal["float32", "uint8_scaled", "labels"]
"""How voxels are stored: soft float32; soft uint8 with NIfTI scaling 1/255; hard uint8 or uint16."""

_DEFLATE_LIMIT = 1032  # no deflate stream expands by more than this factor (zlib's documentation)
_ENDINGS = (".nii", ".nii.gz")
_BROKEN = (OSError, EOFError, ValueError, zlib.error, OverflowError, MemoryError)


@dataclass(frozen=True)
class FileSource:
    """A NIfTI file as a source of voxels.

    `stacked`: a fourth axis holds structures (soft labels), and `read` gives (S, X, Y, Z); otherwise an image
    must be 3D, or 4D with one time point.
    """

    path: str
    stacked: bool = False

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file's bytes; remembered while size, time and inode stay."""
        return file_sha256(self.path)

    @property
    def location(self) -> str:
        """The path."""
        return self.path

    def read(self) -> Volume:
        """Return the voxels; see `read_volume`."""
        return read_volume(self.path, stacked=self.stacked)


def read_grid(path: Path | str, stacked: bool = True) -> Grid:
    """Return shape and affine from the header alone; `stacked` accepts a fourth axis.

    Raises:
        DataError: missing, not a NIfTI, no usable affine, or a header that claims more than the file holds.
    """
    return _grid(path, _open(path), stacked)


def read_volume(path: Path | str, stacked: bool = False) -> Volume:
    """Read a NIfTI file.

    Integers stay integers where the header does not scale; scaled values are float32. The shape is (X, Y, Z),
    or (S, X, Y, Z) of a 4D file if `stacked`. A 4D file with one time point counts as 3D.

    Raises:
        DataError: missing, truncated, damaged, not a NIfTI, larger than the memory, 4D where 3D is meant, or values
            that are NaN or infinite.
    """
    image = _open(path)
    grid = _grid(path, image, stacked)
    _require_memory(path, image)
    try:
        data = _voxels(Path(path), image)
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    if data.ndim > 3:
        data = data.reshape(*grid.shape, -1)
        data = np.moveaxis(data, 3, 0) if stacked else data[..., 0]
    if not (np.issubdtype(data.dtype, np.integer) or np.issubdtype(data.dtype, np.floating)):
        raise DataError(
            "voxels are not real numbers",
            where={"file": str(path), "data type": str(data.dtype), "expected": "an integer or float NIfTI"},
        )
    # NIfTI may be big-endian; torch and scipy want the machine's own order.
    data = data.astype(data.dtype.newbyteorder("="), copy=False)
    if np.issubdtype(data.dtype, np.floating) and not np.isfinite(data).all():
        bad = int(np.count_nonzero(~np.isfinite(data)))
        raise DataError(
            "the image holds values that are NaN or infinite",
            where={"file": str(path), "voxels": f"{bad} of {data.size}", "expected": "finite numbers"},
            remedy="repair or mask the file; mriad does not guess what belongs there",
        )
    return Volume(data, grid)


def _voxels(path: Path, image: Any) -> NDArray[Any]:
    """The voxels as the header scales them, in the order of the file: the first axis runs fastest."""
    proxy = image.dataobj
    shape, dtype, offset = proxy.shape, proxy.dtype, int(proxy.offset)
    scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
    if path.name.endswith(".gz"):
        raw = inflate(path, offset + math.prod(shape) * dtype.itemsize)
        if not scaled:
            return np.frombuffer(raw, dtype, offset=offset).reshape(shape, order="F")
        kind = importlib.import_module("nibabel.arrayproxy").ArrayProxy
        proxy = kind(io.BytesIO(raw.data), (shape, dtype, offset, proxy.slope, proxy.inter))
    return np.asarray(proxy, dtype=np.float32) if scaled else np.asarray(proxy.get_unscaled())


def _require_memory(path: Path | str, image: Any) -> None:
    """Refuse what cannot be held: a gzip file may well expand to what its header claims, a thousandfold."""
    needed, there = math.prod(image.shape) * image.get_data_dtype().itemsize, memory_bytes()
    if there is not None and needed > there:
        raise DataError(
            "the image is larger than the memory of this machine",
            where={
                "file": str(path),
                "header claims": f"{'×'.join(map(str, image.shape))} voxels, {readable_bytes(needed)}",
                "memory": readable_bytes(there),
            },
            remedy="if that is not its size, the header is damaged: copy or export the file again",
        )


def _open(path: Path | str) -> Any:
    """Open a NIfTI file lazily and check what its header claims."""
    nib = _nibabel()
    path = Path(path)
    try:
        there, is_file = path.exists(), path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise DataError(
            "a file cannot be opened", where={"file": str(path), "reason": error.strerror or str(error)}
        ) from error
    if not is_file:
        raise DataError(
            "a file is meant, not a folder" if there else "there is no such file", where={"file": str(path)}
        )
    if not path.name.endswith(_ENDINGS):
        raise DataError(
            "this is not a NIfTI file by its name",
            where={"file": str(path), "expected": "a name that ends in .nii or .nii.gz"},
            remedy="convert it first, for example with dcm2niix or nibabel",
        )
    try:
        image = nib.load(path)
        shape = tuple(int(n) for n in image.shape)
        itemsize, offset = image.get_data_dtype().itemsize, int(image.dataobj.offset)
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, *_BROKEN) as error:
        raise _unreadable(path, error) from error
    _check_size(path, shape, math.prod(shape) * itemsize + offset)
    return image


def _nibabel() -> Any:
    """nibabel, imported late (it costs a quarter of a second) and untyped."""
    return importlib.import_module("nibabel")


def _check_size(path: Path, shape: tuple[int, ...], claimed: int) -> None:
    """Refuse a header that claims more voxels than the file can hold, before they are allocated."""
    packed = path.name.endswith(".gz")
    actual = path.stat().st_size
    most = actual * _DEFLATE_LIMIT if packed else actual
    if min(shape, default=0) < 1 or claimed > most:
        raise DataError(
            "the file is truncated, or its header is damaged",
            where={
                "file": str(path),
                "header claims": f"{'×'.join(map(str, shape))} voxels, {claimed} bytes",
                "file has": f"{actual} bytes" + (" (compressed)" if packed else ""),
            },
            remedy="copy or export the file again",
        )


def _unreadable(path: Path | str, error: Exception) -> DataError:
    return DataError(
        "the file is truncated or not a NIfTI image",
        where={"file": str(path), "reason": " ".join(str(error).split()) or type(error).__name__},
        remedy="copy or export the file again; `nib-ls FILE` shows what its header says",
    )


def _grid(path: Path | str, image: Any, stacked: bool) -> Grid:
    shape = tuple(int(n) for n in image.shape)
    extra = math.prod(shape[3:])
    if len(shape) < 3 or (extra > 1 and not (stacked and len(shape) == 4)):
        raise DataError(
            f"a 3D image is meant, but the file is {len(shape)}D",
            where={
                "file": str(path),
                "shape": "×".join(map(str, shape)),
                "expected": "X×Y×Z, or a fourth axis of length 1",
            },
            remedy="split it into one file a channel or time point, and name each as a channel",
        )
    _require_voxel_size(path, image)
    try:
        grid = Grid.of(shape[:3], image.affine)
        _compare_forms(path, image.header, grid)
        return grid
    except ValueError as error:
        raise DataError(
            "the header has no usable affine",
            where={"file": str(path), "reason": str(error)},
            remedy="repair qform and sform; without them voxels have no place",
        ) from error


def _require_voxel_size(path: Path | str, image: Any) -> None:
    """Refuse a voxel size of 0 where nothing else gives it; nibabel would make it 1 mm. Of a negative one the size
    is meant (NIfTI-1 standard: positive), which nibabel takes.
    """
    if int(image.header["sform_code"]) > 0:
        return
    with image.file_map["image"].get_prepare_fileobj("rb") as file:
        stored = type(image.header).from_fileobj(file, check=False)["pixdim"][1:4]
    if not np.all(np.isfinite(stored) & (stored != 0)):
        raise DataError(
            "the header has no voxel size",
            where={
                "file": str(path),
                "pixdim": " × ".join(f"{float(v):g}" for v in stored) + " mm",
                "expected": "a size above 0 along each axis, or an sform",
            },
            remedy="export the file again, or set the size that you know",
        )


def _compare_forms(path: Path | str, header: Any, grid: Grid) -> None:
    """Warn where sform and qform place a voxel more than half a voxel apart; the NIfTI standard allows both.

    nibabel uses the sform where its code is set, and so does mriad.
    """
    if int(header["qform_code"]) <= 0 or int(header["sform_code"]) <= 0:
        return
    apart = Grid.of(grid.shape, header.get_qform()).distance(grid)
    if apart > 0.5 * min(grid.spacing):
        warnings.warn(
            f"{path}: sform and qform differ by up to {apart:.3g} mm; the sform is used "
            f"(codes: sform {int(header['sform_code'])}, qform {int(header['qform_code'])})",
            RuntimeWarning,
            stacklevel=4,
        )


def write_like(
    path: Path | str,
    data: NDArray[Any],
    like: Path | str | Grid,
    form: Form = "float32",
    overwrite: bool = False,
) -> Path:
    """Write voxels as NIfTI in the grid of `like`: affine, qform and sform with their codes, units.

    Args:
        path: ends in .nii or .nii.gz. Equal voxels give equal bytes (no time stamp in the gzip header).
        data: (X, Y, Z), or (S, X, Y, Z), which becomes a 4D file.
        like: the file whose grid is taken over, or a `Grid`. Descriptions and extensions of the file (they
            may name the person) are not copied.
        form: "float32"; "uint8_scaled" for values in [0, 1], stored as 0..255 with slope 1/255, so within
            1/510; "labels" for whole numbers, stored as uint8 or uint16 with the NIfTI intent "label".
        overwrite: replace an existing file; otherwise it is left and an error raised.

    Raises:
        ShapeError: `data` does not have the shape of the grid.
        DataError: values do not fit `form`.
        StorageError: the place is full or cannot be written, or the file is there already.
    """
    nib = _nibabel()
    path = Path(path)
    if not path.name.endswith(_ENDINGS):
        raise StorageError("an image needs a name that ends in .nii or .nii.gz", where={"path": str(path)})
    if not overwrite and path.exists():
        raise StorageError(
            "the file is there already, and nothing is overwritten unless asked",
            where={"path": str(path)},
            remedy="choose another name, or remove the file",
        )
    grid = like if isinstance(like, Grid) else read_grid(like)
    if data.ndim not in (3, 4) or tuple(data.shape[-3:]) != grid.shape:
        raise ShapeError(
            "the voxels do not fit the grid that they shall be written on",
            where={"voxels": "×".join(map(str, data.shape)), "grid": grid.describe(), "path": str(path)},
        )
    stored = _stored(data, form)
    stored = np.moveaxis(stored, 0, 3) if stored.ndim == 4 else stored
    reference = nib.Nifti1Image(stored, grid.matrix) if isinstance(like, Grid) else _open(like)
    kind = nib.Nifti2Image if isinstance(reference, nib.Nifti2Image) else nib.Nifti1Image
    image = kind(stored, reference.affine, _clean_header(reference.header, stored.dtype, kind))
    if isinstance(like, Grid):
        image.set_qform(grid.matrix, code=1)
        image.set_sform(grid.matrix, code=1)
        image.header.set_xyzt_units("mm")
    if form == "labels":
        image.header.set_intent("label")
    if form == "uint8_scaled":
        # After the image is built: a slope in a header given to the constructor is dropped by nibabel 5.4.
        image.header.set_slope_inter(1 / 255, 0)
    with atomic_file(path) as temporary, temporary.open("wb") as raw:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(raw)
    return path


def _clean_header(header: Any, dtype: Any, kind: Any) -> Any:
    """The geometry and units of a header; nothing that describes the old voxels or names a person."""
    clean = kind.header_class.from_header(header, check=False).copy()
    clean.extensions.clear()
    clean.set_data_dtype(dtype)
    clean.set_slope_inter(None, None)
    clean.set_intent("none")
    for text in ("descrip", "aux_file", "db_name"):
        if text in clean:
            clean[text] = b""
    for number in (
        "cal_min",
        "cal_max",
        "toffset",
        "slice_code",
        "slice_start",
        "slice_end",
        "slice_duration",
    ):
        clean[number] = 0
    return clean


def _stored(data: NDArray[Any], form: Form) -> NDArray[Any]:
    """Voxels in the data type of the file."""
    if form == "float32":
        return data.astype(np.float32, copy=False)
    low, high = float(data.min(initial=0)), float(data.max(initial=0))
    where = {"values": f"{low:g} to {high:g}"}
    if form == "uint8_scaled":
        if low < -1e-3 or high > 1 + 1e-3:
            raise DataError("soft values lie outside [0, 1]", where=where)
        scaled: NDArray[Any] = np.rint(np.clip(data, 0, 1) * 255).astype(np.uint8)
        return scaled
    whole = np.issubdtype(data.dtype, np.integer) or bool((data == np.rint(data)).all())
    if not whole or low < 0 or high > 65535:
        raise DataError("labels must be whole numbers from 0 to 65535", where=where)
    return data.astype(np.uint8 if high <= 255 else np.uint16)
