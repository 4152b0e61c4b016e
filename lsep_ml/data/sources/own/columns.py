"""What each column of a table is, by its name and by what it holds."""

from lsep_ml.data.annotations import Reading
from lsep_ml.data.errors import DataError
from lsep_ml.data.sources.csv_table import AN_INDEX, NAMELESS, reason_to_leave_out
from lsep_ml.data.sources.own.folder import Folder
from lsep_ml.data.sources.own.frames import Frame
from lsep_ml.data.sources.own.label_columns import take_labels
from lsep_ml.data.sources.own.listed import Options
from lsep_ml.data.sources.own.paths import SPLIT_WORDS
from lsep_ml.data.sources.own.roles import (
    BEFORE_ID,
    GROUP_NAMES,
    IMAGE_NAMES,
    LABEL_NAMES,
    MAYBE_GROUPS,
    SPLIT_NAMES,
    VALIDATION_NAMES,
    Roles,
    bare_name,
    named,
    shown_names,
)
from lsep_ml.data.sources.own.values import SAMPLE, number, values_of
from lsep_ml.data.tree import has_image_suffix


def image_column(frame: Frame, folder: Folder, beside: str, options: Options) -> int | None:
    """Return the column that names images: by its name and by how many of its values are images here; None where none
    does.

    Raises:
        DataError: `data.image` names no column; several columns name different images.
    """
    if options.image is not None:
        return named(frame, options.image, "data.image")
    headless = next((name for name in frame.names if name and not folder.find([name], beside).missing), None)
    if headless is not None and has_image_suffix(headless):
        raise DataError(
            f"{frame.path}: no header: its first line names an image, {headless!r}; put a line with the columns' names "
            "above it, such as image,labels"
        )
    best: dict[int, tuple[int, int, int]] = {}
    first: dict[int, list[str]] = {}
    for at, name in enumerate(frame.names):
        values = frame.column(at).head(SAMPLE).drop_nulls()
        listed = [value for value in values.to_list() if value.strip()]
        if not listed:
            continue
        found = folder.find(listed, beside)
        if found.missing == len(listed) and listed[0].lstrip()[:1] in "[{":  # lists, not names
            continue
        rank = IMAGE_NAMES.index(bare_name(name)) if bare_name(name) in IMAGE_NAMES else len(IMAGE_NAMES)
        exact = found.exact > len(listed) / 2
        known = found.missing <= len(listed) / 2 and rank < len(IMAGE_NAMES)
        if (
            exact
            or known
            or (
                not found.missing and len(set(found.images)) == len(listed) > AN_INDEX and _no_numbers(listed)
            )
        ):
            best[at] = (2 if exact else 1, -rank, -at)
            first[at] = found.images
        elif rank < BEFORE_ID:
            best[at] = (0, -rank, -at)
    if not best:
        return None
    called = {at: score for at, score in best.items() if -score[1] < len(IMAGE_NAMES)} or best
    chosen = max(called, key=lambda at: called[at])
    # a number that is an image's name by chance is no rival of "image"
    certain = -called[chosen][1] < BEFORE_ID
    rivals = [
        at
        for at in called
        if called[at][0] == called[chosen][0] > 0
        and first[at] != first[chosen]
        and (not certain or -called[at][1] < BEFORE_ID)
    ]
    if rivals:
        raise DataError(
            f"{frame.path}: columns {shown_names(frame, [chosen, *rivals])} name different images; set "
            "data.image=NAME to one of "
            "them"
        )
    return chosen


def _no_numbers(values: list[str]) -> bool:
    return all(number(value) is None and "/" not in value for value in values)


def roles_of(frame: Frame, folder: Folder, beside: str, options: Options) -> Roles:
    """Return what each column is.

    Raises:
        DataError: an option that names no column; columns of which several could be the one, with their names; no
            column with labels; one without a name that is no index; two of one name.
    """
    image = image_column(frame, folder, beside, options)
    if image is None:
        raise DataError(
            f"{frame.path}: no column names images; there are {shown_names(frame, range(len(frame.names)))}; set "
            "data.image=NAME"
        )
    roles = Roles(image)
    if options.image is None:
        note = f"images: column {frame.names[image]!r} (data.image)"
        roles.notes.append(Reading(note) if bare_name(frame.names[image]) in IMAGE_NAMES else note)
    left = [at for at in _with_names(frame, roles) if at != image]
    _take_split(frame, roles, left, options)
    _take_group(frame, roles, left, options)
    take_labels(frame, roles, left, options)
    return roles


