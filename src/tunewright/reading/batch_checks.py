"""A record batch of a file -> the same batch, after checking that offsets, lengths and indices stay within it.

    validated(batch)       the batch; pyarrow.ArrowInvalid where an offset points outside its data

Arrow trusts a file: following a damaged offset crashes the process. Nothing may read a batch before this check.
Texts that are not UTF-8 pass: the reader rejects their rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow

_MOST_ROWS = 2**31 - 1
"""More rows than this in one batch is a damaged count: some types (null, structs of nothing) hold any number of rows in no bytes."""


def validated(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """Raises pyarrow.ArrowInvalid before any memory outside the batch is read."""
    import pyarrow

    if batch.num_rows > _MOST_ROWS:
        raise pyarrow.ArrowInvalid(f"a batch claims {batch.num_rows:,} rows")
    batch.validate()  # as many values in each column as rows, each buffer large enough
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            _check(column)
        except pyarrow.ArrowInvalid as error:
            raise pyarrow.ArrowInvalid(f"column {name!r}: {error}") from None
    return batch


def _check(array: pyarrow.Array) -> None:
    """`array.validate(full=True)` without the check that texts are UTF-8."""
    import pyarrow

    array.validate()
    try:
        array.validate(full=True)
        return
    except pyarrow.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
    kind, types = array.type, pyarrow.types
    if types.is_string(kind):
        _as_bytes(array, pyarrow.binary())
    elif types.is_large_string(kind):
        _as_bytes(array, pyarrow.large_binary())
    elif types.is_string_view(kind):
        _as_bytes(array, pyarrow.binary_view())
    elif types.is_dictionary(kind):
        array.indices.validate(full=True)
        _check(array.dictionary)
        if len(array) > array.indices.null_count:
            _check_indices(array.indices, len(array.dictionary))
    elif types.is_struct(kind):
        for number in range(kind.num_fields):
            _check(array.field(number))
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind):
        _check_offsets(array)
        for part in (array.keys, array.items) if types.is_map(kind) else (array.values,):
            _check(part)
    elif types.is_fixed_size_list(kind):
        _check(array.values)
    elif isinstance(array, pyarrow.ExtensionArray):
        _check(array.storage)
    else:
        raise pyarrow.ArrowInvalid(f"a text is not UTF-8 within a column of {kind}")


def _as_bytes(array: pyarrow.Array, kind: pyarrow.DataType) -> None:
    import pyarrow

    pyarrow.Array.from_buffers(kind, len(array), array.buffers(), offset=array.offset).validate(full=True)


def _check_indices(indices: pyarrow.Array, num_values: int) -> None:
    import pyarrow
    import pyarrow.compute

    ends = pyarrow.compute.min_max(indices).as_py()
    if ends["min"] < 0 or ends["max"] >= num_values:
        raise pyarrow.ArrowInvalid(f"an index points outside of the {num_values} values of the dictionary")


def _check_offsets(array: pyarrow.Array) -> None:
    """Checks the offsets of lists, not their items."""
    import numpy
    import pyarrow

    offsets = array.offsets.to_numpy(zero_copy_only=False)
    within = len(array.keys) if pyarrow.types.is_map(array.type) else len(array.values)
    if len(offsets) and (offsets[0] < 0 or offsets[-1] > within or (numpy.diff(offsets) < 0).any()):
        raise pyarrow.ArrowInvalid("the offsets of its lists are broken")
