"""A split's store as a PyTorch map-style dataset, for loops that are not ours (`transformers.Trainer`, a plain DataLoader).

StoreDataset(store["train"])[0]     # {"input_ids": [101, 2023, …, 102], "labels": 3}
"""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from tunewright.tokens.store import SplitStore


class StoreDataset(Dataset):
    """Unpadded rows with Hugging Face names; `labels` as the task stored them."""

    def __init__(self, split: SplitStore) -> None:
        self.split = split
        self._labels = split.column("labels")

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, position: int) -> dict[str, Any]:
        row: dict[str, Any] = {"input_ids": self.split.input_ids(position).tolist()}
        types = self.split.token_type_ids(position)
        if types is not None:
            row["token_type_ids"] = types.tolist()
        row["labels"] = self._labels[position].as_py()
        return row
