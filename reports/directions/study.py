"""What the directions report studies: a denoiser, labelled images, a judge of attributes, and the contrasts asked.

    subject = Subject(denoiser, "mine", images, labels, attributes, scorer, sites, contrasts, conditions, draw_labels)

For your own model, write a function that returns a `Subject` and name it on the command line:
`scorescope report directions --subject my_package.my_module:make_subject`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sites.modules import find_site

Scores = Callable[[Tensor], dict[str, Tensor]]
MOST_DRAWN = 10  # times that twice as many labels are drawn, until enough know an attribute


@checked
@dataclass(frozen=True)
class Contrast:
    """Two values of one attribute: a direction leads from `low` to `high`.

    Attributes
    ----------
    attribute : str
        Its name.
    low, high : str
        The two values.
    """

    attribute: str
    low: str
    high: str

    def __str__(self) -> str:
        return f"{self.attribute}: {self.low} to {self.high}"


@displayed
@checked
@dataclass(frozen=True)
class Subject:
    """Everything that the report has to know of a model and its data.

    Attributes
    ----------
    denoiser : Denoiser
        The model: a `torch.nn.Module`, so that sites inside it can be named.
    name : str
        What figures and pages call it.
    images : Tensor, shape (n, *shape)
        Labelled images in the model's units, best not those it was trained on.
    labels : Tensor, shape (n, attribute), int64
        Value of each attribute; -1 where it is not known: the image is left out of what is asked of that attribute.
    attributes : mapping of str to sequence of str
        Names of each attribute's values, in the order of the labels' columns.
    scorer : callable
        Images to {attribute: (n, values) log-probabilities}: the judge of samples. May know more attributes than
        the labels (a nuisance); those are judged as off-target.
    sites : sequence of str
        Inner modules to look at.
    contrasts : sequence of Contrast
        What is asked, the first one in most detail.
    conditions : callable
        Labels (n, attribute) to what the denoiser takes as condition.
    draw_labels : callable
        Number of samples to labels, in an order that treats values alike; -1 for an attribute that cannot be named
        beside the others.
    pairs : callable, optional
        Labels to images (n, *shape) that show them and are alike in everything else, whatever the labels: makes
        counterfactual pairs. Where there is none, what needs pairs is left out.
    told : sequence of str, optional
        Attributes that the condition names, in the order of its tokens; None means all, in the order of the labels.
        The others can be read and steered, but no condition can be switched, and nothing is asked about information.
    source : str
        Where the weights come from, for the manifest.
    groups : Tensor, shape (n,), int64, optional
        Images with the same number are not independent (they began with the same noise, say): all are on the same side
        of every split.
    pictures : callable, optional
        Images to what can be shown, (n, channel, y, x) in [-1, 1]; by default they can be shown themselves.
    masks : mapping of str to Tensor, each of shape (n, y, x)
        Regions of the images as they are shown, by name, from 0 to 1; none where nobody knows them.
    images_are : str
        What the labelled images are, for captions.
    labels_are : str
        How a sentence says that an image is read as its label has it.
    left_out : mapping of str to str
        Sections that cannot apply, by their name in the report, and why not.
    batch : int
        Samples a call of the denoiser.
    loaded_as : str
        What `load_subject` was given, which makes the same subject again; empty for one made, or changed, otherwise.
    """

    denoiser: Denoiser
    name: str
    images: Tensor
    labels: Tensor
    attributes: Mapping[str, Sequence[str]]
    scorer: Callable[[Tensor], Mapping[str, Tensor]]
    sites: Sequence[str]
    contrasts: Sequence[Contrast]
    conditions: Callable[[Tensor], Condition]
    draw_labels: Callable[[int], Tensor]
    pairs: Callable[[Tensor], Tensor] | None = None
    told: Sequence[str] | None = None
    source: str = ""
    groups: Tensor | None = None
    pictures: Callable[[Tensor], Tensor] = lambda images: images
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    images_are: str = "real images"
    labels_are: str = "right"
    left_out: Mapping[str, str] = field(default_factory=dict)
    batch: int = 64  # larger ones leave the processor's cache
    loaded_as: str = field(default="", init=False, compare=False)  # `replace` does not carry it over

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.images), len(self.attributes)):
            found = f"shape {tuple(self.labels.shape)}"
            raise InputError("labels", found=found, expected=f"({len(self.images)}, {len(self.attributes)})")
        if self.groups is not None and self.groups.shape != (len(self.images),):
            raise InputError("groups", found=f"shape {tuple(self.groups.shape)}", expected=f"({len(self.images)},)")
        for site in self.sites:
            find_site(self.denoiser, site)
        for contrast in self.contrasts:
            self.values(contrast)
        for attribute in self.told or ():
            self.column(attribute)
        if not self.contrasts or not self.sites:
            raise InputError("sites, contrasts", found="none", expected="at least one of each")

    def column(self, attribute: str) -> int:
        """Column of an attribute in the labels."""
        if attribute not in self.attributes:
            raise InputError("attribute", found=repr(attribute), expected=f"one of {', '.join(self.attributes)}")
        return list(self.attributes).index(attribute)

    def values(self, contrast: Contrast) -> tuple[int, int]:
        """Label values of a contrast's two ends."""
        names = list(self.attributes[list(self.attributes)[self.column(contrast.attribute)]])
        for value in (contrast.low, contrast.high):
            if value not in names:
                raise InputError("contrast", found=f"{contrast.attribute}={value!r}", expected=f"one of {names}")
        return names.index(contrast.low), names.index(contrast.high)

    def is_told(self, attribute: str) -> bool:
        """Whether the condition names an attribute."""
        return self.told is None or attribute in self.told

    @property
    def token_names(self) -> list[str]:
        """The attributes that the condition names, in the order of its tokens."""
        return list(self.attributes if self.told is None else self.told)

    def rows(self, contrast: Contrast) -> tuple[Tensor, Tensor]:
        """Images that show one end of a contrast, and their binary labels: 1 at its high end."""
        found = self.labels[:, self.column(contrast.attribute)]
        low, high = self.values(contrast)
        rows = ((found == low) | (found == high)).nonzero()[:, 0]
        return rows, (found[rows] == high).long()

    def set_to(self, labels: Tensor, contrast: Contrast, *, high: bool) -> Tensor:
        """Labels with the contrast's attribute set to one of its ends."""
        return self.with_value(labels, contrast.attribute, self.values(contrast)[int(high)])

    def with_value(self, labels: Tensor, attribute: str, value: int) -> Tensor:
        """Labels with one attribute set to one value."""
        column = self.column(attribute)
        if (labels[:, column] < 0).any():
            raise InputError("labels", found=f"some without {attribute}", expected=f"labels that know {attribute}")
        changed = labels.clone()
        changed[:, column] = value
        return changed

    def drawn(self, count: int, contrast: Contrast) -> Tensor:
        """Labels of `count` samples that the contrast can be asked of: drawn ones that know its attribute."""
        column = self.column(contrast.attribute)
        for more in range(MOST_DRAWN):
            labels = self.draw_labels(count << more)
            known = labels[labels[:, column] >= 0]
            if len(known) >= count:
                return known[:count]
        raise InputError("draw_labels", found=f"no labels that know {contrast.attribute}", expected="some of each")

    def opened(self, labels: Tensor, contrast: Contrast) -> Tensor:
        """Labels with the contrast's attribute left open: its null value, where the condition names it at all."""
        if not self.is_told(contrast.attribute):
            return labels
        return self.with_value(labels, contrast.attribute, len(self.attributes[contrast.attribute]))

    def ends(self, labels: Tensor, contrast: Contrast) -> tuple[Condition, Condition]:
        """Conditions that name the low and the high end of a contrast, and else what the labels say."""
        low, high = (self.conditions(self.set_to(labels, contrast, high=end)) for end in (False, True))
        return low, high

    def scores(self, contrasts: Sequence[Contrast] | None = None) -> Scores:
        """Images to log-odds of each contrast's high end against its low end, by attribute.

        An attribute that only the scorer knows is judged by its last value against its first.
        """
        asked = self.contrasts if contrasts is None else contrasts
        ends = {contrast.attribute: self.values(contrast) for contrast in asked}

        def score(images: Tensor) -> dict[str, Tensor]:
            found = self.scorer(images)
            others = {name: (0, -1) for name in found if name not in self.attributes}
            pairs = {**ends, **others}
            return {name: found[name][:, high] - found[name][:, low] for name, (low, high) in pairs.items()}

        return score

    def presence(self, contrast: Contrast) -> Scores:
        """Images to the log-odds of the contrast's high end against all other values."""
        high = self.values(contrast)[1]

        def score(images: Tensor) -> dict[str, Tensor]:
            found = self.scorer(images)[contrast.attribute]
            rest = [value for value in range(found.shape[1]) if value != high]
            return {contrast.attribute: found[:, high] - found[:, rest].logsumexp(1)}

        return score


def site_name(site: str) -> str:
    """A site without what all sites of the shipped models have in front."""
    return site.removeprefix("network.")