def _with_names(frame: Frame, roles: Roles) -> list[int]:
    """Return the columns with a name; of one without, a reason to leave it out, or a DataError."""
    kept = []
    for at, name in enumerate(frame.names):
        if not NAMELESS.fullmatch(name):
            kept.append(at)
            continue
        if at == roles.image:
            continue
        cells = [cell.strip() for cell in frame.column(at).fill_null("").to_list()]
        roles.notes.append(Reading(reason_to_leave_out(frame.path, at + 1, cells, frame.line)))
    twice = sorted(
        {frame.names[at] for at in kept if [frame.names[other] for other in kept].count(frame.names[at]) > 1}
    )
    if twice:
        raise DataError(f"{frame.path}: the column {twice[0]!r} is there twice; rename one")
    return kept


def _take_split(frame: Frame, roles: Roles, left: list[int], options: Options) -> None:
    if options.split == "none":
        return
    if options.split is not None:
        roles.split = named(frame, options.split, "data.split")
    else:
        called = [
            at for at in left if bare_name(frame.names[at]) in SPLIT_NAMES and _split_words(frame, at, 1)
        ]
        by_content = [
            at for at in left if bare_name(frame.names[at]) not in LABEL_NAMES and _split_words(frame, at, 2)
        ]
        found = called or by_content
        if len(found) > 1:
            raise DataError(
                f"{frame.path}: columns {shown_names(frame, found)} could be the split; set "
                "data.split=NAME, or data.split=none"
            )
        if found:
            roles.split = found[0]
            note = f"split: column {frame.names[found[0]]!r} (data.split; none for a split drawn here)"
            roles.notes.append(Reading(note) if called else note)
    if roles.split is not None:
        left.remove(roles.split)
        return
    marks = [at for at in left if bare_name(frame.names[at]) in VALIDATION_NAMES]
    values = values_of(frame.column(marks[0])) if marks else None
    if values is not None and values.kind == "values":
        roles.validation, roles.values[marks[0]] = marks[0], values
        left.remove(marks[0])
        roles.notes.append(
            Reading(
                f"split: column {frame.names[marks[0]]!r} marks the val images (data.split=none leaves it out)"
            )
        )


def _split_words(frame: Frame, at: int, least: int) -> bool:
    """Return whether most of what the column holds are words for splits, `least` of them different."""
    for rows in (SAMPLE, len(frame)):  # most columns are told from few rows
        seen = frame.column(at).head(rows).fill_null("").str.strip_chars().str.to_lowercase().unique()
        if len(seen) > 20:
            return False
    texts = [text for text in seen.to_list() if text]
    words = [SPLIT_WORDS[text] for text in texts if text in SPLIT_WORDS]
    return len(set(words)) >= least and (least == 1 or len(words) == len(texts))


def _take_group(frame: Frame, roles: Roles, left: list[int], options: Options) -> None:
    if options.group is not None:
        if options.group in frame.names:
            roles.group = frame.names.index(options.group)
            if roles.group in left:
                left.remove(roles.group)
        return

    def repeats(at: int) -> bool:
        return frame.column(at).n_unique() < len(frame)

    ranked = sorted(
        (at for at in left if bare_name(frame.names[at]) in GROUP_NAMES),
        key=lambda at: GROUP_NAMES.index(bare_name(frame.names[at])),
    )
    for at in ranked:
        if repeats(at) and roles.group is None:
            roles.group = at
            left.remove(at)
            roles.notes.append(Reading(f"groups: column {frame.names[at]!r} (data.group; none for none)"))
    maybe = [at for at in left if bare_name(frame.names[at]) in MAYBE_GROUPS and repeats(at)]
    if maybe and roles.group is None:
        roles.notes.append(
            f"column {frame.names[maybe[0]]!r} may say which images belong together: "
            f"data.group={frame.names[maybe[0]]} keeps "
            "them in one split"
        )
