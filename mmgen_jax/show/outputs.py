"""The result of a request for samples: values of every modality, and the files that show them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np
from etils import epath
from PIL import Image

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.files import Source, given_array
from mmgen_jax.modalities.measure import known
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.show import gallery, pictures, saved
from mmgen_jax.surfaces.reconstruction import Reconstruction, reconstruct
from mmgen_jax.system import files
from mmgen_jax.system.errors import UsageError, choice, shown

SHEET, GRID, GALLERY = "sheet.png", "grid.png", "gallery.html"
RECORD = "samples.json"  # of a folder that `sample_folder` writes


class Outputs(dict[str, np.ndarray]):
    """A dict modality -> values of all samples.

    rgb uint8 [n, H, W, 3]; depth float32 [n, H, W] in [0, 1], 1 = nearest; normal float32 unit vectors [n, H, W, 3];
    mask int32 region ids [n, H, W], or uint8 colours [n, H, W, 3] if the model's palette is empty.

    Attributes:
      given: names of the modalities that were given.
      facts: what the model's data set says of itself, such as the palette of its masks.
      caption: one line that says how the samples were made.
      rows: name of each sample.
      uncertainty: modality -> float32 [n, H, W], 0 = certain, of those that were drawn several times: the deviation
        of depth and of rgb (as a share of its range), degrees of normals, share of the draws with another region than
        the mask's. Where the model has been calibrated, times its factor.
      draws: modality -> values of all draws [n, K, ...] of the same ones.
      source: modality -> values of what was there before: where samples begin, or what their conditions were read from.
    """

    def __init__(
        self,
        values: Mapping[str, np.ndarray],
        given: Sequence[str],
        facts: Facts,
        caption: str = "",
        rows: Sequence[str] = (),
        uncertainty: Mapping[str, np.ndarray] | None = None,
        draws: Mapping[str, np.ndarray] | None = None,
        source: Mapping[str, np.ndarray] | None = None,
    ):
        super().__init__(values)
        self.given, self.facts, self.caption = tuple(given), facts, caption
        self.uncertainty, self.draws, self.source = dict(uncertainty or {}), dict(draws or {}), dict(source or {})
        self.rows = tuple(rows) or tuple(str(i) for i in range(len(next(iter(values.values())))))

    @classmethod
    def load(cls, folder: epath.PathLike, facts: Facts | None = None) -> Outputs:
        """Reads the samples that `save`, or the command `sample`, wrote to a folder.

        They are as they were, depth to its 16 bits and normals except for rounding. What was given, and how they were
        made, is not known.

        Args:
          folder: one with rgb_000.png and the like.
          facts: of the model, `model.architecture.facts`, whose palette makes region ids of the colours of masks;
            without it they stay colours, uint8 [n, H, W, 3].

        Raises UsageError for a folder without samples, and files that are missing, cannot be read or differ in size.
        """
        facts = Facts() if facts is None else facts
        found = saved.samples(files.path_of(folder, "folder"), facts)
        return cls(found.values, (), facts, "", found.rows, found.uncertainty, found.draws)

    @classmethod
    def joined(cls, parts: Sequence[Outputs], count: int) -> Outputs:
        """The first `count` samples of several outputs of one request."""
        first, rows = parts[0], [row for part in parts for row in part.rows]

        def joined(dicts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
            return {m: np.concatenate([part[m] for part in dicts])[:count] for m in dicts[0]}

        names = "uncertainty", "draws", "source"
        more = (joined([getattr(part, name) for part in parts]) for name in names)
        return cls(joined(parts), first.given, first.facts, first.caption, rows[:count], *more)

    def pictures(self, count: int | None = None) -> dict[str, np.ndarray]:
        """Pictures uint8 [n, H, W, 3] of the source and of each modality, each followed by that of its uncertainty.

        With a `count` they are those of the first samples.
        """
        columns = {f"{m} before": MODALITIES[m].picture(value[:count], self.facts) for m, value in self.source.items()}
        for m, value in self.items():
            columns |= {m: MODALITIES[m].picture(value[:count], self.facts)} | self._doubt(m, count)
        return {label: pictures.reduced(images) for label, images in columns.items()}

    def _doubt(self, m: str, count: int | None = None) -> dict[str, np.ndarray]:
        """The picture of a modality's uncertainty, if there is one; white is `Modality.doubtful` and more."""
        if m not in self.uncertainty:
            return {}
        heat = pictures.heat(self.uncertainty[m][:count] / MODALITIES[m].doubtful)
        return {f"{m} uncertainty": heat}

    def images(self, m: str) -> list[Image.Image]:
        """The pictures of a modality, of every sample, as Pillow has them. Raises UsageError for one that is not there.

        They are for looking at: 8 bits of depth and of normals, and regions in colours.
        """
        value = self[choice("modality", m, self)]
        return [Image.fromarray(picture) for picture in MODALITIES[m].picture(value, self.facts)]

    def scores(self, truth: Mapping[str, np.ndarray]) -> dict[str, float]:
        """How well what was made agrees with a truth, as each modality scores it, the mean over samples.

        Args:
          truth: modality -> values, in the formats of this class, NaN where they are not known; other outputs are.

        Returns:
          flat dict of rgb/psnr in dB, depth/l1, normal/mean in degrees, ..., of what is in `truth` and was not
          given.

        Raises UsageError for a truth that does not fit, or that has nothing of what was made.
        """
        self._check()
        found: dict[str, float] = {}
        for m in (m for m in self if m in truth and m not in self.given):
            value, wanted = self[m], given_array(truth[m], Source(f"{m} of the truth"))
            if wanted.shape != value.shape or (wanted.dtype.kind == "f") != (value.dtype.kind == "f"):
                raise Source(f"{m} of the truth").error(
                    f"is {wanted.dtype} {list(wanted.shape)}", f"{value.dtype} {list(value.shape)}, as the samples are"
                )
            try:
                scored = MODALITIES[m].score(value, wanted, {"": known(wanted)}, self.facts)
            except ValueError as error:  # numbers that the modality does not have, such as unknown region ids
                raise UsageError(f"{m}: {error}") from error
            found |= {f"{m}/{key}": average.value for key, average in scored.items()}
        if not found:
            made = [m for m in self if m not in self.given]
            raise UsageError(f"the truth has {', '.join(truth) or 'nothing'}; allowed: some of {', '.join(made)}")
        return found

    def __repr__(self) -> str:
        """The types and shapes, as thousands of numbers tell nobody anything."""
        parts = (f"{m} {getattr(value, 'dtype', '?')} {list(np.shape(value))}" for m, value in self.items())
        given = f"; given: {', '.join(self.given)}" if self.given else ""
        return f"Outputs({', '.join(parts)}{given})"

    def _repr_html_(self) -> str:
        """The first samples as one picture, which notebooks show."""
        return gallery.figure(self.section(gallery.GLANCE), len(self.rows))

    def sheet(self) -> np.ndarray:
        """One picture uint8 [height, width, 3] with a row for each sample; given modalities are framed."""
        return pictures.sheet(self.pictures(), given=self.given)

    def section(self, count: int | None = None) -> gallery.Section:
        """All samples, or the first `count`, as a section of a gallery."""
        return gallery.Section("Samples", self.pictures(count), self.caption, self.given, self.rows[:count])

    def comparison(
        self, truth: Mapping[str, np.ndarray], title: str = "Against the truth", errors: bool = True
    ) -> gallery.Section:
        """A section with the given modalities, and then prediction, truth and error of each other one in `truth`.

        Args:
          truth: modality -> values, in the formats of this class.
          title: title of the section.
          errors: whether errors are shown; they mean little if many answers are right. White is a depth error of 0.25,
            an rgb error of 25%, an angle of 45 degrees between normals, or a wrong region.
        """
        looks = self.pictures()
        columns = {m: looks[m] for m in self.given}
        for m in self:
            if m in truth and m not in self.given:
                columns[m] = looks[m]
                columns[f"{m} truth"] = MODALITIES[m].picture(truth[m], self.facts)
                if errors:
                    columns[f"{m} error"] = pictures.heat(MODALITIES[m].error(self[m], truth[m], self.facts))
                columns |= self._doubt(m)
        return gallery.Section(title, columns, self.caption, self.given, self.rows)

    def save(
        self, folder: epath.PathLike, title: str = "MMGen samples", sections: Sequence[gallery.Section] = ()
    ) -> list[str]:
        """Writes files of every sample and pictures of all samples; returns the names of the files.

        These are rgb_000.png; depth_000.png with 16 bits; normal_000.png and, with full precision, normal_000.npy;
        mask_000.png in colours and, if there is a palette, mask_ids_000.png with region ids; sheet.png with all
        modalities side by side; grid.png of rgb; and gallery.html. Each file is whole or not there. The gallery is
        written last, so if it is there, all files are. files.txt lists them. Of several draws there are also
        depth_uncertainty_000.npy, its picture, and depth_draws_000.npy [K, H, W], and the like of all that was made.

        Args:
          folder: is made if it does not exist. Files that were saved to it before are replaced or removed.
          title: title of the gallery.
          sections: more sections of the gallery.

        Raises UsageError for a folder of the sample command, whose samples would be replaced by others, for a place
        that cannot be written and for values that were changed to what they cannot be, and RunError for a disk that is
        full or fails. All but a failing disk is told before anything is written.
        """
        folder = files.path_of(folder, "folder")
        if (folder / RECORD).exists():
            raise UsageError(f"{folder} holds samples that {RECORD} describes; give another folder")
        files.check_place(folder, "folder", folder=True)
        self._check()
        made: dict[str, bytes] = {}
        for i in range(len(self.rows)):
            made |= self.files(i, i)
        made |= self._pages(title, sections)
        with files.writing("samples", folder):
            files.check_files(folder, made, "file")
            (folder / GALLERY).unlink(missing_ok=True)  # it says that all is there
            files.claim(folder, made)
            for name, data in made.items():
                files.write(folder / name, data)
        return list(made)

    def to_3d(self, fov: float | None = None) -> list[Reconstruction]:
        """Points and a mesh of each sample, from its depth, and guided by its normals if there are any.

        Each has `save("x.glb")`, `save("x.ply")` and `save("x.gif")`, and its text says what is known of the camera and
        of the depth. See `surfaces.reconstruction.reconstruct`.

        Args:
          fov: field of view of the width of the pictures, in degrees; None: that of the data set if it is known, else
            it is estimated.

        Raises UsageError for samples without depth, values that were changed to what they cannot be, and a field of
        view outside 1 to 170 degrees.
        """
        if "depth" not in self:
            raise UsageError(f"to_3d needs depth; the samples have {', '.join(self)}")
        self._check()
        used = {m: self[m] for m in ("depth", "normal", "rgb", "mask") if m in self}
        rows = ({m: value[i] for m, value in used.items()} for i in range(len(self.rows)))
        return [reconstruct(**row, fov=fov, facts=self.facts) for row in rows]

    def _check(self) -> None:
        """Raises UsageError for values that are not those of their modality, as the dict may be changed."""
        for m, value in self.items():
            choice("modality of the samples", m, MODALITIES)
            source = Source(f"{m} of the samples")
            array = given_array(value, source)
            if array.ndim < 3 or len(array) != len(self.rows):
                raise source.error(f"is {shown(value)}", f"{len(self.rows)} images, as there were")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise source.error("has numbers that are not finite", "finite ones")
            fit = MODALITIES[m].from_given(array, None, self.facts, source)
            if fit.shape != array.shape or (fit.dtype.kind == "f") != (array.dtype.kind == "f"):
                wanted = f"{fit.dtype} {list(fit.shape)}, which the same images are as values"
                raise source.error(f"is {array.dtype} {list(array.shape)}", wanted)

    def files(self, row: int, number: int) -> dict[str, bytes]:
        """Names, which have the sample's number, and contents of the files of one row."""
        made: dict[str, np.ndarray] = {}
        for m, value in self.items():
            made |= MODALITIES[m].files(value[row], self.facts)
        for m, value in self.uncertainty.items():
            contents = value[row], self._doubt(m)[f"{m} uncertainty"][row], self.draws[m][row]
            made |= dict(zip(_uncertain(m), contents, strict=True))
        return {file_name(name, number): _ENCODERS[PurePath(name).suffix](array) for name, array in made.items()}

    def show(self, folder: epath.PathLike, title: str, sections: Sequence[gallery.Section]) -> None:
        """Writes the pictures of all samples: sheet.png, grid.png of rgb, and gallery.html last; see `save`.

        Raises UsageError for a place that cannot be written, and RunError for a disk that is full or fails.
        """
        folder = files.path_of(folder, "folder")
        files.check_place(folder, "folder", folder=True)
        with files.writing("pictures", folder):
            for name, data in self._pages(title, sections).items():
                files.write(folder / name, data)

    def _pages(self, title: str, sections: Sequence[gallery.Section]) -> dict[str, bytes]:
        """Names and contents of the pictures of all samples, with the gallery as the last one."""
        made = {SHEET: pictures.png(self.sheet())}
        if "rgb" in self:
            made[GRID] = pictures.png(pictures.grid(pictures.reduced(self["rgb"])))
        return made | {GALLERY: gallery.page([self.section(), *gallery.checked(sections)], title)}


def file_name(name: str, number: int) -> str:
    """Name of a file of one sample: rgb_000.png of rgb.png."""
    path = PurePath(name)
    return f"{path.stem}_{number:03d}{path.suffix}"


def file_names(modalities: Sequence[str], facts: Facts, uncertain: Sequence[str] = ()) -> list[str]:
    """Names of the files that a sample of these modalities has, without its number: rgb.png, depth.png, ...

    `uncertain` are those that are drawn several times.
    """
    blank = {m: np.zeros((1, 1, MODALITIES[m].channels), np.float32) for m in modalities}
    names = [name for m, x in blank.items() for name in MODALITIES[m].files(MODALITIES[m].value(x, facts), facts)]
    return names + [name for m in uncertain for name in _uncertain(m)]


def _uncertain(m: str) -> tuple[str, str, str]:
    """Names of the files of a modality that was drawn several times: uncertainty, its picture, all draws."""
    return f"{m}_uncertainty.npy", f"{m}_uncertainty.png", f"{m}_draws.npy"


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


_ENCODERS = {".png": pictures.png, ".npy": _npy}
