"""``eqkernels descriptors``: features of structures to files, in blocks: memory does not grow with the structures."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

from eqkernels import SOAP, LambdaSOAP
from eqkernels.cli.console import Problem, check_output, counted, say

FORMATS = (".npz", ".parquet", ".mts")
_BYTES_PER_PART = 2**26


def describe(
    paths: list[Path],
    output: Path,
    irreps: str | None = None,
    per_atom: bool = False,
    parameters: dict[str, Any] | None = None,
) -> None:
    """Write SOAP features, or the blocks of LambdaSOAP for other irreps, to a file."""
    check_output(output)
    if output.suffix not in FORMATS:
        raise Problem(f"{output}: the name must end with {', '.join(FORMATS)}")
    blocks = irreps not in (None, "0e") or output.suffix == ".mts"
    if blocks and output.suffix == ".parquet":
        raise Problem("a table holds invariant features only: leave out --irreps, or write .npz or .mts")
    n_atoms, species = _first_pass(paths)
    shared = {**(parameters or {}), "center_species": species, "neighbor_species": species}
    if blocks:
        descriptor: Any = LambdaSOAP(irreps=irreps or "0e", **shared)
    else:
        descriptor = SOAP(aggregate=None if per_atom else "mean", **shared)
    descriptor.fit([next(_frames(paths))])
    parts = _parts(descriptor, paths, len(n_atoms))
    if output.suffix == ".mts":
        _write_metatensor(output, descriptor, paths)
    elif blocks:
        _write_npz(output, ((part.blocks, part) for part in parts), n_atoms)
    elif output.suffix == ".npz":
        names = {"feature_names": descriptor.get_feature_names_out().astype(str)}
        _write_npz(output, (({"features": part}, None) for part in parts), n_atoms, names)
    else:
        _write_parquet(output, parts, descriptor.get_feature_names_out(), n_atoms if per_atom else None)
    say(f"wrote {output}")


def _frames(paths) -> Iterator[Any]:
    for path in paths:
        if not path.exists():
            raise Problem(f"there is no file {path}")
        yield from ase.io.iread(path, ":")


def _first_pass(paths):
    """Atoms of each structure, and all species."""
    n_atoms, species = [], set()
    for atoms in counted(_frames(paths), "structures read"):
        n_atoms.append(len(atoms))
        species.update(atoms.numbers.tolist())
    if not n_atoms:
        raise Problem(f"there are no structures in {paths[0]}")
    say(f"{len(n_atoms)} structures, {sum(n_atoms)} atoms, {len(species)} species")
    return np.array(n_atoms), sorted(species)


def _parts(descriptor, paths, n_structures):
    """Features of consecutive structures."""
    frames = counted(_frames(paths), f"{n_structures} structures", n_structures)
    yield from descriptor.iter_transform(frames, _BYTES_PER_PART)


def _write_npz(output, parts, n_atoms, names=None):
    """Write the arrays of all parts joined, by way of files on the disk."""
    with tempfile.TemporaryDirectory(dir=output.parent) as folder, ExitStack() as opened:
        files: dict[str, Any] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for blocks, _ in parts:
            for key, block in blocks.items():
                if key not in files:
                    files[key] = opened.enter_context(open(Path(folder) / f"{key}.raw", "wb"))
                    shapes[key], dtype = (0, *block.shape[1:]), block.dtype
                files[key].write(np.ascontiguousarray(block))
                shapes[key] = (shapes[key][0] + len(block), *block.shape[1:])
        opened.close()
        with zipfile.ZipFile(output, "w") as archive:
            for key, value in {"n_atoms": n_atoms, **(names or {})}.items():
                with archive.open(f"{key}.npy", "w") as member:
                    np.lib.format.write_array(member, value, allow_pickle=False)
            for key, shape in shapes.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_2_0(member, header)
                    with open(Path(folder) / f"{key}.raw", "rb") as source:
                        while chunk := source.read(2**24):
                            member.write(chunk)


def _write_parquet(output, parts, names, n_atoms):
    """Write a table with a row for each structure, or for each atom."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Problem("parquet files need pyarrow: pip install 'eqkernels[cli]'") from None
    writer, first = None, 0
    columns: dict[str, Any]
    try:
        for part in parts:
            rows = np.arange(first, first + len(part))
            columns = {"structure": rows}
            if n_atoms is not None:
                ends = np.cumsum(n_atoms)
                structure = np.searchsorted(ends, rows, side="right")
                columns = {"structure": structure, "atom": rows - (ends - n_atoms)[structure]}
            columns |= {name: np.ascontiguousarray(part[:, k]) for k, name in enumerate(names)}
            filled = pyarrow.table(columns)
            if writer is None:
                writer = pyarrow.parquet.ParquetWriter(output, filled.schema, use_dictionary=False)
            writer.write_table(filled)
            first += len(part)
    finally:
        if writer is not None:
            writer.close()


def _write_metatensor(output, descriptor, paths):
    """Write a TensorMap, which metatensor does from memory."""
    features = descriptor.transform(list(_frames(paths)))
    features.to_metatensor().save(str(output))
