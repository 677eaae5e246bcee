import gzip

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from eqkernels.io import read, read_files


@pytest.fixture
def path(tmp_path):
    ase.io.write(tmp_path / "a.xyz", [molecule("H2O"), molecule("CH4")])
    return tmp_path / "a.xyz"


def test_zero_cells_stay_as_they_are(tmp_path):
    (tmp_path / "a.xyz").write_text(
        '1\nLattice="0 0 0 0 0 0 0 0 0" Properties=species:S:1:pos:R:3 mu="0.0 0.0 1.5"\nH 0 0 0\n'
    )
    (atoms,) = read(tmp_path / "a.xyz", "dipole").frames
    assert atoms.pbc.all()
    assert not atoms.cell.any()


def test_names_with_an_at_sign_and_compressed_files(tmp_path, path):
    (tmp_path / "b@1.xyz").write_text(path.read_text())
    assert len(read_files(tmp_path / "b@1.xyz")[0].frames) == 2
    (tmp_path / "a.xyz.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert len(read_files(tmp_path / "a.xyz.gz")[0].frames) == 2
    (tmp_path / "a.dat").write_text(path.read_text())
    with pytest.raises(ValueError, match="a.dat cannot be read as .*format='extxyz'"):
        read_files(tmp_path / "a.dat")
    assert len(read_files(tmp_path / "a.dat", format="extxyz")[0].frames) == 2


def test_what_cannot_be_read(tmp_path, path):
    with pytest.raises(FileNotFoundError, match="no file or directory .*missing.xyz"):
        read_files(tmp_path / "missing.xyz")
    (tmp_path / "empty.xyz").touch()
    with pytest.raises(ValueError, match="empty.xyz is empty"):
        read_files(tmp_path / "empty.xyz")
    (tmp_path / "blank.xyz").write_text("\n")
    with pytest.raises(ValueError, match="blank.xyz"):
        read_files(tmp_path / "blank.xyz")
    (tmp_path / "cut.xyz").write_text(path.read_text()[:-60])
    with pytest.raises(ValueError, match="cut.xyz, structure 1 cannot be read as extxyz"):
        read_files(tmp_path / "cut.xyz")
    (tmp_path / "row.xyz").write_text(path.read_text() + "1\n\nH 0 abc 0\n")
    with pytest.raises(ValueError, match="row.xyz, structure 2 cannot be read as extxyz .*'abc'.*: correct the file"):
        read_files(tmp_path / "row.xyz")
    with pytest.raises(ValueError, match="is a directory without a system of DeePMD-kit.*name the files in it"):
        read_files(tmp_path)
    with pytest.raises(ValueError, match="a.xyz cannot be read as nonsense"):
        read_files(path, format="nonsense")
    with pytest.raises(TypeError, match="find_targets"):
        read_files([molecule("H2O")])
    with pytest.raises(ValueError, match="empty list"):
        read_files([])


@pytest.mark.parametrize("index", [2, "7", -3, "5:", slice(0, 0)])
def test_index_beyond_the_last_frame(path, index):
    with pytest.raises(ValueError, match="a.xyz has no structure at index="):
        read_files(path, index)


@pytest.mark.parametrize("index", ["all", "a:b", "1:2:3:4", None, True, 1.5, "name=water"])
def test_index_that_is_none(path, index):
    with pytest.raises(ValueError, match="must be an integer or a slice"):
        read_files(path, index)


def test_a_database_beyond_its_end(tmp_path):
    ase.io.write(tmp_path / "a.db", [molecule("H2O")])
    with pytest.raises(ValueError, match="a.db has 1 structures, of which index='3:' picks none"):
        read_files(tmp_path / "a.db", "3:")
    assert np.ndim(read_files(tmp_path / "a.db")[0].frames[0].positions) == 2
