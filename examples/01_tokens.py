# %% [markdown]
# # 1. What a model sees: tokens, ids, type ids, mask
#
# A model reads numbers. A tokenizer cuts a text into pieces of its vocabulary and gives the number of each.

# %% tags=["parameters"]
MODEL = "bert-base-cased"
TEXT = "The quick brown fox jumps over the lazy dog."
PAIR = "It did not even wake up."

# %%
from tunewright.pretrained.model_files import tokenizer_source
from tunewright.tokenizer_tools.show import show


def table(shown):
    """A line for each token: its id, type id, mask, and the part of the row it belongs to."""
    print(f"{'token':<12}{'id':>7}{'type':>6}{'mask':>6}  part")
    for token in shown.tokens:
        kind = "-" if token.type is None else token.type
        print(f"{token.token:<12}{token.id:>7}{kind:>6}{token.mask:>6}  {token.part}")


tokenizer = tokenizer_source(MODEL)
shown = show(tokenizer, TEXT)
table(shown)

# %% [markdown]
# `[CLS]` and `[SEP]` are added around the text. With a second text, the type ids tell the two apart.

# %%
table(show(tokenizer, TEXT, PAIR))

# %% [markdown]
# ## Padding
#
# The rows of a batch are made equally long. The mask is 0 where there is only padding, so that the model does not look there.
# Encoders usually pad on the right; decoders that write on from their last token are padded on the left.

# %%
for side in ("right", "left"):
    print(f"\npadding on the {side}")
    table(show(tokenizer, TEXT, max_length=16, padding="max_length", padding_side=side))

# %% [markdown]
# ## Truncation
#
# A row that is longer than `max_length` loses tokens, on the side that you choose. Special tokens always stay.

# %%
for side in ("right", "left"):
    cut = show(tokenizer, TEXT, max_length=8, truncation_side=side)
    print(f"cut on the {side}: {cut.decoded!r}, lost: {[token.token for token in cut.cut]}")
