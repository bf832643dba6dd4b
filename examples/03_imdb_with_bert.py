# %% [markdown]
# # 3. Film reviews with BERT: is a review good or bad?
#
# Shuffle and pick 1,000 reviews, set 10 % aside, train, and look at accuracy and F1 after each epoch.

# %% tags=["parameters"]
MODEL = "bert-base-cased"
DATA = "hub:stanfordnlp/imdb"
NUM_ROWS = 1_000
EPOCHS = 6
MAX_LENGTH = 256
FOLDER = "runs/imdb"

# %%
import json

import tunewright as tw

run = tw.train(
    DATA,
    model=MODEL,
    data={"limit": {"train": NUM_ROWS}, "validation_ratio": 0.1, "test_ratio": 0, "max_length": MAX_LENGTH},
    train={"epochs": EPOCHS, "batch_size": 16},
    evaluate={"every": "epoch"},
    output=FOLDER,
)

# %% [markdown]
# `data.limit` takes a seeded random subset, so the same 1,000 rows come back every time. `metrics.jsonl` holds each evaluation.

# %%
records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
print(f"{'epoch':>6}{'loss':>10}{'accuracy':>10}{'F1':>10}")
for record in records:
    if record.get("split") == "validation":
        print(f"{record['epoch']:>6.1f}{record['loss']:>10.4f}{record['accuracy']:>10.4f}{record['f1_macro']:>10.4f}")

# %% [markdown]
# ## Underfitting and overfitting
#
# As long as both losses fall, the model is still learning: stopping there is **underfitting**. Where the training loss falls on and the
# validation loss rises, the model learns its rows by heart: **overfitting**. The run keeps the weights of its best evaluation.

# %%
highest = max(max(point["train_loss"], point["validation_loss"]) for point in run.history)
for point in run.history:
    for name in ("train_loss", "validation_loss"):
        print(f"epoch {point['epoch']:>4.1f} {name:<16}{'█' * round(50 * point[name] / highest)} {point[name]:.3f}")
best = min(run.history, key=lambda point: point["validation_loss"])
print(f"\nlowest validation loss: epoch {best['epoch']:.1f}")
print(run.verdict["kind"], "-", run.verdict["reason"], run.verdict["advice"])

# %%
print(run.metrics)
print(run.predict(["What a wonderful film.", "Two hours of my life that I will never get back."]))
